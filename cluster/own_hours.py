"""Several sweeps on the same workers, each worked on in its own hours only.

What the driver asks when it asks whether the hours are over. It must not know clocks or time zones, nor Ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from cluster.account import Account, Incident
from cluster.driver import DRAIN_GRACE
from cluster.joint_queue import JointQueue
from cluster.pool import WorkerPool
from jobs.compute.assignment import Assignment


class OwnHours:
    """Sweeps whose hours are over give their workers to the others; the run ends when none is left."""

    def __init__(
        self,
        shut: Callable[[], Mapping[str, str]],
        queue: JointQueue,
        account: Account,
        tell: Callable[[Incident], None],
    ) -> None:
        """shut: sweeps that may not be worked on now, and why. tell: told when one gives its workers away."""
        self._shut = shut
        self._queue = queue
        self._account = account
        self._tell = tell
        self._until: dict[tuple[int, Assignment], float] = {}  # asked to give up -> when it is ended

    def waiting(self) -> tuple[str, ...]:
        """Sweeps that have work left, pending or with workers."""
        busy = {run.assignment.sweep for run in self._account.running.values()}
        return tuple(sweep for sweep in self._queue.sweeps if sweep in busy or self._queue.left(sweep))

    def closing(self, pool: WorkerPool) -> str:
        """Why the run must end now; empty while a sweep with work may be worked on.

        Work of the others is not given out, and what is under way of it is snapshotted. A worker that has not
        given up after `DRAIN_GRACE` is ended.
        """
        shut = self._shut()
        self._queue.close(shut)
        waiting = self.waiting()
        if waiting and shut.keys() >= set(waiting):
            return one_sentence({sweep: shut[sweep] for sweep in waiting})
        late = [
            (worker, run.assignment)
            for worker, run in self._account.running.items()
            if run.assignment.sweep in shut
        ]
        self._drain([each for each in late if each not in self._until], pool, shut)
        ends = self._account.now + DRAIN_GRACE
        self._until = {each: self._until.get(each, ends) for each in late}
        for (worker, assignment), until in self._until.items():
            if self._account.now >= until:
                text = f"{assignment.sweep}: worker {worker} needs more than {DRAIN_GRACE:.0f} s and is ended"
                self._tell(Incident("drain", text, assignment, worker))
                pool.end(worker)
                self._until[worker, assignment] = math.inf  # told once; it is lost soon
        return ""

    def _drain(
        self, late: Sequence[tuple[int, Assignment]], pool: WorkerPool, shut: Mapping[str, str]
    ) -> None:
        """Ask workers that are at work on sweeps outside their hours to snapshot and give up."""
        for sweep in sorted({assignment.sweep for _, assignment in late}):
            own = [(worker, assignment) for worker, assignment in late if assignment.sweep == sweep]
            text = f"{sweep}: {shut[sweep]}: {len(own)} of its workers snapshot, and go on with others"
            self._tell(Incident("drain", text, own[0][1]))
            pool.drain([worker for worker, _ in own])


def one_sentence(reasons: Mapping[str, str]) -> str:
    """One sentence of several reasons; those of several sweeps with their names, unless it is one for all."""
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{sweep}: {reason}" for sweep, reason in reasons.items())
