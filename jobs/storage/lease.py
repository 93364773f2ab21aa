"""One driver for each sweep: an advisory lease with a heartbeat.

Epochs 1, 2, 3, ... are files that are written once; the highest is the holder. A new driver takes the next
epoch when the holder has released it or is dead, and of two that try the store lets one win. A holder that
was replaced sees the higher epoch at its next heartbeat. Should all this fail, the commit protocol still
keeps the data right. This module knows no driver.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.paths import SweepPaths, lease_epoch
from jobs.store import Store, StoreError

INTERVAL = 10.0  # seconds between heartbeats
MISSED = 3  # heartbeats after which a holder is taken for dead

_log = logging.getLogger(__name__)


class LeaseHeldError(Exception):
    """Another driver is at work on this sweep; the message says where, and how to go on."""


class LeaseLostError(Exception):
    """Another driver has taken this sweep over."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Holder(_Record):
    """Who took an epoch."""

    epoch: int
    host: str
    pid: int
    namespace: str | None  # boot and PID namespace: only there can the pid be looked up
    process_started: int | None  # clock ticks since boot, so that a reused pid is another process
    acquired: float  # seconds since 1970
    interval: float  # of its heartbeats, seconds


class Heartbeat(_Record):
    """The last sign of life."""

    beaten: float  # seconds since 1970
    released: bool


@dataclass(frozen=True)
class LeaseState:
    """The newest epoch as storage shows it."""

    holder: Holder
    heartbeat: Heartbeat
    alive: bool

    @property
    def age(self) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, time.time() - self.heartbeat.beaten)


def inspect(store: Store, paths: SweepPaths) -> LeaseState | None:
    """The newest epoch, or None when no driver ever took the sweep.

    Raises StoreError when its file cannot be read: nobody can say then who holds the sweep.
    """
    epochs = _epochs(store, paths)
    if not epochs:
        return None
    name = paths.lease(max(epochs))
    try:
        holder = Holder.model_validate_json(store.get(name))
    except FileNotFoundError:  # a successor has tidied up: it holds a higher epoch
        return inspect(store, paths)
    except ValidationError as error:
        raise StoreError(
            f"{name} in {store.url} is damaged; remove it if no driver is at work on {paths.sweep!r}"
        ) from error
    try:
        heartbeat = Heartbeat.model_validate_json(store.get(paths.heartbeat(holder.epoch)))
    except (FileNotFoundError, ValidationError):  # it has just begun; a live one writes the next one soon
        heartbeat = Heartbeat(beaten=holder.acquired, released=False)
    return LeaseState(holder, heartbeat, _alive(holder, heartbeat))


class Lease:
    """A lease that this process holds."""

    def __init__(self, store: Store, paths: SweepPaths, holder: Holder) -> None:
        self._store = store
        self._paths = paths
        self._lost: LeaseLostError | None = None
        self.holder = holder

    def check(self) -> None:
        """Raise LeaseLostError when a heartbeat found that another driver took the sweep. Costs nothing."""
        if self._lost:
            raise self._lost

    def heartbeat(self) -> None:
        """Give a sign of life. Raises LeaseLostError when another driver has taken the sweep."""
        if max(_epochs(self._store, self._paths), default=0) != self.holder.epoch:
            state = inspect(self._store, self._paths)
            by = f"process {state.holder.pid} on {state.holder.host}" if state else "nobody"
            self._lost = LeaseLostError(
                f"the sweep {self._paths.sweep!r} was taken over by {by}; what this run committed stays"
            )
        self.check()
        self._beat(released=False)

    def release(self) -> None:
        """Say that the sweep is free, unless it is known to be somebody else's."""
        if self._lost is None:
            self._beat(released=True)

    def _beat(self, *, released: bool) -> None:
        beat = Heartbeat(beaten=time.time(), released=released)
        self._store.put(self._paths.heartbeat(self.holder.epoch), beat.model_dump_json().encode())


def acquire(store: Store, paths: SweepPaths, interval: float = INTERVAL) -> Lease:
    """Take the lease of a sweep. Raises LeaseHeldError when a live driver holds it."""
    state = inspect(store, paths)
    if state and state.alive:
        raise LeaseHeldError(refusal(paths, state))
    holder = Holder(
        epoch=state.holder.epoch + 1 if state else 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        namespace=_namespace(),
        process_started=_process_started(os.getpid()),
        acquired=time.time(),
        interval=interval,
    )
    won = store.put_if_absent(paths.lease(holder.epoch), holder.model_dump_json().encode())
    newest = inspect(store, paths)
    if not won or newest is None or newest.holder != holder:
        raise LeaseHeldError(refusal(paths, newest))
    lease = Lease(store, paths, holder)
    lease.heartbeat()
    for epoch in _epochs(store, paths):
        if epoch < holder.epoch:
            store.delete(paths.lease(epoch))
            store.delete(paths.heartbeat(epoch))
    return lease


@contextmanager
def held(store: Store, paths: SweepPaths, interval: float = INTERVAL) -> Iterator[Lease]:
    """Hold the lease of a sweep for a block of work; a thread beats, `Lease.check` tells of a loss.

    Raises LeaseHeldError at the start when a live driver holds it.
    """
    lease = acquire(store, paths, interval)
    over = threading.Event()
    thread = threading.Thread(target=_keep_beating, args=(lease, over, interval), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join(timeout=interval)
        try:
            lease.release()
        except OSError as error:  # whoever comes next waits for the heartbeats that stay away
            _log.warning("the lease of %s could not be released: %s", paths.sweep, error)


def _keep_beating(lease: Lease, over: threading.Event, interval: float) -> None:
    while not over.wait(interval):
        try:
            lease.heartbeat()
        except LeaseLostError:
            return  # the lease remembers it for whoever checks
        except OSError as error:
            # Tried again at the next beat; while storage stays away, missed beats are the truth.
            _log.warning("no heartbeat in epoch %d: %s", lease.holder.epoch, error)


def refusal(paths: SweepPaths, state: LeaseState | None) -> str:
    """Why a sweep cannot be taken now, and how to go on."""
    if state is None:
        return f"the lease of the sweep {paths.sweep!r} is changing hands; try again"
    holder = state.holder
    since = datetime.fromtimestamp(holder.acquired, UTC).isoformat(timespec="seconds")
    return (
        f"the sweep {paths.sweep!r} is being run by process {holder.pid} on {holder.host} since {since}, "
        f"last heard of {state.age:.0f} s ago; stop it, or wait {MISSED * holder.interval:.0f} s if it died"
    )


def _epochs(store: Store, paths: SweepPaths) -> list[int]:
    """Those that are there; a heartbeat alone is what is left of one that was tidied up."""
    names = (entry.name for entry in store.list(paths.lease_folder) if entry.name.endswith(".json"))
    return [epoch for epoch in map(lease_epoch, names) if epoch is not None]


def _alive(holder: Holder, heartbeat: Heartbeat) -> bool:
    """False when it was released, its process is gone, or it missed too many heartbeats."""
    if heartbeat.released or time.time() - heartbeat.beaten > MISSED * holder.interval:
        return False
    if holder.namespace is not None and holder.namespace == _namespace():
        return holder.process_started is not None and _process_started(holder.pid) == holder.process_started
    return True


def _namespace() -> str | None:
    """Where pids mean the same as here: boot and PID namespace; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _process_started(pid: int) -> int | None:
    """Clock ticks between boot and the start of a process; None when it does not run (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # of any name
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
