"""What becomes of an assignment when an attempt at it ends: done, queued again, planned anew, or set aside.

Failures of the code and of the machine are counted apart: a shard whose code failed three times is set aside,
a shard whose worker was lost goes back to any ready worker. A configuration that only fails is set aside as a
whole. It must not know the pool, nor when work may begin.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from cluster.account import Account, Incident, Observer, Running, counted
from cluster.duplicates import Duplicates
from cluster.pool import Failed, Ready
from cluster.queue import PendingWork
from jobs.compute.assignment import Assignment
from jobs.storage.events import EventKind

MAX_FAILURES = 3  # of the code, before a shard is set aside
MAX_DIVERGED = 2  # of a sampler: with the same noise it would diverge again, on the same kind of machine
MAX_REPAIRS = 3  # of the files that one reduction reads
HOPELESS = 3  # shards of a configuration set aside with none done: the others are not tried
MAX_LOSSES = 10  # workers that a shard may take down with it, before it is set aside


class Retries:
    """The assignments of one run. It keeps queue and account right, and tells the observer."""

    def __init__(
        self, queue: PendingWork, account: Account, observer: Observer, duplicates: Duplicates
    ) -> None:
        self._queue = queue
        self._account = account
        self._observer = observer
        self._duplicates = duplicates
        self._failures: Counter[Assignment] = Counter()
        self._losses: Counter[Assignment] = Counter()
        self._hopeless: set[str] = set()  # configurations set aside as a whole

    def done(self, assignment: Assignment) -> None:
        """An assignment was done for the first time: queue the reductions that have waited for it."""
        self._settle(assignment)
        tally = self._account.tallies[assignment.configuration]
        if assignment.kind == "sample":
            tally.done += 1
            self._close_shard(assignment.configuration)
        elif assignment.kind == "reference":
            self._reference_built(assignment)
        else:
            tally.reduced = True

    def failed(self, run: Running, event: Failed, where: Ready | None) -> str:
        """An attempt failed. Returns what storage says where it was storage, which has to be waited for."""
        assignment = run.assignment
        self._account.tallies[assignment.configuration].retries[event.cause] += 1
        name = self._observer.name(assignment)
        error = f"{event.error} (on {where.where if where else 'a lost worker'})"
        if event.cause == "storage":
            self._tell("failed", run, f"{name}: {error}", where, event.cause)
            self.give_back(assignment)
            return event.error
        if event.cause == "overlap":
            return self._replan(assignment)
        self._failures[assignment] += 1
        attempts = self._failures[assignment]
        repairable = event.cause == "damage" and assignment.kind == "reduce"
        most = MAX_DIVERGED if event.cause == "diverged" else MAX_REPAIRS + 1 if repairable else MAX_FAILURES
        text = f"{name} failed, attempt {attempts} of {most}: {error}"
        self._tell("failed", run, text, where, event.cause)
        if attempts >= most:
            self._set_aside(assignment, attempts, event.traceback)
        elif repairable:
            return self._repair(assignment)
        else:
            self.give_back(assignment)
        return ""

    def lost(self, run: Running, reason: str, where: Ready | None) -> None:
        """An attempt ended with its worker."""
        assignment = run.assignment
        self._account.tallies[assignment.configuration].retries["machine"] += 1
        self._losses[assignment] += 1
        losses = self._losses[assignment]
        text = f"worker lost during {self._observer.name(assignment)}: {reason}"
        self._tell("lost", run, text, where, "machine")
        if losses >= MAX_LOSSES:
            self._set_aside(assignment, losses, f"{losses} workers were lost; the last one: {reason}")
        else:
            self.give_back(assignment)

    def give_back(self, assignment: Assignment) -> None:
        """Queue again, unless it is done or another worker is at it."""
        running = self._account.running.values()
        if self._duplicates.settled(assignment) or any(run.assignment == assignment for run in running):
            return
        if assignment.kind == "sample" and assignment.configuration in self._hopeless:
            self._leave(assignment.configuration, 1)
        else:
            self._queue.add(assignment)

    def reduce_if_ripe(self, configuration: str) -> None:
        """Queue the reduction of a configuration whose shards and references are all there."""
        tally = self._account.tallies[configuration]
        if tally.reduction and not (tally.unfinished or tally.failed or tally.reference):
            self._queue.add(tally.reduction)

    def _tell(self, kind: EventKind, run: Running, text: str, where: Ready | None, cause: str) -> None:
        """Say what became of an attempt that is made again."""
        node, device, worker = (where.node, where.device, where.worker) if where else ("", "", None)
        self._observer.happened(
            Incident(kind, text, run.assignment, worker, node, device, cause, 1, run.lost)
        )

    # --- set aside ------------------------------------------------------------------------------------------

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

    # --- what is left ---------------------------------------------------------------------------------------

    def _settle(self, assignment: Assignment) -> None:
        self._duplicates.settle(assignment)
        self._failures.pop(assignment, None)
        self._losses.pop(assignment, None)

    def _close_shard(self, configuration: str) -> None:
        self._account.tallies[configuration].unfinished -= 1
        self.reduce_if_ripe(configuration)

    def _reference_built(self, assignment: Assignment) -> None:
        for configuration, tally in self._account.tallies.items():
            if tally.reference == assignment:
                tally.reference = None
                self.reduce_if_ripe(configuration)

    def _replan(self, assignment: Assignment) -> str:
        """Part of the range was done under another name: queue what is left of it."""
        if trouble := self._queue_what_is_left(assignment, "partly done meanwhile"):
            return trouble
        self._settle(assignment)
        self._close_shard(assignment.configuration)
        return ""

    def _repair(self, reduction: Assignment) -> str:
        """Files that a reduction reads were damaged, and moved away: make them again, then reduce."""
        if trouble := self._queue_what_is_left(reduction, "what was damaged is made again"):
            return trouble
        tally = self._account.tallies[reduction.configuration]
        tally.reference = replace(reduction, kind="reference")  # skips what is whole
        self._queue.add(tally.reference)
        return ""

    def _queue_what_is_left(self, assignment: Assignment, why: str) -> str:
        """Plan the range of an assignment anew. If storage fails, give it back and return what it says."""
        try:
            shards = self._observer.replan(assignment)
        except OSError as error:
            self.give_back(assignment)
            return str(error)
        text = f"{self._observer.name(assignment)}: {why}; {counted(len(shards), 'shard')} left of it"
        self._observer.happened(Incident("replanned", text, assignment, requeued=len(shards)))
        self._account.tallies[assignment.configuration].unfinished += len(shards)
        for samples in reversed(shards):
            self._queue.add(replace(assignment, kind="sample", first=samples.start, last=samples.stop))
        return ""
