"""The story of a sweep's nights in sentences, from its run records and the logs of its runs.

What belongs together becomes one sentence: a machine, its workers and the shards they had; workers that come
up together. It must not change anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cluster.account import counted
from cluster.display import duration
from jobs.paths import SweepPaths
from jobs.storage import lease, runrecord
from jobs.storage.events import Event, events_of
from jobs.storage.runrecord import RunRecord
from jobs.store import Store

TOGETHER = timedelta(seconds=60)  # between things that are told in one sentence


@dataclass
class Sentence:
    """One thing that happened, or several of a kind."""

    run_id: str
    at: datetime  # UTC
    kind: str
    text: str
    requeued: int = 0  # shards
    seconds_lost: float = 0.0  # of work
    events: list[Event] = field(default_factory=list)  # that it is made of


def story(store: Store, paths: SweepPaths) -> list[Sentence]:
    """What happened in all runs of a sweep, the first run first.

    Raises StoreError where a log is none.
    """
    records = runrecord.runs(store, paths)
    told: list[Sentence] = []
    for number, record in enumerate(records):
        told += _run(record, events_of(store, paths, record.run_id))
        last = number == len(records) - 1
        if record.outcome == "running" and not (last and _alive(store, paths)):
            told.append(_killed(record))
    return told


def _alive(store: Store, paths: SweepPaths) -> bool:
    state = lease.inspect(store, paths)
    return state is not None and state.alive


def _killed(record: RunRecord) -> Sentence:
    text = f"last sign of life of the run on {record.host}: it was killed"
    if record.under_way:
        lost = f"about {duration(record.seconds_at_risk)} of work lost"
        text += f" with {counted(record.under_way, 'shard')} under way, {lost}"
    at = datetime.fromisoformat(record.updated)
    return Sentence(record.run_id, at, "killed", text, record.under_way, record.seconds_at_risk)


def _run(record: RunRecord, events: Sequence[Event]) -> Iterator[Sentence]:
    """The events of one run, those that belong together joined, in the order of their begin."""
    told = bytearray(len(events))
    for number, event in enumerate(events):
        if told[number]:
            continue
        group = [event]
        # A machine's end is told after that of its workers, as it takes longer to be noticed.
        for later in range(number + 1, len(events)):
            if events[later].at - group[-1].at > TOGETHER:
                break
            if event.kind == "joined" and events[later].kind == "lost":  # who joins after it comes back
                break
            if not told[later] and _belongs(events[later], event):
                group.append(events[later])
                told[later] = 1
        yield _sentence(record, group)


def _belongs(event: Event, first: Event) -> bool:
    if first.kind in ("lost", "node_lost") and event.kind in ("lost", "node_lost"):
        return event.node == first.node and event.node != ""
    return event.kind == first.kind and event.kind in ("joined", "node_joined")


def _sentence(record: RunRecord, group: list[Event]) -> Sentence:
    first = group[0]
    requeued = sum(event.requeued for event in group)
    lost = sum(event.seconds_lost for event in group)
    kinds = {event.kind for event in group}
    if kinds & {"lost", "node_lost"}:
        text = _loss(group, requeued, lost)
    elif first.kind == "joined":
        text = _joined(group)
    elif first.kind == "node_joined" and len(group) > 1:
        text = f"{len(group)} machines joined"
    elif first.kind == "failed":
        text = f"{_first_line(first.text)}; {duration(lost)} of work lost"
    else:
        text = first.text
    kind = "node_lost" if "node_lost" in kinds else first.kind
    return Sentence(record.run_id, first.at, kind, text, requeued, lost, group)


def _loss(group: Sequence[Event], requeued: int, lost: float) -> str:
    workers = sum(event.kind == "lost" for event in group)
    node = group[0].node
    if any(event.kind == "node_lost" for event in group):
        what = f"node {node} lost" + (f" with {counted(workers, 'worker')}" if workers else "")
    else:
        what = f"{counted(workers, 'worker')} lost" + (f" on {node}" if node else "")
    return f"{what}, {counted(requeued, 'shard')} re-queued, {duration(lost)} of work lost"


def _joined(group: Sequence[Event]) -> str:
    nodes = {event.node for event in group}
    devices = ", ".join(sorted({event.device for event in group if event.device}))
    where = f" on {group[0].node}" if len(nodes) == 1 and group[0].node else f" on {len(nodes)} machines"
    workers = len({event.worker for event in group})
    return f"{counted(workers, 'worker')} ready{where} ({devices or 'cpu'})"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else text
