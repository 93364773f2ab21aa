"""A worker pool in simulated time, with faults on demand: the driver cannot tell it from a real one.

Everything is decided by its arguments, so a test that failed fails again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from cluster.pool import Advanced, Event, Failed, Finished, GivenUp, Lost, Ready
from jobs.compute.assignment import Assignment, Receipt

RESTART = 4.0  # seconds after which a lost worker is ready again


@dataclass(frozen=True)
class Fault:
    """What happens to an attempt, after a fraction of its time."""

    kind: Literal["code", "diverged", "damage", "storage", "overlap", "lost", "hang"]
    after: float = 0.5


@dataclass
class _Task:
    assignment: Assignment
    number: int  # of the submission, so that events of one that was drained or lost are dropped


class FakePool:
    """Workers 0, 1, ...; `clock` is the driver's clock."""

    def __init__(
        self,
        workers: int,
        seconds: Callable[[int, Assignment], float] = lambda worker, assignment: 1.0,
        fault: Callable[[int, Assignment, int], Fault | None] = lambda worker, assignment, attempt: None,
        ready_after: Callable[[int], float] = lambda worker: 2.0,
        snapshot: Callable[[int], float] = lambda worker: 0.1,
    ) -> None:
        """Everything in seconds. snapshot: what a worker needs to give up; infinite: it never does."""
        self.now = 0.0
        self.attempts: Counter[Assignment] = Counter()
        self.done: Counter[Assignment] = Counter()
        self.by_worker: dict[int, list[Assignment]] = {worker: [] for worker in range(workers)}
        self.released: set[int] = set()
        self.dropped: set[int] = set()  # not there when waiting workers were released
        self.closed = False
        self._seconds = seconds
        self._fault = fault
        self._snapshot = snapshot
        self._tasks: dict[int, _Task] = {}
        self._alive: set[int] = set()
        self._number = 0
        self._agenda: list[tuple[float, int, Callable[[], Event | None]]] = []
        for worker in range(workers):
            self._at(ready_after(worker), lambda worker=worker: self._start(worker))

    def clock(self) -> float:
        return self.now

    def call_at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time, as a signal would."""
        self._at(time - self.now, lambda: action())

    def wait(self, timeout: float) -> list[Event]:
        end = self.now + timeout
        events: list[Event] = []
        while self._agenda and self._agenda[0][0] <= end and not events:
            self.now = max(self.now, self._agenda[0][0])
            while self._agenda and self._agenda[0][0] <= self.now:
                event = heapq.heappop(self._agenda)[2]()
                if event is not None:
                    events.append(event)
        if not events:
            self.now = end
        return events

    def submit(self, worker: int, assignment: Assignment) -> None:
        assert worker in self._alive, f"worker {worker} is not there"
        assert worker not in self._tasks, f"worker {worker} is busy"
        fault = self._fault(worker, assignment, self.attempts[assignment])
        self.attempts[assignment] += 1
        self.by_worker[worker].append(assignment)
        self._number += 1
        task = self._tasks[worker] = _Task(assignment, self._number)
        seconds = self._seconds(worker, assignment)
        self._at(seconds / 4, lambda: Advanced(worker, 1, 10) if self._tasks.get(worker) is task else None)
        if fault is None:
            self._at(seconds, lambda: self._finish(worker, task))
        elif fault.kind != "hang":
            self._at(seconds * fault.after, lambda: self._fail(worker, task, fault))

    def drain(self, workers: Collection[int] | None = None) -> None:
        for worker, task in list(self._tasks.items()):
            if workers is not None and worker not in workers:
                continue
            self._at(self._snapshot(worker), lambda worker=worker, task=task: self._give_up(worker, task))

    def end(self, worker: int) -> None:
        task = self._tasks[worker]
        self._at(0.1, lambda: self._fail(worker, task, Fault("lost")))

    def release(self, worker: int) -> None:
        assert worker in self._alive
        assert worker not in self._tasks, f"worker {worker} is busy"
        self._alive.remove(worker)
        self.released.add(worker)

    def release_waiting(self) -> None:
        self.dropped |= self.by_worker.keys() - self._alive - self.released

    def close(self) -> None:
        self.closed = True

    def _at(self, seconds: float, action: Callable[[], Event | None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._number, action))

    def _start(self, worker: int) -> Event | None:
        if worker in self.dropped:
            return None
        self._alive.add(worker)
        return Ready(worker, f"fake host, worker {worker}")

    def _end(self, worker: int, task: _Task) -> bool:
        """Whether the task is still with the worker; it is not any more."""
        if self._tasks.get(worker) is not task:
            return False
        del self._tasks[worker]
        return True

    def _finish(self, worker: int, task: _Task) -> Event | None:
        if not self._end(worker, task):
            return None
        self.done[task.assignment] += 1
        size = task.assignment.last - task.assignment.first
        first = self.done[task.assignment] == 1 and task.assignment.kind == "sample"
        images = size if first else 0
        return Finished(worker, Receipt(task.assignment, images, 10 * images))

    def _fail(self, worker: int, task: _Task, fault: Fault) -> Event | None:
        if not self._end(worker, task):
            return None
        if fault.kind == "lost":
            self._alive.remove(worker)
            self._at(RESTART, lambda: self._start(worker))
            return Lost(worker, task.assignment, "killed by signal 9; last line: of a log")
        assert fault.kind != "hang"
        return Failed(worker, task.assignment, fault.kind, "ValueError: injected", "Traceback: injected")

    def _give_up(self, worker: int, task: _Task) -> Event | None:
        return GivenUp(worker, task.assignment) if self._end(worker, task) else None
