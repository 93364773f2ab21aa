"""Commands for jobs on a cluster: submit, list, logs, stop."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import click

from cluster.cli.common import INCOMPLETE, RequestError, command, console, emit, open_store
from cluster.cli.hours import When, with_hours
from cluster.cli.running import log_option, queue_option, workers_option
from cluster.cli.several import expand_specs
from cluster.cli.submitting import (
    Submission,
    follow_job,
    judged,
    last_job,
    server_at,
    submit_sweeps,
    with_submission,
)

head_option = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    default="http://127.0.0.1:8265",
    show_default=True,
    metavar="URL",
    help="Of the head's dashboard. It listens on loopback; `ray dashboard` makes a tunnel to it.",
)


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@head_option
@click.option("--store", metavar="URL", help="The same on every machine; the spec's own by default.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key in every cell.")
@workers_option
@queue_option
@log_option
@with_hours
@with_submission
@command
def submit(
    specs: tuple[str, ...],
    address: str,
    store: str | None,
    settings: tuple[str, ...],
    workers: int | None,
    queue: str | None,
    log_format: str,
    when: When,
    submission: Submission,
    as_json: bool,
) -> int:
    """Run SPEC on a cluster, as a job of its own that needs this machine no more.

    Specs, store and cluster are checked first. Code is uploaded; weights go through the store. The job is
    called SWEEP-aN, N being the attempt; `sdesweep resume SWEEP --address URL` submits the next one. Several
    specs form one queue on the same workers, the one with the highest `priority` first.

    \b
    Examples:
      sdesweep submit digits-demo --store /shared/runs --address http://127.0.0.1:8265 --follow
      sdesweep submit urgent.yaml large.yaml --store /shared/runs
    """
    sweeps = expand_specs(specs, settings, store)
    opened = open_store(sweeps[0].store)
    name = queue or sweeps[0].name
    return submit_sweeps(opened, sweeps, name, address, workers, when, log_format, submission, as_json)


@click.command("list")
@head_option
@command
def list_jobs(address: str, as_json: bool) -> None:
    """List the jobs of this project that a cluster remembers, with how they stand.

    \b
    Example:
      sdesweep list --address http://127.0.0.1:8265
    """
    from rich.table import Table

    from cluster.submission import MARK, STORE

    jobs = [job for job in server_at(address).all() if MARK in job.metadata]
    if as_json:
        emit({"jobs": [dataclasses.asdict(job) for job in jobs]})
        return
    table = Table(box=None, pad_edge=False)
    for header in ("job", "status", "began", "ended", "sweeps", "store"):
        table.add_column(header, no_wrap=header in ("job", "status", "began", "ended"), overflow="fold")
    for job in jobs:
        times = (_time(job.started), _time(job.ended))
        table.add_row(job.id, job.status, *times, job.metadata[MARK], job.metadata.get(STORE, ""))
    console().print(table)


@click.command()
@click.argument("name")
@head_option
@click.option("--follow", is_flag=True, help="Go on until the job is over, through lost connections.")
@command
def logs(name: str, address: str, follow: bool, as_json: bool) -> int:
    """Show what the last job of the sweep NAME has printed; NAME may be a job's id.

    \b
    Example:
      sdesweep logs digits-demo --follow --address http://127.0.0.1:8265
    """
    from cluster.submission import STORE

    server = server_at(address)
    job = last_job(server, name)
    if follow:
        return follow_job(server, open_store(job.metadata[STORE]), job, as_json)
    text = server.logs(job.id)
    if as_json:
        emit({"job": job.id, "status": job.status, "logs": text})
    else:
        click.echo(text, nl=False)
    return 0


@click.command()
@click.argument("name")
@head_option
@command
def stop(name: str, address: str, as_json: bool) -> int:
    """Stop the running job of the sweep NAME: its workers snapshot first, so nothing is lost.

    \b
    Example:
      sdesweep stop digits-demo --address http://127.0.0.1:8265
    """
    from cluster.jobs_api import STOP_WAIT
    from cluster.submission import STORE

    server = server_at(address)
    job = last_job(server, name)
    if job.over:
        raise RequestError(f"{job.id} is over already: {job.status}")
    server.stop(job.id)
    ended = server.wait(job.id, STOP_WAIT + 30.0)
    if not ended.over:
        text = f"{job.id} has not ended yet; ask again with `sdesweep list`"
    else:
        text = judged(open_store(job.metadata[STORE]), ended).text
    if as_json:
        emit({"job": job.id, "status": ended.status, "text": text})
    else:
        click.echo(text)
    return 0 if ended.over else INCOMPLETE


def _time(moment: float | None) -> str:
    return f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M:%S}" if moment else ""
