"""Several sweeps on one pool: whose turn it is, in an order that may change while the work goes on.

A worker serves the first sweep of the order that has something for it, so a later one fills the tails of
those before it. What is taken within a sweep is decided by its own queue. Knows no pool and no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.queue import PendingWork
from jobs.compute.assignment import Assignment


class JointQueue:
    """The queues of several sweeps in order. Satisfies `PendingWork`."""

    def __init__(self, queues: Mapping[str, PendingWork]) -> None:
        """queues: by the sweep's name, in the order in which they are served."""
        self._queues = dict(queues)
        self._order = list(queues)
        self._paused: frozenset[str] = frozenset()
        self._closed: frozenset[str] = frozenset()  # outside their hours
        self._last: dict[int, str] = {}  # worker -> sweep of its last assignment

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def sweeps(self) -> tuple[str, ...]:
        """All of them, in the order in which they are served."""
        return tuple(self._order)

    def close(self, sweeps: Iterable[str]) -> None:
        """Serve these sweeps not at all, and all others, until told otherwise."""
        self._closed = frozenset(sweeps)

    def left(self, sweep: str) -> int:
        """Pending assignments of one sweep."""
        return len(self._queues[sweep])

    def arrange(self, order: Iterable[str], paused: Iterable[str]) -> None:
        """Serve sweeps in this order from now on, and the paused ones not at all.

        Sweeps that the order does not name come last, as they stood; names of others do not matter.
        """
        named = [sweep for sweep in dict.fromkeys(order) if sweep in self._queues]
        self._order = named + [sweep for sweep in self._order if sweep not in named]
        self._paused = frozenset(paused)

    def add(self, assignment: Assignment) -> None:
        self._queues[assignment.sweep].add(assignment)

    def take(self, worker: int) -> Assignment | None:
        for sweep in self._order:
            if sweep in self._paused or sweep in self._closed:
                continue
            assignment = self._queues[sweep].take(worker)
            if assignment is not None:
                if self._last.get(worker, sweep) != sweep:
                    self._queues[self._last[worker]].forget(worker)
                self._last[worker] = sweep
                return assignment
        return None

    def withdraw(self, assignment: Assignment) -> int:
        return self._queues[assignment.sweep].withdraw(assignment)

    def forget(self, worker: int) -> None:
        sweep = self._last.pop(worker, None)
        if sweep is not None:
            self._queues[sweep].forget(worker)
