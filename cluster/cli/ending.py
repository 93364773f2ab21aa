"""What `run` and `resume` print at their end: tables and pages, or how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import INCOMPLETE, emit
from cluster.cli.tables import print_results, results_data

if TYPE_CHECKING:
    from cluster.account import Outcome
    from cluster.nights import JointNights
    from jobs.planning.sweep import Sweep
    from jobs.store import Store


def show_end(
    store: Store,
    sweeps: Sequence[Sweep],
    queue: str,
    outcome: Outcome,
    code: int,
    nights: JointNights,
    as_json: bool,
) -> None:
    """Print how a run ended; code: what the command exits with."""
    ended: dict[str, Any] = {"sweep": sweeps[0].name} if len(sweeps) == 1 else {"queue": queue}
    ended |= {"store": store.url, "exit_code": code, "reason": outcome.reason}
    if outcome.exit_code == INCOMPLETE:
        again = f"sdesweep resume {queue} --store {store.url}"
        night = nights.next_opening(outcome.waiting) if outcome.closed else None
        opens = night[0] if night else None
        if as_json:
            emit({**ended, "outcome": "incomplete", "resume": again, "next_opening": opens})
            return
        click.echo(f"incomplete: {outcome.reason}\nto go on: {again}")
        if night:
            click.echo(f"next hours of work: {night[1].spoken(night[0])}")
        return
    if as_json:
        found = [results_data(store, sweep.name) for sweep in sweeps]
        emit({**ended, **found[0]} if len(sweeps) == 1 else {**ended, "sweeps": found})
        return
    for sweep in sweeps:
        if len(sweeps) > 1:
            click.echo(f"{sweep.name}:")
        print_results(store, sweep.name)
    if outcome.exit_code == 1:
        names = " ".join(sweep.name for sweep in sweeps)
        click.echo(f"some work failed: `sdesweep status {names} --store {store.url}` tells why")
