"""One run of a sweep from beginning to end: lease, plan, work, results, report, record.

The order of things, and what is told to whom. The place of work is given by the caller as something to open;
this module must not know Ray.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from cluster.account import Account, Outcome
from cluster.display import Display
from cluster.driver import Driver
from cluster.pool import PoolError, WorkerPool
from cluster.prepare import Prepared, prepare, shards_left_within
from jobs import runrecord
from jobs.assignment import Assignment, Receipt
from jobs.lease import Lease, LeaseLostError, held
from jobs.ledger import Failure, set_aside
from jobs.paths import SweepPaths
from jobs.runrecord import RunRecord
from jobs.store import Store
from jobs.sweep import Sweep

RECORD_INTERVAL = 10.0  # seconds between two versions of the run record
MAX_NOTES = 500  # kept in the run record, the last ones

OUTCOMES: dict[int, runrecord.Outcome] = {0: "done", 1: "failed", 75: "incomplete"}

#: Opens the place of work, for so many assignments at once; notes of opening it go to the callable.
OpenPool = Callable[[int, Callable[[str], None]], AbstractContextManager[WorkerPool]]


def run_sweep(
    store: Store, sweep: Sweep, open_pool: OpenPool, display: Display, command: list[str]
) -> Outcome:
    """Do what is left of a sweep, and write its results and its report unless the run was stopped.

    command: as typed, for the run record.
    Raises LeaseHeldError when another driver is at work on it, NotRunnableError, and OSError when the store
    cannot be used at the start.
    """
    paths = SweepPaths(sweep.name)
    with held(store, paths) as lease:
        record = runrecord.begin(store, paths, command)
        observer = _RunObserver(store, sweep, lease, display, record)
        outcome = Outcome(complete=False, reason="interrupted")
        try:
            prepared = prepare(store, sweep, observer.note)
            record.shards = prepared.shards
            display.begin(prepared.goals)
            worked = Outcome(complete=True) if prepared.idle else _work(prepared, open_pool, observer)
            if worked.complete:
                from jobs.report import write_report  # draws pictures: only now is it needed

                write_report(store, sweep.name)
            outcome = worked
        finally:
            observer.end(outcome)
    return outcome


def _work(prepared: Prepared, open_pool: OpenPool, observer: _RunObserver) -> Outcome:
    account = prepared.account
    try:
        with open_pool(len(prepared.queue) or len(account.tallies), observer.note) as pool:
            driver = Driver(pool, prepared.queue, account, observer)
            with _signals_stop(driver):  # only now: Ray puts handlers of its own when it starts
                return driver.run()
    except (PoolError, LeaseLostError) as error:
        return Outcome(complete=False, failed=account.failed, reason=str(error))
    finally:
        observer.count(account)


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
    """Passes on what the driver tells: to the display, the run record and the lists of what was set aside."""

    def __init__(self, store: Store, sweep: Sweep, lease: Lease, display: Display, record: RunRecord) -> None:
        self._store = store
        self._paths = SweepPaths(sweep.name)
        self._configurations = {item.fingerprint: item for item in sweep.configurations}
        self._lease = lease
        self._display = display
        self._record = record
        self._seconds: Counter[str] = Counter()
        self._saved_at = time.monotonic()

    def name(self, assignment: Assignment) -> str:
        configuration = self._configurations[assignment.fingerprint]
        if assignment.kind != "sample":
            return f"{configuration.name}: {assignment.kind}"
        return f"{configuration.name}: shard [{assignment.first}, {assignment.last})"

    def note(self, text: str) -> None:
        self._display.note(text)
        self._record.notes = [*self._record.notes, text][-MAX_NOTES:]

    def tick(self, account: Account) -> None:
        self._lease.check()
        self._display.tick(account)
        if time.monotonic() - self._saved_at >= RECORD_INTERVAL:
            self._saved_at = time.monotonic()
            self.count(account)
            with self._spared():
                runrecord.save(self._store, self._paths, self._record)

    def count(self, account: Account) -> None:
        """Bring the run record up to date."""
        tallies = account.tallies.values()
        self._record.workers = max(self._record.workers, len(account.workers))
        self._record.retries = dict(account.retries)
        self._record.shards_done = sum(tally.done for tally in tallies)
        self._record.shards_failed = account.failed
        self._record.images = sum(tally.images for tally in tallies)
        self._record.evaluations = sum(tally.evaluations for tally in tallies)
        self._record.seconds = dict(self._seconds)

    def end(self, outcome: Outcome) -> None:
        """Close the run record."""
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
