"""Whole runs without Ray: a pool that works in this process, one that must not, a display that remembers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from cluster.account import Account
from cluster.causes import cause_of
from cluster.pool import Event, Failed, Finished, GivenUp, Ready, WorkerPool
from jobs.compute.assignment import Assignment, Drained
from jobs.compute.worker import WorkerState
from jobs.store import Store
from jobs.work.perform import perform


class LocalPool:
    """One worker. `before` is called before each assignment is performed, with it."""

    def __init__(
        self,
        store: Store,
        before: Callable[[Assignment], None] = lambda assignment: None,
        state: WorkerState | None = None,
    ) -> None:
        self.performed: list[Assignment] = []
        self._store = store
        self._before = before
        self._state = state or WorkerState()
        self._waiting: list[Assignment] = []
        self._started = False
        self._draining = False

    @contextmanager
    def open(self, most: int, note: Callable[[str], None]) -> Iterator[WorkerPool]:
        """As the driver's caller opens its place of work."""
        yield self

    def wait(self, timeout: float) -> list[Event]:
        if not self._started:
            self._started = True
            return [Ready(0, "this process")]
        if not self._waiting:
            return []
        assignment = self._waiting.pop()
        self._before(assignment)
        try:
            receipt = perform(assignment, self._store, self._state, self)
        except Drained:
            return [GivenUp(0, assignment)]
        except Exception as error:
            return [Failed(0, assignment, cause_of(error), f"{type(error).__name__}: {error}", str(error))]
        self.performed.append(assignment)
        return [Finished(0, receipt)]

    def submit(self, worker: int, assignment: Assignment) -> None:
        self._waiting.append(assignment)

    def drain(self, workers: Collection[int] | None = None) -> None:
        assert workers is None, "nothing is under way here between two assignments"
        self._draining = True

    def end(self, worker: int) -> None:
        raise AssertionError("nothing is under way here between two assignments")

    def release(self, worker: int) -> None:
        raise AssertionError("the only worker is never spare")

    def release_waiting(self) -> None:
        pass

    def close(self) -> None:
        pass

    def should_stop(self) -> bool:
        return self._draining

    def progress(self, images: int, evaluations: int) -> None:
        pass

    def saved(self) -> None:
        pass


class NoPool:
    """Stands where no work may begin."""

    def open(self, most: int, note: object) -> None:
        raise AssertionError("the window is closed")


class Lines:
    """A display that remembers its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str, about: object = None) -> None:
        self.notes.append(text)

    def begin(self, goals: object) -> None:
        self.goals = goals

    def tick(self, account: Account) -> None:
        self.account = account
