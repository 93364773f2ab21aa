"""`sdesweep run` and `sdesweep resume`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from cluster.cli.common import (
    INCOMPLETE,
    command,
    emit,
    expand_spec,
    load_sweep,
    open_store,
    page_url,
    store_option,
)
from cluster.cli.hours import When, nights_of, with_hours

if TYPE_CHECKING:
    from cluster.account import Outcome
    from cluster.nights import Nights
    from cluster.pool import WorkerPool
    from jobs.hardware import Hardware
    from jobs.store import Store
    from jobs.sweep import Sweep

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


@click.command()
@click.argument("spec")
@click.option(
    "--store", metavar="URL", help="A folder, or s3://BUCKET/PREFIX; the spec's own, else `runs`, by default."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key in every cell.")
@address_option
@workers_option
@with_hours
@command
def run(
    spec: str,
    store: str | None,
    settings: tuple[str, ...],
    address: str | None,
    workers: int | None,
    when: When,
    as_json: bool,
) -> int:
    """Run SPEC, a file or the name of a ready spec; what is done already is kept.

    Killed or stopped at any moment, the same command goes on where it was, to the same bits. Ctrl-C (or
    SIGTERM) snapshots the work and exits with 75; a second one exits at once. The end of the spec's window,
    or --until, does what the first one does.

    \b
    Examples:
      sdesweep run digits-demo --store runs
      sdesweep run my-spec.yaml --set samples=100 --workers 2 --json
      sdesweep run my-spec.yaml --until 07:00
    """
    sweep = expand_spec(spec, settings, store)
    return _run(open_store(sweep.store), sweep, address, workers, when, as_json)


@click.command()
@click.argument("name")
@store_option
@address_option
@workers_option
@with_hours
@command
def resume(name: str, store: str, address: str | None, workers: int | None, when: When, as_json: bool) -> int:
    """Go on with the sweep NAME from the store's own record of it; its spec file is not needed.

    \b
    Example:
      sdesweep resume digits-demo --store runs
    """
    opened = open_store(store)
    return _run(opened, load_sweep(opened, name), address, workers, when, as_json)


def _run(
    store: Store, sweep: Sweep, address: str | None, workers: int | None, when: When, as_json: bool
) -> int:
    from rich.console import Console

    from cluster.demand import Demand
    from cluster.display import open_display
    from cluster.nights import run_nights
    from cluster.ray_session import hardware_of, open_ray_pool
    from cluster.run import run_sweep
    from cluster.settling import settled

    nights = nights_of([sweep], when)

    def open_pool(most: int, note: Callable[[str], None]) -> AbstractContextManager[WorkerPool]:
        note("starting Ray on this machine" if address is None else f"joining the Ray cluster at {address}")
        return open_ray_pool(store.url, address, demand, most)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the work begins, both just end it
    console = Console(file=sys.stdout)
    with open_display(console, quiet=as_json) as display:
        if not sweep.missing:

            def ask() -> Hardware | None:
                return hardware_of(address, Demand.of(sweep.resources, workers))

            sweep = settled(store, sweep, ask, display.note)
        demand = Demand.of(sweep.resources, workers)

        def attempt() -> Outcome:
            return run_sweep(store, sweep, open_pool, display, sys.argv, nights.closing)

        outcome = run_nights(attempt, nights, display.note) if when.wait else attempt()
    code = 0 if when.batch and outcome.closed else outcome.exit_code
    _show_end(store, sweep, outcome, code, nights, as_json)
    return code


def _show_end(store: Store, sweep: Sweep, outcome: Outcome, code: int, nights: Nights, as_json: bool) -> None:
    from rich.console import Console

    from jobs.paths import SweepPaths
    from jobs.report import render_table
    from jobs.results import SweepResults

    ended = {"sweep": sweep.name, "store": store.url, "exit_code": code, "reason": outcome.reason}
    if outcome.exit_code == INCOMPLETE:
        again = f"sdesweep resume {sweep.name} --store {store.url}"
        opens = nights.next_opening() if outcome.closed else None
        if as_json:
            emit({**ended, "outcome": "incomplete", "resume": again, "next_opening": opens})
            return
        click.echo(f"incomplete: {outcome.reason}\nto go on: {again}")
        if opens:
            click.echo(f"next hours of work: {nights.spoken(opens)}")
        return
    results = SweepResults.model_validate_json(store.get(SweepPaths(sweep.name).results))
    page = page_url(store, sweep.name)
    if as_json:
        emit({**ended, "page": page, "results": results.model_dump(mode="json")})
        return
    width = max(80, Console().width)
    click.echo(render_table(results, colour=sys.stdout.isatty(), width=width), nl=False)
    if outcome.exit_code == 1:
        click.echo(f"some work failed: `sdesweep status {sweep.name} --store {store.url}` tells why")
    click.echo(f"page: {page}")
