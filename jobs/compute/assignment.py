"""What a worker is asked to do and what it answers: plain data that crosses processes.

No pixels and no features cross: an assignment names a range of sample indices, a receipt is under a kilobyte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True)
class Assignment:
    """A unit of work of one configuration.

    `sample` makes the images of `[first, last)` and their features, skipping what storage already has;
    `reference` builds the features of the configuration's references that the store lacks; `reduce` turns all
    features of the configuration into its results files (both: first = 0, last = samples).

    With a `request` they do what `evaluate` asked instead, and `sample` makes features alone, never an image.
    """

    kind: Literal["sample", "reference", "reduce"]
    sweep: str
    fingerprint: str
    first: int
    last: int  # exclusive
    request: str = ""  # digest of an evaluation request of the sweep

    @property
    def configuration(self) -> str:
        """Its configuration among those of all sweeps: `<sweep>/<fingerprint>`."""
        return f"{self.sweep}/{self.fingerprint}"

    @property
    def name(self) -> str:
        return f"{self.kind} {self.sweep}/{self.fingerprint[:12]} [{self.first}, {self.last})"


@dataclass(frozen=True)
class Receipt:
    """What was done for an assignment."""

    assignment: Assignment
    images: int  # images committed by this attempt
    evaluations: int  # network evaluations x images spent by this attempt
    seconds: dict[str, float] = field(default_factory=dict)  # by phase: load, sample, write, extract, reduce
    notes: tuple[str, ...] = ()  # e.g. "resumed from a snapshot at step 400"


class Context(Protocol):
    """How work in progress asks and tells the place it runs in."""

    def should_stop(self) -> bool:
        """True when the work must be snapshotted and given up (drain)."""

    def progress(self, images: int, evaluations: int) -> None:
        """Cumulative counts of the running assignment."""

    def saved(self) -> None:
        """A snapshot holds all that was done for the running assignment so far."""


class Drained(Exception):
    """Raised by work that was asked to stop, after its snapshot is on storage."""
