"""Shards that take far longer than their like are begun once more elsewhere; the first to finish counts.

Apart from the driver because it is all that knows durations, and which of two attempts came too late. It must
not know workers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from cluster.account import Running
from jobs.compute.assignment import Assignment

STRAGGLER = 3.0  # times the median duration, after which a shard gets a duplicate
STRAGGLER_SECONDS = 10.0  # and not before: what is over soon is not worth a second worker
REMEMBERED = 101  # durations of a configuration


class Duplicates:
    """The shards of a run that two workers are at, or were."""

    def __init__(self) -> None:
        self._durations: dict[str, deque[float]] = {}  # of shards, seconds, by configuration
        self._begun: set[Assignment] = set()
        self._settled: set[Assignment] = set()  # of those: done or set aside

    def took(self, shard: Assignment, seconds: float) -> None:
        """A shard was done."""
        self._durations.setdefault(shard.configuration, deque(maxlen=REMEMBERED)).append(seconds)

    def stragglers(self, running: Iterable[Running], now: float) -> deque[Assignment]:
        """Shards to be begun once more; now: of the driver's clock."""
        limits = {
            configuration: max(STRAGGLER * median(durations), STRAGGLER_SECONDS)
            for configuration, durations in self._durations.items()
        }
        return deque(
            run.assignment
            for run in running
            if run.assignment.kind == "sample"
            and run.assignment not in self._begun
            and now - run.started > limits.get(run.assignment.configuration, math.inf)
        )

    def begin(self, shard: Assignment) -> None:
        """A second worker is at a shard."""
        self._begun.add(shard)

    def settle(self, assignment: Assignment) -> None:
        """An assignment has ended: what another worker still makes of it counts no more."""
        if assignment in self._begun:
            self._settled.add(assignment)

    def settled(self, assignment: Assignment) -> bool:
        """Whether the other one of two attempts has ended it."""
        return assignment in self._settled
