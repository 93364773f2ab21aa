"""`sdesweep run` and `sdesweep resume`: one sweep, or several on the same workers."""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import click

from cluster.cli.common import RequestError, command, open_store, store_option
from cluster.cli.ending import show_end
from cluster.cli.hours import When, nights_of, with_hours
from cluster.cli.several import agree, expand_specs, load_sweeps
from cluster.cli.submitting import Submission, is_dashboard, submit_sweeps, with_submission

if TYPE_CHECKING:
    from cluster.account import Outcome
    from cluster.display import Display
    from jobs.planning.hardware import Hardware
    from jobs.planning.sweep import Sweep
    from jobs.store import Store

address_option = click.option(
    "--address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    metavar="ADDRESS",
    help="Ray cluster to join: 'auto' or HOST:PORT. Without it, Ray is started on this machine.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of workers; as many as there are CPUs or GPU slots by default. No result depends on it.",
)
queue_option = click.option(
    "--queue",
    metavar="NAME",
    help="What the order of several sweeps is called (`sdesweep queue`); the first one's name by default.",
)

log_option = click.option(
    "--log-format",
    type=click.Choice(("plain", "json")),
    default="plain",
    show_default=True,
    envvar="SDESWEEP_LOG_FORMAT",
    show_envvar=True,
    help="json: a line an event on standard error, with sweep, configuration and shard.",
)


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option(
    "--store", metavar="URL", help="A folder, or s3://BUCKET/PREFIX; the spec's own, else `runs`, by default."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key in every cell.")
@address_option
@workers_option
@queue_option
@log_option
@with_hours
@command
def run(
    specs: tuple[str, ...],
    store: str | None,
    settings: tuple[str, ...],
    address: str | None,
    workers: int | None,
    queue: str | None,
    log_format: str,
    when: When,
    as_json: bool,
) -> int:
    """Run SPEC, a file or the name of a ready spec; what is done already is kept.

    Several are served by the same workers: the one with the highest `priority` first, else as they are
    written; a later one fills the tail of those before it.

    Killed or stopped at any moment, the same command goes on where it was, to the same bits. Ctrl-C (or
    SIGTERM) snapshots the work and exits with 75; a second one exits at once. The end of the spec's window,
    or --until, does what the first one does.

    \b
    Examples:
      sdesweep run digits-demo --store runs
      sdesweep run my-spec.yaml --set samples=100 --workers 2 --json
      sdesweep run my-spec.yaml --until 07:00
      sdesweep run urgent.yaml large.yaml --store runs
    """
    _refuse_dashboard(address)
    sweeps = expand_specs(specs, settings, store)
    opened = open_store(sweeps[0].store)
    return _run(opened, sweeps, queue or sweeps[0].name, address, workers, when, log_format, as_json)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@store_option
@address_option
@workers_option
@queue_option
@log_option
@with_hours
@with_submission
@command
def resume(
    names: tuple[str, ...],
    store: str,
    address: str | None,
    workers: int | None,
    queue: str | None,
    log_format: str,
    when: When,
    submission: Submission,
    as_json: bool,
) -> int:
    """Go on with the sweep NAME from the store's own record of it; its spec file is not needed.

    NAME may be that of a queue too: all its sweeps go on. With the address of a head (http://HOST:8265) the
    next attempt is submitted there as a job, as `sdesweep submit` does.

    \b
    Examples:
      sdesweep resume digits-demo --store runs
      sdesweep resume digits-demo --store /shared/runs --address http://127.0.0.1:8265 --follow
    """
    opened = open_store(store)
    sweeps = load_sweeps(opened, names)
    name = queue or names[0]
    if is_dashboard(address):
        assert address is not None
        return submit_sweeps(opened, sweeps, name, address, workers, when, log_format, submission, as_json)
    return _run(opened, sweeps, name, address, workers, when, log_format, as_json)


def _refuse_dashboard(address: str | None) -> None:
    if is_dashboard(address):
        raise RequestError(
            f"{address} is the address of a head's dashboard: `sdesweep submit` sends a job there. "
            "To work from here, on a machine of the cluster, give --address auto"
        )


def _run(
    store: Store,
    sweeps: list[Sweep],
    queue: str,
    address: str | None,
    workers: int | None,
    when: When,
    log_format: str,
    as_json: bool,
) -> int:
    from cluster.demand import Demand
    from cluster.display import Several
    from cluster.metrics import Metrics, ray_instrument
    from cluster.nights import JointNights, run_nights
    from cluster.ray_session import hardware_of, open_ray_pool
    from cluster.run import run_sweeps
    from cluster.settling import require_code, settled
    from jobs.references.sending import send_data

    nights = JointNights(nights_of(sweeps, when))

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the work begins, both just end it
    with _display(queue, log_format, as_json) as shown:
        display = Several(shown, Metrics(ray_instrument))

        @functools.cache
        def ask() -> Hardware:
            return hardware_of(address, sweeps[0].resources, workers, display.note)

        for sweep in sweeps:
            require_code(sweep)
        if address is not None:
            sweeps = [send_data(store, sweep, display.note) for sweep in sweeps]
        sweeps = [sweep if sweep.missing else settled(store, sweep, ask, display.note) for sweep in sweeps]
        agree(sweeps)
        open_pool = partial(open_ray_pool, store.url, address, Demand.of(sweeps[0].resources, workers))

        def attempt() -> Outcome:
            return run_sweeps(store, sweeps, open_pool, display, sys.argv, queue, nights.shut)

        outcome = run_nights(attempt, nights, display.note) if when.wait else attempt()
    code = 0 if when.batch and outcome.closed else outcome.exit_code
    show_end(store, sweeps, queue, outcome, code, nights, as_json)
    return code


def _display(queue: str, log_format: str, as_json: bool) -> AbstractContextManager[Display]:
    """What shows how a run goes: a table or lines on standard output, or a log on standard error."""
    from rich.console import Console

    from cluster.display import open_display, printing
    from cluster.logs import JsonLines

    if log_format == "json":
        return JsonLines(printing(sys.stderr), queue)
    return open_display(Console(file=sys.stdout), quiet=as_json)
