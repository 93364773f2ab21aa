"""What a run has done and how it ends: the data that the driver keeps and that displays and records read.

A module of its own so that whoever watches a run need not know the driver's loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from jobs.assignment import Assignment, Receipt


@dataclass
class Running:
    """An assignment with a worker."""

    assignment: Assignment
    started: float  # of the driver's clock, seconds
    images: int = 0
    evaluations: int = 0


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


@dataclass
class Account:
    """A run so far."""

    tallies: dict[str, Tally]  # by `Assignment.configuration`, in the order of the tables
    workers: dict[int, str] = field(default_factory=dict)  # ready or busy -> where it runs
    running: dict[int, Running] = field(default_factory=dict)  # busy worker -> what it does
    retries: Counter[str] = field(default_factory=Counter)  # by cause
    failed: int = 0  # assignments set aside


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `reason` says why it stopped early."""

    complete: bool
    failed: int = 0
    reason: str = ""
    closed: bool = False  # it stopped because its hours were over, or had not begun

    @property
    def exit_code(self) -> int:
        """0 done; 75 incomplete but resumable; 1 some shards failed."""
        if not self.complete:
            return 75
        return 1 if self.failed else 0


class Observer(Protocol):
    """Who is told what happens: the display, the run record, the lists of what was set aside."""

    def name(self, assignment: Assignment) -> str:
        """What people call an assignment."""

    def note(self, text: str) -> None:
        """Something that a user may want to know, in one or a few lines."""

    def tick(self, account: Account) -> None:
        """Called after every round of events, at least about once a second."""

    def finished(self, receipt: Receipt) -> None:
        """An assignment was done for the first time."""

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        """An assignment will not be tried again by this run."""

    def replan(self, assignment: Assignment) -> list[range]:
        """The shards that are left in the range of an assignment, as storage says now."""
