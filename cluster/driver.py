"""The loop of a run: gives assignments to workers until nothing is left, whatever happens to the workers.

Who works at what, and when: drains, waits for storage, releases at the tail. What becomes of an assignment
whose attempt ended is decided in `cluster/retries.py`. It must not know Ray, nor what an image is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from cluster.account import Account, Attempted, Incident, Observer, Outcome, Running, counted
from cluster.duplicates import STRAGGLER, Duplicates
from cluster.pool import (
    Advanced,
    Event,
    Failed,
    Finished,
    GivenUp,
    Lost,
    NodeJoined,
    NodeLost,
    PoolError,
    Ready,
    WorkerPool,
)
from cluster.queue import PendingWork
from cluster.retries import Retries
from jobs.compute.assignment import Assignment, Receipt
from jobs.storage.events import How

MAX_IDLE_LOSSES = 20  # workers lost one after the other without an assignment: they cannot live here
BACKOFF = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0)  # seconds to wait, time after time, while storage fails
DRAIN_GRACE = 60.0  # seconds that workers have to snapshot
PATIENCE = 60.0  # seconds without any worker, before that is said
POLL = 1.0  # seconds between looks at the clock, at most


class Driver:
    """One run over a queue. `run` returns when all is done or set aside, or after a stop."""

    def __init__(
        self,
        pool: WorkerPool,
        queue: PendingWork,
        account: Account,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
        closing: Callable[[], str] = lambda: "",
    ) -> None:
        """queue: holds the shards and the references that `account` counts; reductions are added here.

        closing: why the hours of work end now, asked about once a second; empty while they go on.
        """
        self._pool = pool
        self._queue = queue
        self._account = account
        self._observer = observer
        self._clock = clock
        self._closing = closing
        self._closed = False  # the hours of work are over
        self._idle: set[int] = set()  # ready workers without an assignment
        self._idle_losses = 0  # in a row
        self._duplicates = Duplicates()
        self._retries = Retries(queue, account, observer, self._duplicates)
        self._backoff = 0  # how often in a row storage has failed
        self._resume_at = 0.0  # nothing is assigned before, because storage failed
        self._waiting_released = False
        self._last_worker = clock()  # when one was there
        self._stops = 0  # asked for
        self._stop_reason = ""
        self._deadline = 0.0  # of the drain

    def stop(self) -> None:
        """Drain: workers snapshot and give up; a second call ends at once. Safe in a signal handler."""
        self._stops += 1

    def run(self) -> Outcome:
        """Work until the end. Raises PoolError when the place of work is gone."""
        for configuration in self._account.tallies:
            self._retries.reduce_if_ripe(configuration)
        while not self._over():
            for event in self._pool.wait(POLL):
                self._handle(event)
            self._account.now = self._clock()
            if self._stops:
                self._drain("asked to stop")
            elif not self._stop_reason and (reason := self._closing()):
                self._closed = True
                self._drain(reason)
            if not self._stop_reason and self._clock() >= self._resume_at:
                self._assign()
                self._trim()
            self._mind_absence()
            self._observer.tick(self._account)
        return Outcome(self._all_done(), self._account.failed, self._stop_reason, self._closed)

    def _all_done(self) -> bool:
        running = self._account.running.values()
        return not self._queue and all(self._duplicates.settled(run.assignment) for run in running)

    def _over(self) -> bool:
        if self._all_done():
            return True
        if not self._stop_reason:
            return False
        return self._stops > 1 or not self._account.running or self._clock() >= self._deadline

    def _drain(self, reason: str) -> None:
        if not self._stop_reason:
            self._stop_reason = reason
            self._deadline = self._clock() + DRAIN_GRACE
            at_work = len(self._account.running)
            them = "it is" if at_work == 1 else "they are"
            text = f"{reason}: {counted(at_work, 'worker')} to snapshot what {them} at"
            self._observer.happened(Incident("drain", text))
            self._pool.drain()

    def _assign(self) -> None:
        late: deque[Assignment] | None = None
        for worker in sorted(self._idle):
            assignment = self._queue.take(worker)
            if assignment is None:
                if late is None:
                    late = self._duplicates.stragglers(self._account.running.values(), self._clock())
                if not late:
                    return
                assignment = self._duplicate(late.popleft())
            self._idle.discard(worker)
            self._pool.submit(worker, assignment)
            self._account.running[worker] = Running(assignment, self._clock())

    def _mind_absence(self) -> None:
        if self._account.workers:
            self._last_worker = self._clock()
        elif self._clock() - self._last_worker >= PATIENCE:
            self._last_worker = self._clock()
            text = f"no worker for {PATIENCE:.0f} s: CPUs or GPUs are taken, or machines are still starting"
            self._observer.happened(Incident("absent", text))

    # --- events ---------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case Ready():
                self._joined(event)
            case Advanced():
                run = self._account.running.get(event.worker)
                if run is not None:
                    run.images, run.evaluations = event.images, event.evaluations
                    run.unsaved, run.heard = event.unsaved, self._clock()
            case Finished():
                self._finished(event)
            case Failed():
                self._failed(event)
            case GivenUp():
                self._retries.give_back(self._ended(event.worker, "given_up").assignment)
            case Lost():
                self._lost(event)
            case NodeJoined():
                text = f"{event.node} joined, with {event.has}"
                self._observer.happened(Incident("node_joined", text, node=event.node))
            case NodeLost():
                self._observer.happened(Incident("node_lost", f"{event.node} is lost", node=event.node))

    def _joined(self, event: Ready) -> None:
        self._account.workers[event.worker] = event
        self._idle.add(event.worker)
        text = f"worker {event.worker} is ready on {event.where}"
        self._observer.happened(
            Incident("joined", text, worker=event.worker, node=event.node, device=event.device)
        )

    def _ended(self, worker: int, how: How, cause: str = "", receipt: Receipt | None = None) -> Running:
        """The worker is idle again, or gone."""
        run = self._account.running.pop(worker)
        if how != "lost":
            self._idle.add(worker)
        now = self._clock()
        lost = run.at_risk(now) if how in ("failed", "lost") else 0.0
        if how != "given_up" and self._duplicates.settled(run.assignment):  # the slower of two
            how, lost = "needless", 0.0
        run.lost = lost
        self._account.tallies[run.assignment.configuration].seconds_lost += lost
        where = self._account.workers.get(worker)
        seconds = now - run.started
        self._observer.attempted(Attempted(run.assignment, worker, where, seconds, how, cause, receipt, lost))
        return run

    def _finished(self, event: Finished) -> None:
        run = self._ended(event.worker, "finished", receipt=event.receipt)
        assignment = run.assignment
        self._idle_losses = self._backoff = 0
        if self._duplicates.settled(assignment):  # the slower of two
            return
        tally = self._account.tallies[assignment.configuration]
        tally.images += event.receipt.images
        tally.evaluations += event.receipt.evaluations
        tally.seconds.update(event.receipt.seconds)
        self._observer.finished(event.receipt)
        if assignment.kind == "sample":
            self._duplicates.took(assignment, self._clock() - run.started)
        self._retries.done(assignment)

    def _failed(self, event: Failed) -> None:
        run = self._ended(event.worker, "failed", event.cause)
        if self._duplicates.settled(run.assignment):
            return
        if trouble := self._retries.failed(run, event, self._account.workers.get(event.worker)):
            self._wait_for_storage(trouble)

    def _lost(self, event: Lost) -> None:
        busy = event.worker in self._account.running
        run = self._ended(event.worker, "lost", "machine") if busy else None
        where = self._account.workers.pop(event.worker, None)
        self._idle.discard(event.worker)
        self._queue.forget(event.worker)
        if run is None:
            if where is not None:
                node, device = where.node, where.device
                text = f"idle worker lost: {event.reason}"
                self._observer.happened(Incident("lost", text, None, event.worker, node, device, "machine"))
            self._idle_losses += 1
            if self._idle_losses >= MAX_IDLE_LOSSES:
                raise PoolError(f"{self._idle_losses} workers died one after the other: {event.reason}")
            return
        if not self._duplicates.settled(run.assignment):
            self._retries.lost(run, event.reason, where)

    # --- storage --------------------------------------------------------------------------------------------

    def _wait_for_storage(self, error: str) -> None:
        if self._clock() < self._resume_at:
            return
        if self._backoff >= len(BACKOFF):
            self._drain(f"storage keeps failing ({error}); mend it and run again")
            return
        seconds = BACKOFF[self._backoff]
        self._backoff += 1
        self._resume_at = self._clock() + seconds
        text = f"storage failed; nothing new is begun for {seconds:.0f} s"
        self._observer.happened(Incident("storage", text, cause="storage"))

    # --- the tail -------------------------------------------------------------------------------------------

    def _duplicate(self, assignment: Assignment) -> Assignment:
        self._duplicates.begin(assignment)
        text = f"{self._observer.name(assignment)} takes over {STRAGGLER:g} times the median: duplicated"
        self._observer.happened(Incident("duplicated", text, assignment))
        return assignment

    def _trim(self) -> None:
        """Give back what the tail does not need: workers not there yet, and idle ones beyond a few spare."""
        if self._queue:
            return
        if not self._waiting_released and self._account.workers:
            self._waiting_released = True
            self._pool.release_waiting()
        for worker in sorted(self._idle)[1 + len(self._account.running) // 8 :]:
            self._pool.release(worker)
            self._queue.forget(worker)
            self._idle.discard(worker)
            del self._account.workers[worker]
