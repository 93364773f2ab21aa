"""One run of a sweep, or of several, from beginning to end: lease, plan, work, results, report, record.

The order of things, and what is told to whom. The place of work is given by the caller as something to open;
this module must not know Ray.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType

from cluster.account import Account, Outcome
from cluster.display import Display
from cluster.driver import Driver
from cluster.joint_observer import JointObserver, Standing
from cluster.joint_queue import JointQueue
from cluster.own_hours import OwnHours, one_sentence
from cluster.pool import PoolError, WorkerPool
from cluster.prepare import Goal, Prepared, prepare
from cluster.run_observer import RunObserver
from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.storage import runrecord
from jobs.storage.lease import LeaseLostError, held
from jobs.storage.queue_state import begin_queue
from jobs.store import Store, check_store

#: Opens the place of work, for so many assignments at once; notes of opening it go to the callable.
OpenPool = Callable[[int, Callable[[str], None]], AbstractContextManager[WorkerPool]]

#: From a sweep to what is left of it: of a run, or of an evaluation of its images.
Preparing = Callable[[Store, Sweep, Callable[[str], None]], Prepared]


def run_sweep(
    store: Store,
    sweep: Sweep,
    open_pool: OpenPool,
    display: Display,
    command: list[str],
    closing: Callable[[], str] = lambda: "",
    preparing: Preparing = prepare,
) -> Outcome:
    """`run_sweeps` of one sweep, in a queue of its own name.

    closing: why no work may be done now; empty while it may.
    """

    def shut() -> dict[str, str]:
        reason = closing()
        return {sweep.name: reason} if reason else {}

    return run_sweeps(store, [sweep], open_pool, display, command, sweep.name, shut, preparing)


def run_sweeps(
    store: Store,
    sweeps: Sequence[Sweep],
    open_pool: OpenPool,
    display: Display,
    command: list[str],
    queue: str,
    shut: Callable[[], Mapping[str, str]] = dict,
    preparing: Preparing = prepare,
) -> Outcome:
    """Do what is left of some sweeps on one pool, in the order of their queue.

    The results and the report of a sweep are written as soon as its own work is done.

    command: as typed, for the run records.
    queue: name under which the store keeps the order of the sweeps (`jobs/storage/queue_state.py`).
    shut: sweeps on which no work may be done now, and why. The run ends when all that have work left are.
    preparing: gives the work that is left of a sweep.
    Raises LeaseHeldError when another driver is at work on one of them, NotRunnableError, and OSError when
    the store cannot be used at the start; StoreError when it cannot keep markers.
    """
    check_store(store)
    with ExitStack() as stack:
        observers = {
            sweep.name: stack.enter_context(_joined(store, sweep, display, command)) for sweep in sweeps
        }
        prepared = {sweep.name: preparing(store, sweep, observers[sweep.name].note) for sweep in sweeps}
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
        if waiting := tuple(name for name, each in prepared.items() if not each.idle):
            outcome = _work(joint, account, open_pool, observer, shut, waiting)
        try:
            observer.end(outcome, account)
        except OSError as error:
            outcome = Outcome(complete=False, failed=outcome.failed, reason=_storage_failed(error))
    return outcome


@contextmanager
def _joined(store: Store, sweep: Sweep, display: Display, command: list[str]) -> Iterator[RunObserver]:
    """Hold a sweep's lease and keep its run record, which says so if the run is broken off."""
    paths = SweepPaths(sweep.name)
    with held(store, paths) as lease:
        record = runrecord.begin(store, paths, command)
        observer = RunObserver(store, sweep, lease, display, record)
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
    shut: Callable[[], Mapping[str, str]],
    waiting: tuple[str, ...],
) -> Outcome:
    """waiting: sweeps that have work left."""
    if (closed := shut()).keys() >= set(waiting):
        reason = one_sentence({sweep: closed[sweep] for sweep in waiting})
        return Outcome(complete=False, reason=reason, closed=True, waiting=waiting)
    hours = OwnHours(shut, queue, account, observer.happened)
    queue.close(closed)
    for sweep in waiting:
        if sweep in closed:
            observer.note(f"{sweep} waits: {closed[sweep]}")
    try:
        with open_pool(len(queue) or len(account.tallies), observer.note) as pool:
            driver = Driver(pool, queue, account, observer, closing=partial(hours.closing, pool))
            with _signals_stop(driver):  # only now: Ray puts handlers of its own when it starts
                return replace(driver.run(), waiting=hours.waiting())
    except (PoolError, LeaseLostError) as error:
        return Outcome(complete=False, failed=account.failed, reason=str(error))
    except OSError as error:
        return Outcome(complete=False, failed=account.failed, reason=_storage_failed(error))


def _storage_failed(error: OSError) -> str:
    return f"storage failed while results were written ({error}); mend it and run again"


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
