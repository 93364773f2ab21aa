"""One run of a sweep, or of several, from beginning to end: lease, plan, work, results, report, record.

The order of things, and what is told to whom. The place of work is given by the caller as something to open;
this module must not know Ray.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from types import FrameType

from cluster.account import Account, Outcome
from cluster.display import Display
from cluster.driver import Driver
from cluster.joint_observer import JointObserver, Standing
from cluster.joint_queue import JointQueue
from cluster.pool import PoolError, WorkerPool
from cluster.prepare import Goal, Prepared, prepare, shards_left_within
from jobs import runrecord
from jobs.assignment import Assignment, Receipt
from jobs.lease import Lease, LeaseLostError, held
from jobs.ledger import Failure, set_aside
from jobs.paths import SweepPaths
from jobs.queue_state import begin_queue
from jobs.runrecord import RunRecord
from jobs.store import Store, check_store
from jobs.sweep import Sweep

RECORD_INTERVAL = 10.0  # seconds between two versions of the run record
MAX_NOTES = 500  # kept in the run record, the last ones

OUTCOMES: dict[int, runrecord.Outcome] = {0: "done", 1: "failed", 75: "incomplete"}

#: Opens the place of work, for so many assignments at once; notes of opening it go to the callable.
OpenPool = Callable[[int, Callable[[str], None]], AbstractContextManager[WorkerPool]]


def run_sweep(
    store: Store,
    sweep: Sweep,
    open_pool: OpenPool,
    display: Display,
    command: list[str],
    closing: Callable[[], str] = lambda: "",
) -> Outcome:
    """`run_sweeps` of one sweep, in a queue of its own name."""
    return run_sweeps(store, [sweep], open_pool, display, command, sweep.name, closing)


def run_sweeps(
    store: Store,
    sweeps: Sequence[Sweep],
    open_pool: OpenPool,
    display: Display,
    command: list[str],
    queue: str,
    closing: Callable[[], str] = lambda: "",
) -> Outcome:
    """Do what is left of some sweeps on one pool, in the order of their queue.

    The results and the report of a sweep are written as soon as its own work is done.

    command: as typed, for the run records.
    queue: name under which the store keeps the order of the sweeps (`jobs/queue_state.py`).
    closing: why no work may be done now; empty while it may.
    Raises LeaseHeldError when another driver is at work on one of them, NotRunnableError, and OSError when
    the store cannot be used at the start; StoreError when it cannot keep markers.
    """
    check_store(store)
    with ExitStack() as stack:
        observers = {
            sweep.name: stack.enter_context(_joined(store, sweep, display, command)) for sweep in sweeps
        }
        prepared = {sweep.name: prepare(store, sweep, observers[sweep.name].note) for sweep in sweeps}
        for name, each in prepared.items():
            observers[name].begin(each)
        display.begin(_named_goals(prepared))
        joint = JointQueue({name: each.queue for name, each in prepared.items()})
        account = Account({})
        for each in prepared.values():
            account.tallies.update(each.account.tallies)
        standing = Standing(store, begin_queue(store, queue, list(prepared)), joint)
        observer = JointObserver(observers, joint, standing, display)
        outcome = Outcome(complete=True)
        if not all(each.idle for each in prepared.values()):
            outcome = _work(joint, account, open_pool, observer, closing)
        observer.end(outcome, account)
    return outcome


@contextmanager
def _joined(store: Store, sweep: Sweep, display: Display, command: list[str]) -> Iterator[_RunObserver]:
    """Hold a sweep's lease and keep its run record, which says so if the run is broken off."""
    paths = SweepPaths(sweep.name)
    check_store(store)
    with held(store, paths) as lease:
        record = runrecord.begin(store, paths, command)
        observer = _RunObserver(store, sweep, lease, display, record)
        try:
            yield observer
        finally:
            observer.end(Outcome(complete=False, reason="interrupted"))


def _named_goals(prepared: Mapping[str, Prepared]) -> dict[str, Goal]:
    """Goals of all sweeps, called by their sweep too where there are several."""
    if len(prepared) == 1:
        return next(iter(prepared.values())).goals
    return {
        key: replace(goal, name=f"{sweep}: {goal.name}")
        for sweep, each in prepared.items()
        for key, goal in each.goals.items()
    }


