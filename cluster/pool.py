"""The seam between the driver and the place where workers live: a small protocol and its events.

A worker is named by a number. It becomes ready, is given one assignment at a time, and ends it in one of four
ways: finished, failed, given up (drained), or lost with its process. This module must not know Ray.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from jobs.compute.assignment import Assignment, Receipt

#: `code`: an exception of the work itself, which another try would most likely raise again.
#: `diverged`: a sampler's images are not finite or out of range, as the same noise would make them again.
#: `damage`: files that were read are not what their markers say, and were moved away.
#: `storage`: the store did not answer or is full, which waiting may mend.
#: `overlap`: part of the range was done under another name meanwhile, so its gaps must be planned again.
Cause = Literal["code", "diverged", "damage", "storage", "overlap"]


class PoolError(Exception):
    """The place of work itself is gone or cannot be used; what is committed stays."""


@dataclass(frozen=True)
class Ready:
    """A worker is up, or up again, and idle."""

    worker: int
    where: str  # host, process and device, for people
    node: str = ""  # name of the machine
    device: str = "cpu"  # or what kind of GPU


@dataclass(frozen=True)
class Finished:
    """The assignment is done; the worker is idle."""

    worker: int
    receipt: Receipt


@dataclass(frozen=True)
class Failed:
    """The assignment raised; the worker is idle and sound."""

    worker: int
    assignment: Assignment
    cause: Cause
    error: str  # type and message of the exception, one line
    traceback: str


@dataclass(frozen=True)
class GivenUp:
    """The assignment was snapshotted because the pool was asked to drain; the worker is idle."""

    worker: int
    assignment: Assignment


@dataclass(frozen=True)
class Lost:
    """The worker's process or machine is gone. It is ready again when a `Ready` says so."""

    worker: int
    assignment: Assignment | None  # None: it was idle
    reason: str  # where it ran, how it ended, the last lines of its log


@dataclass(frozen=True)
class Advanced:
    """How far a running assignment is: cumulative counts of this attempt."""

    worker: int
    images: int
    evaluations: int  # network evaluations x images
    unsaved: float = 0.0  # seconds of work that no snapshot holds


@dataclass(frozen=True)
class NodeJoined:
    """A machine is there, with or without workers."""

    node: str
    has: str  # CPUs and GPUs, for people


@dataclass(frozen=True)
class NodeLost:
    """A machine is gone; that its workers are lost is told apart, before or after."""

    node: str


Event = Ready | Finished | Failed | GivenUp | Lost | Advanced | NodeJoined | NodeLost


class WorkerPool(Protocol):
    """Workers that come and go. Lost ones are replaced by the pool, without being asked."""

    def wait(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to so many seconds for the first. Raises PoolError."""

    def submit(self, worker: int, assignment: Assignment) -> None:
        """Give an idle worker something to do."""

    def drain(self, workers: Collection[int] | None = None) -> None:
        """Ask busy workers, all of them or these, to snapshot and give up; returns at once."""

    def end(self, worker: int) -> None:
        """End a busy worker at once and replace it; a `Lost` says so."""

    def release(self, worker: int) -> None:
        """End an idle worker for good, so that its machine can be given back."""

    def release_waiting(self) -> None:
        """Stop asking for workers that are not there yet."""

    def close(self) -> None:
        """End all workers at once, busy or not."""
