"""Who is told what happens in a run of several sweeps: the sweep that it concerns, the display, the queue.

A sweep whose work is done is closed at once, while others go on. It must not know pools, nor what a sweep
writes down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from cluster.account import Account, Attempted, Incident, Outcome
from cluster.account import Observer as DriverObserver
from cluster.display import Display
from cluster.joint_queue import JointQueue
from jobs.compute.assignment import Assignment, Receipt
from jobs.storage.queue_state import QueueState, read_queue
from jobs.store import Store, StoreError

LOOK_INTERVAL = 5.0  # seconds between looks at the queue's file


class Member(DriverObserver, Protocol):
    """What one sweep is told beyond what a driver tells."""

    @property
    def failed(self) -> int:
        """Its assignments that were set aside."""

    def remember(self, text: str) -> None:
        """Keep a note that is shown elsewhere."""

    def record(self, incident: Incident) -> dict[str, object]:
        """Keep what happened and is shown elsewhere; returns what a log says of it beside its text."""

    def close(self, outcome: Outcome, account: Account) -> None:
        """Write its results if it is complete, and how its run ended. Nothing is told to it afterwards."""


class JointObserver:
    """The driver's observer of a run of one or several sweeps."""

    def __init__(
        self, members: Mapping[str, Member], queue: JointQueue, standing: Standing, display: Display
    ) -> None:
        """members: by the sweep's name."""
        self._members = dict(members)
        self._open = dict(members)  # not closed yet
        self._postponed: set[str] = set()  # done, and closed at the end
        self._queue = queue
        self._standing = standing
        self._display = display

    def name(self, assignment: Assignment) -> str:
        name = self._members[assignment.sweep].name(assignment)
        return name if len(self._members) == 1 else f"{assignment.sweep}: {name}"

    def note(self, text: str) -> None:
        self._display.note(text, {"sweep": ", ".join(self._members)})
        for member in self._open.values():
            member.remember(text)

    def happened(self, incident: Incident) -> None:
        if incident.assignment is not None:
            known = self._members[incident.assignment.sweep].record(incident)
        else:
            known = {}
            for member in self._open.values():
                known = member.record(incident)
            known["sweep"] = ", ".join(self._members)
        self._display.note(incident.text, known)

    def attempted(self, attempt: Attempted) -> None:
        self._members[attempt.assignment.sweep].attempted(attempt)

    def tick(self, account: Account) -> None:
        self._standing.look(self.note)
        for name, member in list(self._open.items()):
            member.tick(account)
            if len(self._open) > 1 and name not in self._postponed and self._done(name, account):
                self._close_early(name, account)
        self._display.tick(account)

    def end(self, outcome: Outcome, account: Account) -> None:
        """Close what is still open: the run is over."""
        for name, member in list(self._open.items()):
            complete = outcome.complete or self._done(name, account)
            reason = "" if complete else outcome.reason
            self._close(name, Outcome(complete, member.failed, reason), account)

    def finished(self, receipt: Receipt) -> None:
        self._members[receipt.assignment.sweep].finished(receipt)

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self._members[assignment.sweep].set_aside(assignment, attempts, error)

    def replan(self, assignment: Assignment) -> list[range]:
        return self._members[assignment.sweep].replan(assignment)

    def _done(self, sweep: str, account: Account) -> bool:
        running = account.running.values()
        return not self._queue.left(sweep) and all(run.assignment.sweep != sweep for run in running)

    def _close_early(self, sweep: str, account: Account) -> None:
        """Close a sweep while others go on, which a store that fails now must not end."""
        try:
            self._close(sweep, Outcome(complete=True, failed=self._open[sweep].failed), account)
        except OSError as error:
            self._postponed.add(sweep)
            self.note(f"{sweep} is done; its results are written at the end, for now they cannot be: {error}")
        else:
            self.note(f"{sweep} is done; {', '.join(self._open)} left")

    def _close(self, sweep: str, outcome: Outcome, account: Account) -> None:
        self._open[sweep].close(outcome, account)
        del self._open[sweep]


class Standing:
    """Brings what the queue's file says to the queue of a run, at the start and whenever it changes."""

    def __init__(
        self,
        store: Store,
        state: QueueState,
        queue: JointQueue,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._state = state
        self._queue = queue
        self._clock = clock
        self._looked = clock()
        queue.arrange(state.sweeps, state.paused)

    def look(self, note: Callable[[str], None]) -> None:
        """Read the file if it is time, and say what has changed in it."""
        if self._clock() - self._looked < LOOK_INTERVAL:
            return
        self._looked = self._clock()
        try:
            state = read_queue(self._store, self._state.name)
        except (OSError, StoreError) as error:
            note(f"the queue {self._state.name!r} cannot be read, and stays as it was: {error}")
            return
        if state is None or state == self._state:
            return
        self._state = state
        self._queue.arrange(state.sweeps, state.paused)
        resting = f"; paused: {', '.join(state.paused)}" if state.paused else ""
        note(f"the queue was changed: {', '.join(state.sweeps)}{resting}")
