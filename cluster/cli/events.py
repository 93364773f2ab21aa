"""`sdesweep events`: what happened, in sentences or as data.

It must not decide what belongs together: that is in `cluster/story.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING

import click

from cluster.cli.common import RequestError, command, emit, load_sweep, open_store, store_option

if TYPE_CHECKING:
    from jobs.paths import SweepPaths
    from jobs.store import Store


@click.command()
@click.argument("name")
@store_option
@click.option("--run", "run_id", metavar="ID", help="Only this run, or `last`.")
@click.option(
    "--attempts", is_flag=True, help="Every attempt at a shard: when, where, how long, how it ended."
)
@command
def events(name: str, store: str, run_id: str | None, attempts: bool, as_json: bool) -> None:
    """Tell what happened in the runs of the sweep NAME, from its logs in the store.

    Times are those of the window's time zone, else of this machine. With --json they are UTC, and every
    sentence comes with the events that it is made of.

    \b
    Examples:
      sdesweep events digits-demo --store runs
      sdesweep events digits-demo --store runs --run last --attempts
    """
    from jobs.paths import SweepPaths
    from jobs.storage import runrecord

    opened = open_store(store)
    sweep = load_sweep(opened, name)
    paths = SweepPaths(name)
    known = [record.run_id for record in runrecord.runs(opened, paths)]
    if run_id == "last":
        run_id = known[-1] if known else None
    elif run_id is not None and run_id not in known:
        raise RequestError(f"--run {run_id}: no run of {name!r}; there are {', '.join(known) or 'none'}")
    zone = sweep.window.zone if sweep.window else None
    if attempts:
        _attempts(opened, paths, [run_id] if run_id else known, zone, as_json)
    else:
        _story(opened, paths, run_id, zone, as_json)


def _story(store: Store, paths: SweepPaths, run_id: str | None, zone: tzinfo | None, as_json: bool) -> None:
    from cluster.story import story

    told = [each for each in story(store, paths) if run_id in (None, each.run_id)]
    if as_json:
        sentences = [
            {
                "run": each.run_id,
                "at": each.at.isoformat(),
                "kind": each.kind,
                "text": each.text,
                "requeued": each.requeued,
                "seconds_lost": each.seconds_lost,
                "events": [event.model_dump(mode="json", exclude_defaults=True) for event in each.events],
            }
            for each in told
        ]
        emit({"sweep": paths.sweep, "sentences": sentences})
        return
    day = ""
    for each in told:
        at = each.at.astimezone(zone)
        if f"{at:%a %d %b %Y, %Z}" != day:
            day = f"{at:%a %d %b %Y, %Z}"
            click.echo(day)
        click.echo(f"{at:%H:%M} {each.text}")


def _attempts(
    store: Store, paths: SweepPaths, runs: Sequence[str], zone: tzinfo | None, as_json: bool
) -> None:
    from jobs.storage.events import attempts_of

    found = [(run, attempt) for run in runs for attempt in attempts_of(store, paths, run)]
    if as_json:
        listed = [{"run": run, **attempt.model_dump(mode="json")} for run, attempt in found]
        emit({"sweep": paths.sweep, "attempts": listed})
        return
    for _, each in found:
        cause = f", {each.cause}" if each.cause else ""
        click.echo(
            f"{each.at.astimezone(zone):%d %b %H:%M:%S} {each.fingerprint[:12]} {each.kind} "
            f"[{each.first}, {each.last}) worker {each.worker} on {each.node} ({each.device}): "
            f"{each.how}{cause} after {each.seconds:.1f} s"
        )
