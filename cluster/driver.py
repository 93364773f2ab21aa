"""The loop of a run: gives assignments to workers until nothing is left, whatever happens to the workers.

Failures of the code and of the machine are counted apart: a shard whose code failed three times is set aside,
a shard whose worker was lost goes back to any ready worker. It must not know Ray, nor what an image is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from cluster.pool import Advanced, Event, Failed, Finished, GivenUp, Lost, PoolError, Ready, WorkerPool
from cluster.queue import WorkQueue
from jobs.assignment import Assignment, Receipt

MAX_FAILURES = 3  # of the code, before a shard is set aside
MAX_LOSSES = 10  # workers that a shard may take down with it, before it is set aside
MAX_IDLE_LOSSES = 20  # workers lost one after the other without an assignment: they cannot live here
STRAGGLER = 3.0  # times the median duration, after which a shard gets a duplicate
BACKOFF = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0)  # seconds to wait, time after time, while storage fails
DRAIN_GRACE = 60.0  # seconds that workers have to snapshot
POLL = 1.0  # seconds between looks at the clock, at most


class Observer(Protocol):
    """Who is told what happens: the display, the run record, the lists of what was set aside."""

    def note(self, text: str) -> None:
        """Something that a user may want to know, in one or a few lines."""

    def tick(self, driver: Driver) -> None:
        """Called after every round of events."""

    def finished(self, receipt: Receipt) -> None:
        """An assignment was done for the first time."""

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        """An assignment will not be tried again by this run."""

    def replan(self, assignment: Assignment) -> list[range]:
        """The shards that are left in the range of an assignment, as storage says now."""


@dataclass
class Running:
    """An assignment with a worker."""

    assignment: Assignment
    started: float
    images: int = 0
    evaluations: int = 0


@dataclass
class Counts:
    """What this run has done of one configuration."""

    unfinished: int = 0  # shards pending or with workers
    done: int = 0  # shards
    failed: int = 0  # shards set aside
    images: int = 0  # committed
    evaluations: int = 0


@dataclass
class Outcome:
    """How a run ended. `reason` says why it stopped early."""

    complete: bool
    failed: int
    reason: str = ""

    @property
    def exit_code(self) -> int:
        """0 done; 75 incomplete but resumable; 1 some shards failed."""
        if not self.complete:
            return 75
        return 1 if self.failed else 0


class Driver:
    """One run over a queue. `run` returns when all is done or set aside, or after a stop."""

    def __init__(
        self,
        pool: WorkerPool,
        queue: WorkQueue,
        counts: dict[str, Counts],
        reduction: Callable[[str], Assignment],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """counts: by fingerprint, with `unfinished` filled in; reduction: fingerprint -> its assignment."""
        self.counts = counts
        self.workers: dict[int, str] = {}  # ready or busy -> where it runs
        self.running: dict[int, Running] = {}
        self.retries: Counter[str] = Counter()  # by cause
        self._pool = pool
        self._queue = queue
        self._reduction = reduction
        self._observer = observer
        self._clock = clock
        self._failures: Counter[Assignment] = Counter()
        self._losses: Counter[Assignment] = Counter()
        self._idle_losses = 0
        self._duplicated: set[Assignment] = set()
        self._settled: set[Assignment] = set()  # duplicated ones that are done or set aside
        self._durations: dict[str, deque[float]] = {}
        self._failed = 0
        self._backoff = 0  # how often in a row storage has failed
        self._resume_at = 0.0  # storage: nothing is assigned before
        self._waiting_released = False
        self._stop_reason = ""
        self._stop_requested = 0
        self._deadline = 0.0  # of the drain

    # --- stopping ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Drain: workers snapshot and give up; a second call stops at once. Safe in a signal handler."""
        self._stop_requested += 1

    @property
    def draining(self) -> bool:
        return bool(self._stop_reason)

    def _drain(self, reason: str) -> None:
        if not self.draining:
            self._stop_reason = reason
            self._deadline = self._clock() + DRAIN_GRACE
            self._observer.note(f"{reason}: snapshotting {len(self.running)} running assignments")
            self._pool.drain()

    # --- the loop ---------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Work until the end. Raises PoolError when the place of work is gone."""
        while not self._over():
            for event in self._pool.wait(POLL):
                self._handle(event)
            if self._stop_requested:
                self._drain("asked to stop")
            if not self.draining and self._clock() >= self._resume_at:
                self._assign()
                self._trim()
            self._observer.tick(self)
        return Outcome(self._all_done(), self._failed, self._stop_reason)

    def _all_done(self) -> bool:
        return not self._queue and all(run.assignment in self._settled for run in self.running.values())

    def _over(self) -> bool:
        if self._all_done():
            return True
        late = self.draining and self._clock() >= self._deadline
        return late or self._stop_requested > 1 or (self.draining and not self.running)

    def _handle(self, event: Event) -> None:
        match event:
            case Ready():
                self.workers[event.worker] = event.where
            case Advanced():
                run = self.running.get(event.worker)
                if run is not None:
                    run.images, run.evaluations = event.images, event.evaluations
            case Finished():
                self._finished(event)
            case Failed():
                self._failed_once(event)
            case GivenUp():
                self._give_back(self.running.pop(event.worker).assignment)
            case Lost():
                self._lost(event)

    def _assign(self) -> None:
        for worker in sorted(self.workers.keys() - self.running.keys()):
            assignment = self._queue.take(worker) or self._duplicate()
            if assignment is None:
                return
            self._pool.submit(worker, assignment)
            self.running[worker] = Running(assignment, self._clock())

    # --- events -----------------------------------------------------------------------------------------

    def _finished(self, event: Finished) -> None:
        run = self.running.pop(event.worker)
        self._idle_losses = self._backoff = 0
        if run.assignment in self._settled:  # the slower of two
            return
        self._settle(run.assignment)
        counts = self.counts[run.assignment.fingerprint]
        counts.images += event.receipt.images
        counts.evaluations += event.receipt.evaluations
        if run.assignment.kind == "sample":
            counts.done += 1
            durations = self._durations.setdefault(run.assignment.fingerprint, deque(maxlen=101))
            durations.append(self._clock() - run.started)
        self._observer.finished(event.receipt)
        self._close_shard(run.assignment)

    def _failed_once(self, event: Failed) -> None:
        assignment = self.running.pop(event.worker).assignment
        if assignment in self._settled:
            return
        self.retries[event.cause] += 1
        where = self.workers.get(event.worker, "a worker")
        if event.cause == "storage":
            self._observer.note(f"{assignment.name}: {event.error} (on {where})")
            self._give_back(assignment)
            self._wait_for_storage(event.error)
        elif event.cause == "overlap":
            self._replan(assignment)
        else:
            self._failures[assignment] += 1
            attempts = self._failures[assignment]
            self._observer.note(
                f"{assignment.name} failed, attempt {attempts} of {MAX_FAILURES}: {event.error} (on {where})"
            )
            if attempts >= MAX_FAILURES:
                self._set_aside(assignment, attempts, event.traceback)
            else:
                self._give_back(assignment)

    def _lost(self, event: Lost) -> None:
        self.workers.pop(event.worker, None)
        self._queue.forget(event.worker)
        run = self.running.pop(event.worker, None)
        if run is None:
            self._idle_losses += 1
            if self._idle_losses >= MAX_IDLE_LOSSES:
                raise PoolError(f"{self._idle_losses} workers died one after the other: {event.reason}")
            return
        assignment = run.assignment
        if assignment in self._settled:
            return
        self.retries["machine"] += 1
        self._losses[assignment] += 1
        losses = self._losses[assignment]
        self._observer.note(f"worker lost during {assignment.name}: {event.reason}")
        if losses >= MAX_LOSSES:
            self._set_aside(assignment, losses, f"{losses} workers were lost; the last one: {event.reason}")
        else:
            self._give_back(assignment)

    # --- assignments ------------------------------------------------------------------------------------

    def _give_back(self, assignment: Assignment) -> None:
        """Queue again, unless it is done or another worker is at it."""
        if assignment in self._settled or any(run.assignment == assignment for run in self.running.values()):
            return
        if assignment.kind == "reduce":
            self._queue.add_reduction(assignment)
        else:
            self._queue.add(assignment.fingerprint, range(assignment.first, assignment.last))

    def _set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self._settle(assignment)
        self._failed += 1
        self.counts[assignment.fingerprint].failed += 1
        self._observer.set_aside(assignment, attempts, error)
        self._close_shard(assignment)

    def _settle(self, assignment: Assignment) -> None:
        """Remember the end of an assignment if a duplicate of it is still under way."""
        if assignment in self._duplicated:
            self._settled.add(assignment)
        self._failures.pop(assignment, None)
        self._losses.pop(assignment, None)

    def _close_shard(self, assignment: Assignment) -> None:
        """Count a shard as no longer open; the last one of a configuration brings its reduction."""
        if assignment.kind == "reduce":
            return
        counts = self.counts[assignment.fingerprint]
        counts.unfinished -= 1
        if not counts.unfinished and not counts.failed:
            self._queue.add_reduction(self._reduction(assignment.fingerprint))

    def _replan(self, assignment: Assignment) -> None:
        """Part of the range was done under another name: queue what is left of it."""
        shards = self._observer.replan(assignment)
        self._observer.note(f"{assignment.name}: partly done meanwhile; {len(shards)} shards are left of it")
        self._settle(assignment)
        self.counts[assignment.fingerprint].unfinished += len(shards)
        for samples in shards:
            self._queue.add(assignment.fingerprint, samples)
        self._close_shard(assignment)

    def _wait_for_storage(self, error: str) -> None:
        if self._clock() < self._resume_at:
            return
        if self._backoff >= len(BACKOFF):
            self._drain(f"storage keeps failing ({error}); mend it and run again")
            return
        seconds = BACKOFF[self._backoff]
        self._backoff += 1
        self._resume_at = self._clock() + seconds
        self._observer.note(f"storage failed; nothing new is begun for {seconds:.0f} s")

    # --- the tail ---------------------------------------------------------------------------------------

    def _duplicate(self) -> Assignment | None:
        """A straggler to be run once more, where the queue has nothing left."""
        now = self._clock()
        for run in self.running.values():
            durations = self._durations.get(run.assignment.fingerprint)
            if run.assignment in self._duplicated or run.assignment.kind == "reduce" or not durations:
                continue
            if now - run.started > STRAGGLER * median(durations):
                self._duplicated.add(run.assignment)
                self._observer.note(
                    f"{run.assignment.name} takes over {STRAGGLER:.0f} times as long: duplicated"
                )
                return run.assignment
        return None

    def _trim(self) -> None:
        """Give back what the tail does not need: workers not there yet, and idle ones beyond a few spare."""
        if self._queue:
            return
        if not self._waiting_released and self.workers:
            self._waiting_released = True
            self._pool.release_waiting()
        idle = sorted(self.workers.keys() - self.running.keys())
        for worker in idle[1 + len(self.running) // 8 :]:
            self._pool.release(worker)
            self._queue.forget(worker)
            del self.workers[worker]
