"""Several sweeps on the same workers, each worked on in its own hours only.

What the driver asks when it asks whether the hours are over. It must not know clocks or time zones, nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.account import Account, Incident
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
        self._asked: set[tuple[int, Assignment]] = set()  # to give up

    def waiting(self) -> tuple[str, ...]:
        """Sweeps that have work left, pending or with workers."""
        busy = {run.assignment.sweep for run in self._account.running.values()}
        return tuple(sweep for sweep in self._queue.sweeps if sweep in busy or self._queue.left(sweep))

    def closing(self, pool: WorkerPool) -> str:
        """Why the run must end now; empty while a sweep with work may be worked on.

        Work of the others is not given out, and what is under way of it is snapshotted.
        """
        shut = self._shut()
        self._queue.close(shut)
        waiting = self.waiting()
        if waiting and shut.keys() >= set(waiting):
            return one_sentence({sweep: shut[sweep] for sweep in waiting})
        late = {
            (worker, run.assignment)
            for worker, run in self._account.running.items()
            if run.assignment.sweep in shut
        }
        for sweep in sorted({assignment.sweep for _, assignment in late - self._asked}):
            workers = [worker for worker, assignment in late - self._asked if assignment.sweep == sweep]
            text = f"{sweep}: {shut[sweep]}: {len(workers)} of its workers snapshot, and go on with others"
            self._tell(Incident("drain", text, next(each for _, each in late if each.sweep == sweep)))
            pool.drain(workers)
        self._asked = late
        return ""


def one_sentence(reasons: Mapping[str, str]) -> str:
    """One sentence of several reasons; those of several sweeps with their names, unless it is one for all."""
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{sweep}: {reason}" for sweep, reason in reasons.items())
