"""What a run has done and how it ends: the data that the driver keeps and that displays and records read.

A module of its own so that whoever watches a run need not know the driver's loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.pool import Ready
from jobs.compute.assignment import Assignment, Receipt
from jobs.storage.events import EventKind, How


def counted(number: int, thing: str) -> str:
    """`1 shard`, `1,024 shards`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


@dataclass
class Running:
    """An assignment with a worker."""

    assignment: Assignment
    started: float  # of the driver's clock, seconds
    images: int = 0
    evaluations: int = 0
    unsaved: float = 0.0  # seconds of work that no snapshot held when it was last heard of
    heard: float | None = None  # of the driver's clock; None: not yet
    lost: float = 0.0  # seconds of work that its end cost

    def at_risk(self, now: float) -> float:
        """Seconds of work that would be lost with its worker."""
        since = self.started if self.heard is None else self.heard
        return min(now - self.started, self.unsaved + now - since)


@dataclass
class Tally:
    """One configuration in this run."""

    reduction: Assignment | None  # None: its results are there, and stay as long as no shard is added
    reference: Assignment | None = None  # to be built before it can be reduced
    unfinished: int = 0  # shards pending or with workers
    done: int = 0  # shards
    failed: int = 0  # shards set aside
    images: int = 0  # committed
    evaluations: int = 0  # network evaluations x images
    reduced: bool = False
    retries: Counter[str] = field(default_factory=Counter)  # by cause
    seconds: Counter[str] = field(default_factory=Counter)  # of finished assignments, by phase
    seconds_lost: float = 0.0  # of work, with failed attempts and lost workers


@dataclass
class Account:
    """A run so far."""

    tallies: dict[str, Tally]  # by `Assignment.configuration`, in the order of the tables
    workers: dict[int, Ready] = field(default_factory=dict)  # ready or busy -> where it runs
    running: dict[int, Running] = field(default_factory=dict)  # busy worker -> what it does
    failed: int = 0  # assignments set aside
    now: float = 0.0  # of the driver's clock, seconds

    @property
    def retries(self) -> Mapping[str, int]:
        """Of all configurations, by cause."""
        return sum((tally.retries for tally in self.tallies.values()), Counter())


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `reason` says why it stopped early."""

    complete: bool
    failed: int = 0
    reason: str = ""
    closed: bool = False  # it stopped because its hours were over, or had not begun
    waiting: tuple[str, ...] = ()  # sweeps that have work left, where it closed

    @property
    def exit_code(self) -> int:
        """0 done; 75 incomplete but resumable; 1 some shards failed."""
        if not self.complete:
            return 75
        return 1 if self.failed else 0


@dataclass(frozen=True)
class Incident:
    """Something that happened, for whoever keeps a log: `text` is for people, the rest for programs."""

    kind: EventKind
    text: str
    assignment: Assignment | None = None
    worker: int | None = None
    node: str = ""
    device: str = ""
    cause: str = ""
    requeued: int = 0  # shards
    seconds_lost: float = 0.0  # of work


@dataclass(frozen=True)
class Attempted:
    """How an attempt at an assignment ended."""

    assignment: Assignment
    worker: int
    where: Ready | None  # None: the worker was never seen
    seconds: float
    how: How
    cause: str = ""
    receipt: Receipt | None = None
    seconds_lost: float = 0.0  # of work


class Observer(Protocol):
    """Who is told what happens: the display, the run record, the lists of what was set aside."""

    def name(self, assignment: Assignment) -> str:
        """What people call an assignment."""

    def note(self, text: str) -> None:
        """Something that a user may want to know, in one or a few lines."""

    def happened(self, incident: Incident) -> None:
        """The same, with what programs may want to know of it."""

    def attempted(self, attempt: Attempted) -> None:
        """A worker's attempt has ended, in whatever way."""

    def tick(self, account: Account) -> None:
        """Called after every round of events, at least about once a second."""

    def finished(self, receipt: Receipt) -> None:
        """An assignment was done for the first time."""

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        """An assignment will not be tried again by this run."""

    def replan(self, assignment: Assignment) -> list[range]:
        """The shards that are left in the range of an assignment, as storage says now."""
