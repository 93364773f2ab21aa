"""`sdesweep status`: how far a sweep is, once or over and over.

It must not find anything out by itself: that is in `cluster/status.py` and `cluster/story.py`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import command, console, emit, load_sweep, open_store, store_option
from cluster.cli.submitting import last_job, server_at

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.status import SweepStatus
    from jobs.planning.sweep import Sweep
    from jobs.store import Store

LATELY = 5  # sentences of the story that are shown while watching


@click.command()
@click.argument("name")
@store_option
@click.option("--watch", is_flag=True, help="Look again and again, until the sweep is complete or Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: between two looks.",
)
@click.option("--address", metavar="URL", help="Head of a cluster: also say how the sweep's last job stands.")
@command
def status(name: str, store: str, watch: bool, every: float, address: str | None, as_json: bool) -> None:
    """Say how far the sweep NAME is, from storage alone: it needs no cluster and disturbs no run.

    With --watch and --json, a line of JSON is printed for every look.

    \b
    Examples:
      sdesweep status digits-demo --store runs
      sdesweep status digits-demo --store runs --watch
    """
    from cluster.status import status_of

    opened = open_store(store)
    if watch:
        _watch(opened, name, every, as_json)
        return
    sweep = load_sweep(opened, name)
    found = status_of(opened, sweep)
    job = last_job(server_at(address), name) if address is not None else None
    if as_json:
        emit(_data(found, sweep) | ({"job": dataclasses.asdict(job)} if job else {}))
        return
    if job is not None:
        click.echo(f"job: {job.id}, {job.status}")
    _print(_lines(found, sweep))


def _watch(store: Store, name: str, every: float, as_json: bool) -> None:
    from rich.console import Group
    from rich.live import Live

    output = console()
    looks = _looks(store, name, every, time.sleep)
    try:
        if as_json:
            for found, sweep in looks:
                click.echo(json.dumps(_data(found, sweep), default=str))
        elif output.is_terminal:
            with Live(console=output, auto_refresh=False) as live:
                for found, sweep in looks:
                    shown = Group(*_lines(found, sweep), *_lately(store, sweep))
                    live.update(shown, refresh=True)
        else:
            for found, sweep in looks:
                _print([*_lines(found, sweep), ""])
    except KeyboardInterrupt:  # the way to end it
        return


def _print(lines: Iterable[RenderableType]) -> None:
    """Sentences are printed as they are, whatever the width of the terminal; tables fit it."""
    for line in lines:
        if isinstance(line, str):
            click.echo(line)
        else:
            console().print(line)


def _looks(
    store: Store, name: str, every: float, sleep: Callable[[float], None]
) -> Iterator[tuple[SweepStatus, Sweep]]:
    """How the sweep stands, again and again until it is complete; its spec may change meanwhile."""
    from cluster.status import status_of

    while True:
        sweep = load_sweep(store, name)
        found = status_of(store, sweep)
        yield found, sweep
        if found.complete and found.driver.state != "running":
            return
        sleep(every)


def _data(found: SweepStatus, sweep: Sweep) -> dict[str, Any]:
    last_run = found.last_run.model_dump(mode="json") if found.last_run else None
    shallow = dataclasses.asdict(dataclasses.replace(found, last_run=None))
    window = sweep.window.model_dump(mode="json") if sweep.window else None
    return {
        **shallow,
        "last_run": last_run,
        "complete": found.complete,
        "window": window,
        "hours": _hours(sweep),
    }


def _hours(sweep: Sweep) -> str:
    """Why no work may be done now, as the window says."""
    from cluster.nights import Nights
    from jobs.specs.window import Hours

    return Nights(Hours(sweep.window)).closing()


def _lately(store: Store, sweep: Sweep) -> Iterator[str]:
    from cluster.story import story
    from jobs.paths import SweepPaths

    zone = sweep.window.zone if sweep.window else None
    for sentence in story(store, SweepPaths(sweep.name))[-LATELY:]:
        yield f"{sentence.at.astimezone(zone):%H:%M} {sentence.text}"


def _lines(found: SweepStatus, sweep: Sweep) -> Iterator[RenderableType]:
    from cluster.account import counted

    yield f"{found.sweep} in {found.store}: {'complete' if found.complete else 'incomplete'}"
    driver = found.driver
    if driver.state != "none":
        seen = f", last seen {driver.last_seen:.0f} s ago" if driver.last_seen is not None else ""
        yield f"driver: {driver.state}, process {driver.pid} on {driver.host}{seen}"
    if sweep.window and not found.complete:
        yield f"window: {sweep.window}; {_hours(sweep) or 'open now'}"
    yield from _last_run(found)
    yield _table(found)
    for item in found.configurations:
        if item.damaged:
            yield f"{item.name}: {counted(item.damaged, 'damaged range')}; the next run makes them again"
        for shard in item.failed:
            where = f"{item.name}: shard [{shard.first}, {shard.last})"
            yield f"{where} failed {shard.attempts} times: {shard.error}"


def _last_run(found: SweepStatus) -> Iterator[str]:
    from cluster.account import counted
    from cluster.display import duration, number

    run = found.last_run
    if run is None:
        return
    retries = ", ".join(f"{count} for {cause}" for cause, count in run.retries.items()) or "none"
    lost = f" ({duration(run.seconds_lost)} of work lost)" if run.seconds_lost else ""
    yield (
        f"last run ({found.runs} in all): {run.outcome}, began {run.started}, "
        f"{counted(run.workers, 'worker')}, "
        f"{run.shards_done:,} of {run.shards:,} shards, {number(found.images_per_second or 0)} images/s, "
        f"{number(found.evaluations_per_second or 0)} evaluations/s, retries: {retries}{lost}"
    )
    for node, use in run.nodes.items():
        gone = f", {counted(use.workers_lost, 'worker')} lost" if use.workers_lost else ""
        yield (
            f"  {node} ({use.device}): {counted(use.attempts, 'attempt')}, {duration(use.seconds)} of work, "
            f"{use.images:,} images{gone}"
        )


def _table(found: SweepStatus) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in ("configuration", "samples", "shards", "snapshots", "failed", "scored"):
        table.add_column(header, justify="left" if header == "configuration" else "right")
    for item in found.configurations:
        samples, shards = f"{item.samples_done:,}/{item.samples:,}", f"{item.shards_done:,}/{item.shards:,}"
        scored = "yes" if item.reduced else "no"
        row = (samples, shards, str(item.snapshots), str(len(item.failed)), scored)
        table.add_row(item.name, *row)
    return table