def _work(
    queue: JointQueue,
    account: Account,
    open_pool: OpenPool,
    observer: JointObserver,
    closing: Callable[[], str],
) -> Outcome:
    if reason := closing():
        return Outcome(complete=False, reason=reason, closed=True)
    try:
        with open_pool(len(queue) or len(account.tallies), observer.note) as pool:
            driver = Driver(pool, queue, account, observer, closing=closing)
            with _signals_stop(driver):  # only now: Ray puts handlers of its own when it starts
                return driver.run()
    except (PoolError, LeaseLostError) as error:
        return Outcome(complete=False, failed=account.failed, reason=str(error))


@contextmanager
def _signals_stop(driver: Driver) -> Iterator[None]:
    """SIGINT and SIGTERM drain; the second one ends the run at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        driver.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _RunObserver:
    """What one sweep does with what the driver tells: its run record, its lease, its list of failures."""

    def __init__(self, store: Store, sweep: Sweep, lease: Lease, display: Display, record: RunRecord) -> None:
        self._store = store
        self._paths = SweepPaths(sweep.name)
        self._configurations = {item.fingerprint: item for item in sweep.configurations}
        self._lease = lease
        self._display = display
        self._record = record
        self._seconds: Counter[str] = Counter()
        self._closed = False
        self.failed = 0  # assignments set aside
        self._saved_at = time.monotonic()

    def name(self, assignment: Assignment) -> str:
        configuration = self._configurations[assignment.fingerprint]
        if assignment.kind != "sample":
            return f"{configuration.name}: {assignment.kind}"
        return f"{configuration.name}: shard [{assignment.first}, {assignment.last})"

    def begin(self, prepared: Prepared) -> None:
        """The work is planned."""
        self._record.shards = prepared.shards

    def note(self, text: str) -> None:
        self._display.note(text)
        self.remember(text)

    def remember(self, text: str) -> None:
        """Keep a note in the run record."""
        self._record.notes = [*self._record.notes, text][-MAX_NOTES:]

    def tick(self, account: Account) -> None:
        self._lease.check()
        if time.monotonic() - self._saved_at >= RECORD_INTERVAL:
            self._saved_at = time.monotonic()
            self.count(account)
            with self._spared():
                runrecord.save(self._store, self._paths, self._record)

    def count(self, account: Account) -> None:
        """Bring the run record up to date."""
        own = (self._paths.configuration(fingerprint).root for fingerprint in self._configurations)
        tallies = [account.tallies[configuration] for configuration in own]
        self._record.workers = max(self._record.workers, len(account.workers))
        self._record.retries = dict(account.retries)
        self._record.shards_done = sum(tally.done for tally in tallies)
        self._record.shards_failed = self.failed
        self._record.images = sum(tally.images for tally in tallies)
        self._record.evaluations = sum(tally.evaluations for tally in tallies)
        self._record.seconds = dict(self._seconds)

    def close(self, outcome: Outcome, account: Account) -> None:
        """Write the results if all is done, and how the run ended."""
        self.count(account)
        if outcome.complete:
            from jobs.report import write_report  # draws pictures: only now is it needed

            write_report(self._store, self._paths.sweep)
        self.end(outcome)

    def end(self, outcome: Outcome) -> None:
        """Close the run record, unless it is closed already."""
        if self._closed:
            return
        self._closed = True
        if outcome.reason:
            self._record.notes = [*self._record.notes, outcome.reason]
        code = outcome.exit_code
        with self._spared():
            runrecord.end(self._store, self._paths, self._record, OUTCOMES[code], code)

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """A record that cannot be written is not worth a run."""
        try:
            yield
        except OSError as error:
            self.note(f"the run record could not be written: {error}")

    def finished(self, receipt: Receipt) -> None:
        self._seconds.update(receipt.seconds)
        for note in receipt.notes:
            self.note(f"{self.name(receipt.assignment)}: {note}")

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self.failed += 1
        self.note(f"{self.name(assignment)} is set aside after {attempts} attempts; the rest goes on")
        if assignment.kind == "sample":
            samples = range(assignment.first, assignment.last)
            paths = self._paths.configuration(assignment.fingerprint)
            set_aside(self._store, paths, Failure(samples, attempts, error))
        else:
            self.note(error)

    def replan(self, assignment: Assignment) -> list[range]:
        configuration = self._configurations[assignment.fingerprint]
        samples = range(assignment.first, assignment.last)
        return shards_left_within(self._store, self._paths.sweep, configuration, samples)
