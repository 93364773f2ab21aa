"""Sending sweeps to a cluster as a job, for `submit` and `resume`: its options, the checks, the answer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import INCOMPLETE, WRONG_REQUEST, RequestError, emit
from cluster.cli.hours import When, nights_of

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.checks import Check
    from cluster.jobs_api import Job, Jobs
    from cluster.submission import Ending
    from jobs.planning.sweep import Sweep
    from jobs.store import Store

SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("failed", "red")}


@dataclass(frozen=True)
class Submission:
    """How a job is to be sent."""

    follow: bool = False
    allow_unauthenticated: bool = False
    python: str | None = None


def with_submission(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a submission; it takes them as `submission`."""

    @click.option("--follow", is_flag=True, help="Show what the job prints, until it is over.")
    @click.option(
        "--allow-unauthenticated",
        is_flag=True,
        help="Submit also to a head on the network that asks nobody for a token.",
    )
    @click.option(
        "--python",
        metavar="PATH",
        help="Python on the head that runs the driver; the one that runs Ray there by default.",
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any, follow: bool, allow_unauthenticated: bool, python: str | None, **keywords: Any
    ) -> None:
        function(*args, submission=Submission(follow, allow_unauthenticated, python), **keywords)

    return wrapper


def is_dashboard(address: str | None) -> bool:
    """Whether an address is that of a head's dashboard, where jobs are submitted."""
    return address is not None and address.startswith(("http://", "https://"))


def submit_sweeps(
    store: Store,
    sweeps: Sequence[Sweep],
    queue: str,
    address: str,
    workers: int | None,
    when: When,
    log_format: str,
    submission: Submission,
    as_json: bool,
) -> int:
    """Check the cluster and the store, begin the job, follow it if asked to; returns the exit code."""
    from cluster.checks import failures
    from cluster.head import parse_address
    from cluster.jobs_api import Jobs
    from cluster.submission import company_checks, look_before, submit

    until = nights_of(sweeps, when)[sweeps[0].name].hours.until
    before = look_before(store, sweeps, address, workers, submission.allow_unauthenticated)
    cluster, checks = before.cluster, before.checks
    if cluster is None or failures(checks):
        if as_json:
            emit({"error": "checks failed", "exit_code": WRONG_REQUEST, "checks": as_data(checks)})
        else:
            show_checks(checks, err=True)
        return WRONG_REQUEST
    server = Jobs(parse_address(address), before.token if cluster.guarded else None)
    checks += company_checks(server)
    options = _passed_on(workers, when, until, log_format)

    def note(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    python, plugins = submission.python, before.plugins
    job = submit(server, cluster, store, sweeps, queue, options, python, plugins, note)
    names = [sweep.name for sweep in sweeps]
    begun = {"job": job, "sweeps": names, "store": store.url, "address": server.address}
    if as_json and not submission.follow:
        emit({**begun, "checks": as_data(checks), "exit_code": 0})
        return 0
    if not as_json:
        show_checks([check for check in checks if check.verdict == "warning"])
        click.echo(f"submitted {job}")
        if not submission.follow:
            click.echo(f"to see it: sdesweep logs {job} --follow --address {server.address}")
            return 0
    return follow_job(server, store, server.get(job), as_json, begun)


def follow_job(
    server: Jobs, store: Store, job: Job, as_json: bool, data: dict[str, Any] | None = None
) -> int:
    """Show what a job prints until it is over, and how it ended; returns the exit code.

    Ctrl-C ends the showing, not the job.
    """

    def write(text: str) -> None:
        if not as_json:
            click.echo(text, nl=False)

    try:
        ended = server.follow(job.id, write, lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        at = f"--address {server.address}"
        click.echo(f"\n{job.id} goes on: `sdesweep stop {job.id} {at}` would end it", err=True)
        return INCOMPLETE
    ending = judged(store, ended)
    if as_json:
        emit({**(data or {}), "job": job.id, "status": ended.status, **dataclasses.asdict(ending)})
    else:
        click.echo(ending.text)
    return ending.exit_code


def judged(store: Store, job: Job) -> Ending:
    """How a job that is over ended."""
    from cluster.submission import judge, records_of

    return judge(job, records_of(store, job))


def show_checks(checks: Sequence[Check], *, err: bool = False) -> None:
    """Print checks: what was found, and what to do about it."""
    for check in checks:
        word, colour = SIGNS[check.verdict]
        click.echo(f"{click.style(word, fg=colour)}: {check.name}: {check.found}", err=err)
        if check.verdict != "ok" and check.remedy:
            click.echo(f"    {check.remedy}", err=err)


def as_data(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Checks for `--json`."""
    return [dataclasses.asdict(check) for check in checks]


def server_at(address: str) -> Jobs:
    """The job server, after asking whether it is there and lets us in. Raises RequestError."""
    from cluster.access import find_token
    from cluster.checks import cluster_checks, failures
    from cluster.head import parse_address
    from cluster.jobs_api import Jobs

    token = find_token()
    cluster, checks = cluster_checks(address, token, tolerate_open=True)
    if cluster is None:
        failed = failures(checks)[0]
        raise RequestError(f"{failed.found}\n  {failed.remedy}")
    return Jobs(parse_address(address), token if cluster.guarded else None)


def last_job(server: Jobs, name: str) -> Job:
    """The last job of a sweep or a queue, or the one with this id. Raises RequestError."""
    from cluster.submission import jobs_of

    found = jobs_of(server, name)
    if not found:
        raise RequestError(f"the cluster remembers no job of {name!r}; `sdesweep list` shows those it does")
    return found[-1]


def _passed_on(workers: int | None, when: When, until: datetime | None, log_format: str) -> list[str]:
    """Options for the driver on the head, whose clock may be in another zone: `until` is a moment."""
    options = []
    if workers is not None:
        options += ["--workers", str(workers)]
    if until is not None:
        options += ["--until", until.isoformat()]
    if when.ignore_window:
        options.append("--ignore-window")
    if when.wait:
        options.append("--wait")
    if log_format != "plain":
        options += ["--log-format", log_format]
    return options
