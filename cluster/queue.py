"""What is still to be assigned, and who takes what next.

A worker first takes shards of the configuration it holds, then of another one with the same model, then of
the one with the most remaining work for each worker on it. Every operation is constant time or logarithmic in
the number of configurations, so a million shards are no burden. Knows no pool and no store.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from jobs.compute.assignment import Assignment


@dataclass
class ConfigurationWork:
    """The work left in one configuration."""

    fingerprint: str
    model: str  # workers keep this between shards
    priority: int  # work of a higher priority goes first
    cost: float  # of one sample, in any unit common to all configurations
    pending: deque[range] = field(default_factory=deque)

    @property
    def remaining(self) -> float:
        """Cost of a shard like the next one, times the number of shards."""
        return len(self.pending) * len(self.pending[0]) * self.cost if self.pending else 0.0


class PendingWork(Protocol):
    """What the driver asks of a queue: of one sweep (`WorkQueue`) or of several (`JointQueue`)."""

    def __len__(self) -> int:
        """Pending assignments."""

    def add(self, assignment: Assignment) -> None:
        """Queue what is new, or was given back."""

    def take(self, worker: int) -> Assignment | None:
        """The next assignment for a worker, or None when there is nothing for it now."""

    def forget(self, worker: int) -> None:
        """The worker is gone."""

    def withdraw(self, assignment: Assignment) -> int:
        """Take out the shards of an assignment's configuration that are pending; returns their number."""


class WorkQueue:
    """Pending assignments of a sweep. A shard is in it, or with a worker, or done: never twice."""

    def __init__(self, sweep: str, works: Iterable[ConfigurationWork], request: str = "") -> None:
        self._sweep = sweep
        self._request = request
        self._works = {work.fingerprint: work for work in works}
        self._whole: deque[Assignment] = deque()  # references and reductions: of whole configurations
        self._held: dict[int, str] = {}  # worker -> configuration of its last shard
        self._workers: Counter[str] = Counter()  # configuration -> workers that hold it
        self._shards: Counter[int] = Counter()  # priority -> pending shards
        # Heaps of (-remaining work for each worker, fingerprint): for a model at a priority, and for all.
        # Entries get out of date, but one of each configuration promises no less than is true: see `_best`.
        self._heaps: dict[tuple[int, str | None], list[tuple[float, str]]] = {}
        for work in self._works.values():
            self._shards[work.priority] += len(work.pending)
            self._push(work)

    def __len__(self) -> int:
        return self._shards.total() + len(self._whole)

    def add(self, assignment: Assignment) -> None:
        """Queue a shard in front of the others of its configuration, anything else in front of all shards."""
        if assignment.kind != "sample":
            self._whole.append(assignment)
            return
        work = self._works[assignment.fingerprint]
        work.pending.appendleft(range(assignment.first, assignment.last))
        self._shards[work.priority] += 1
        self._push(work)

    def take(self, worker: int) -> Assignment | None:
        """The next assignment for a worker, or None when nothing is left."""
        if self._whole:
            return self._whole.popleft()
        priority = max((level for level, count in self._shards.items() if count), default=None)
        if priority is None:
            return None
        work = self._choose(worker, priority)
        self._hold(worker, work)
        samples = work.pending.popleft()
        self._shards[priority] -= 1
        span = (samples.start, samples.stop)
        return Assignment("sample", self._sweep, work.fingerprint, *span, self._request)

    def forget(self, worker: int) -> None:
        """The worker is gone, and what it held with it."""
        held = self._held.pop(worker, None)
        if held is not None:
            self._workers[held] -= 1
            self._push(self._works[held])

    def withdraw(self, assignment: Assignment) -> int:
        """Take out the shards of an assignment's configuration that are pending; returns their number."""
        work = self._works[assignment.fingerprint]
        number = len(work.pending)
        work.pending.clear()
        self._shards[work.priority] -= number
        return number

    def _choose(self, worker: int, priority: int) -> ConfigurationWork:
        held = self._works.get(self._held.get(worker, ""))
        if held is not None:
            if held.pending and held.priority == priority:
                return held
            same_model = self._best((priority, held.model))
            if same_model is not None:
                return same_model
        work = self._best((priority, None))
        assert work is not None  # `_shards` counts a pending shard at this priority
        return work

    def _hold(self, worker: int, work: ConfigurationWork) -> None:
        if self._held.get(worker) == work.fingerprint:
            return
        self.forget(worker)
        self._held[worker] = work.fingerprint
        self._workers[work.fingerprint] += 1

    def _key(self, work: ConfigurationWork) -> float:
        return -work.remaining / (self._workers[work.fingerprint] + 1)

    def _push(self, work: ConfigurationWork) -> None:
        """Call whenever a configuration has come to deserve more workers."""
        if not work.pending:
            return
        for model in (work.model, None):
            heap = self._heaps.setdefault((work.priority, model), [])
            heapq.heappush(heap, (self._key(work), work.fingerprint))

    def _best(self, which: tuple[int, str | None]) -> ConfigurationWork | None:
        """The configuration that deserves a worker most. Entries that promise too much are corrected here."""
        heap = self._heaps.get(which, [])
        while heap:
            key, fingerprint = heap[0]
            work = self._works[fingerprint]
            if not work.pending:
                heapq.heappop(heap)
            elif key < self._key(work):
                heapq.heapreplace(heap, (self._key(work), fingerprint))
            else:
                return work
        return None
