"""The loop of a run: gives assignments to workers until nothing is left, whatever happens to the workers.

Failures of the code and of the machine are counted apart: a shard whose code failed three times is set aside,
a shard whose worker was lost goes back to any ready worker. A configuration that only fails is set aside as a
whole. It must not know Ray, nor what an image is.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from cluster.account import Account, Attempted, Incident, Observer, Outcome, Running
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
from jobs.assignment import Assignment, Receipt
from jobs.events import EventKind, How

MAX_FAILURES = 3  # of the code, before a shard is set aside
MAX_DIVERGED = 2  # of a sampler: with the same noise it would diverge again, on the same kind of machine
MAX_REPAIRS = 3  # of the files that one reduction reads
HOPELESS = 3  # shards of a configuration set aside with none done: the others are not tried
MAX_LOSSES = 10  # workers that a shard may take down with it, before it is set aside
MAX_IDLE_LOSSES = 20  # workers lost one after the other without an assignment: they cannot live here
STRAGGLER = 3.0  # times the median duration, after which a shard gets a duplicate
STRAGGLER_SECONDS = 10.0  # and not before: what is over soon is not worth a second worker
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
        self._failures: Counter[Assignment] = Counter()
        self._losses: Counter[Assignment] = Counter()
        self._idle_losses = 0  # in a row
        self._duplicated: set[Assignment] = set()
        self._settled: set[Assignment] = set()  # of the duplicated: done or set aside
        self._hopeless: set[str] = set()  # configurations set aside as a whole
        self._durations: dict[str, deque[float]] = {}  # of shards, seconds, by configuration
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
            self._reduce_if_ripe(configuration)
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
        return not self._queue and all(run.assignment in self._settled for run in running)

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
            text = f"{reason}: {len(self._account.running)} workers snapshot what they are at"
            self._observer.happened(Incident("drain", text))
            self._pool.drain()

    def _assign(self) -> None:
        late: deque[Assignment] | None = None
        for worker in sorted(self._idle):
            assignment = self._queue.take(worker)
            if assignment is None:
                late = self._stragglers() if late is None else late
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
                self._give_back(self._ended(event.worker, "given_up").assignment)
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
        if how != "given_up" and run.assignment in self._settled:  # the slower of two
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
        if assignment in self._settled:  # the slower of two
            return
        self._settle(assignment)
        tally = self._account.tallies[assignment.configuration]
        tally.images += event.receipt.images
        tally.evaluations += event.receipt.evaluations
        tally.seconds.update(event.receipt.seconds)
        self._observer.finished(event.receipt)
        if assignment.kind == "sample":
            tally.done += 1
            durations = self._durations.setdefault(assignment.configuration, deque(maxlen=101))
            durations.append(self._clock() - run.started)
            self._close_shard(assignment.configuration)
        elif assignment.kind == "reference":
            self._reference_built(assignment)
        else:
            tally.reduced = True

    def _failed(self, event: Failed) -> None:
        run = self._ended(event.worker, "failed", event.cause)
        assignment = run.assignment
        if assignment in self._settled:
            return
        self._account.tallies[assignment.configuration].retries[event.cause] += 1
        where = self._account.workers.get(event.worker)
        error = f"{event.error} (on {where.where if where else 'a lost worker'})"
        if event.cause == "storage":
            self._tell("failed", run, f"{self._observer.name(assignment)}: {error}", where, event.cause)
            self._give_back(assignment)
            self._wait_for_storage(event.error)
            return
        if event.cause == "overlap":
            self._replan(assignment)
            return
        self._failures[assignment] += 1
        attempts = self._failures[assignment]
        repairable = event.cause == "damage" and assignment.kind == "reduce"
        most = MAX_DIVERGED if event.cause == "diverged" else MAX_REPAIRS + 1 if repairable else MAX_FAILURES
        name = self._observer.name(assignment)
        text = f"{name} failed, attempt {attempts} of {most}: {error}"
        self._tell("failed", run, text, where, event.cause)
        if attempts >= most:
            self._set_aside(assignment, attempts, event.traceback)
        elif repairable:
            self._repair(assignment)
        else:
            self._give_back(assignment)

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
        assignment = run.assignment
        if assignment in self._settled:
            return
        self._account.tallies[assignment.configuration].retries["machine"] += 1
        self._losses[assignment] += 1
        losses = self._losses[assignment]
        text = f"worker lost during {self._observer.name(assignment)}: {event.reason}"
        self._tell("lost", run, text, where, "machine")
        if losses >= MAX_LOSSES:
            self._set_aside(assignment, losses, f"{losses} workers were lost; the last one: {event.reason}")
        else:
            self._give_back(assignment)

    def _tell(self, kind: EventKind, run: Running, text: str, where: Ready | None, cause: str) -> None:
        """Say what became of an attempt that is made again."""
        node, device, worker = (where.node, where.device, where.worker) if where else ("", "", None)
        self._observer.happened(
            Incident(kind, text, run.assignment, worker, node, device, cause, 1, run.lost)
        )

    # --- assignments ----------------------------------------------------------------------------------------

    def _give_back(self, assignment: Assignment) -> None:
        """Queue again, unless it is done or another worker is at it."""
        running = self._account.running.values()
        if assignment in self._settled or any(run.assignment == assignment for run in running):
            return
        if assignment.kind == "sample" and assignment.configuration in self._hopeless:
            self._leave(assignment.configuration, 1)
        else:
            self._queue.add(assignment)

    def _set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self._settle(assignment)
        self._account.failed += 1
        self._observer.set_aside(assignment, attempts, error)
        if assignment.kind == "sample":
            tally = self._account.tallies[assignment.configuration]
            tally.failed += 1
            self._close_shard(assignment.configuration)
            if tally.failed >= HOPELESS and not tally.done:
                self._abandon(assignment)

    def _abandon(self, assignment: Assignment) -> None:
        """Every shard of a configuration has failed so far: do not try those that are left."""
        if assignment.configuration in self._hopeless:
            return
        self._hopeless.add(assignment.configuration)
        left = self._queue.withdraw(assignment)
        self._leave(assignment.configuration, left)
        name = self._observer.name(assignment)
        text = (
            f"{name} is the last of {HOPELESS} that failed, and none of its configuration was done: "
            f"{left} that wait are set aside untried"
        )
        self._observer.happened(Incident("set_aside", text, assignment))

    def _leave(self, configuration: str, shards: int) -> None:
        """Shards of a configuration that was set aside: not tried again by this run."""
        tally = self._account.tallies[configuration]
        tally.failed += shards
        tally.unfinished -= shards
        self._account.failed += shards

    def _settle(self, assignment: Assignment) -> None:
        """Remember the end of an assignment if a duplicate of it is still under way."""
        if assignment in self._duplicated:
            self._settled.add(assignment)
        self._failures.pop(assignment, None)
        self._losses.pop(assignment, None)

    def _close_shard(self, configuration: str) -> None:
        self._account.tallies[configuration].unfinished -= 1
        self._reduce_if_ripe(configuration)

    def _reference_built(self, assignment: Assignment) -> None:
        for configuration, tally in self._account.tallies.items():
            if tally.reference == assignment:
                tally.reference = None
                self._reduce_if_ripe(configuration)

    def _reduce_if_ripe(self, configuration: str) -> None:
        """Queue the reduction of a configuration whose shards and references are all there."""
        tally = self._account.tallies[configuration]
        if tally.reduction and not (tally.unfinished or tally.failed or tally.reference):
            self._queue.add(tally.reduction)

    def _replan(self, assignment: Assignment) -> None:
        """Part of the range was done under another name: queue what is left of it."""
        if self._queue_what_is_left(assignment, "partly done meanwhile"):
            self._settle(assignment)
            self._close_shard(assignment.configuration)

    def _repair(self, reduction: Assignment) -> None:
        """Files that a reduction reads were damaged, and moved away: make them again, then reduce."""
        if self._queue_what_is_left(reduction, "what was damaged is made again"):
            tally = self._account.tallies[reduction.configuration]
            tally.reference = replace(reduction, kind="reference")  # skips what is whole
            self._queue.add(tally.reference)

    def _queue_what_is_left(self, assignment: Assignment, why: str) -> bool:
        """Plan the range of an assignment anew. False, with the assignment given back, if storage fails."""
        try:
            shards = self._observer.replan(assignment)
        except OSError as error:
            self._give_back(assignment)
            self._wait_for_storage(str(error))
            return False
        text = f"{self._observer.name(assignment)}: {why}; {len(shards)} shards are left of it"
        self._observer.happened(Incident("replanned", text, assignment, requeued=len(shards)))
        self._account.tallies[assignment.configuration].unfinished += len(shards)
        for samples in reversed(shards):
            self._queue.add(replace(assignment, kind="sample", first=samples.start, last=samples.stop))
        return True

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

    def _stragglers(self) -> deque[Assignment]:
        """Shards to be run once more, where the queue has nothing left."""
        now = self._clock()
        limits = {
            configuration: max(STRAGGLER * median(durations), STRAGGLER_SECONDS)
            for configuration, durations in self._durations.items()
        }
        return deque(
            run.assignment
            for run in self._account.running.values()
            if run.assignment.kind == "sample"
            and run.assignment not in self._duplicated
            and now - run.started > limits.get(run.assignment.configuration, math.inf)
        )

    def _duplicate(self, assignment: Assignment) -> Assignment:
        self._duplicated.add(assignment)
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
