"""What happened during a run, as it happened: a log of events and one of attempts, kept in the store.

A log is only ever appended to, in chunks that are replaced whole, so it is readable after any kill; at most
the last second is lost. It is for people: nothing is decided by it. This module must not know drivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.paths import SweepPaths
from jobs.store import Store, StoreError

INTERVAL = 1.0  # seconds between two writes, at least
CHUNK = 256  # lines of a file after which the next one is begun

EventKind = Literal[
    "began",  # the run: what is left to do
    "joined",  # a worker is ready
    "node_joined",
    "node_lost",
    "lost",  # a worker, with what it did
    "failed",  # an attempt, by an exception
    "storage",  # nothing is begun for a while
    "set_aside",
    "duplicated",
    "replanned",
    "absent",  # no worker for long
    "drain",
    "scored",  # a configuration
    "ended",
    "note",  # anything else that was said
]
How = Literal["finished", "failed", "given_up", "lost", "needless"]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


L = TypeVar("L", bound=_Line)


class Event(_Line):
    """One thing that happened."""

    at: datetime
    kind: EventKind
    text: str  # as it was shown
    configuration: str = ""  # its name
    first: int | None = None  # of the shard
    last: int | None = None  # exclusive
    worker: int | None = None
    node: str = ""
    device: str = ""
    cause: str = ""
    requeued: int = 0  # shards
    seconds_lost: float = 0.0  # of work

    @property
    def shard(self) -> str:
        """`[0, 64)`, or nothing where none is concerned."""
        return "" if self.first is None else f"[{self.first}, {self.last})"


class Attempt(_Line):
    """One assignment with one worker, from its begin to whatever end."""

    at: datetime  # of its end
    kind: str  # of the assignment
    fingerprint: str
    first: int
    last: int  # exclusive
    worker: int
    node: str
    device: str  # `cpu`, or what kind of GPU
    seconds: float
    how: How
    cause: str = ""
    images: int = 0  # committed
    evaluations: int = 0  # network evaluations x images
    seconds_lost: float = 0.0


class Journal:
    """Appends lines to a log, in files of `CHUNK` lines."""

    def __init__(
        self, store: Store, name: Callable[[int], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """name: of the file with that number, from 1."""
        self._store = store
        self._name = name
        self._clock = clock
        self._number = 1
        self._lines: list[str] = []
        self._written = 0  # of these lines
        self._tried = -INTERVAL  # when writing was tried last

    def add(self, line: Event | Attempt) -> None:
        """Append; written by the next flush."""
        self._lines.append(line.model_dump_json(exclude_defaults=True) + "\n")

    def flush(self, *, at_once: bool = False) -> None:
        """Write what is new, unless that was done within the last second. Raises OSError; nothing is lost."""
        now = self._clock()
        if self._written == len(self._lines) or (not at_once and now - self._tried < INTERVAL):
            return
        self._tried = now
        self._store.put(self._name(self._number), "".join(self._lines).encode())
        self._written = len(self._lines)
        if self._written >= CHUNK:
            self._number += 1
            self._lines, self._written = [], 0


def event_log(store: Store, paths: SweepPaths, run_id: str) -> Journal:
    """The log of a run's events."""
    return Journal(store, partial(paths.events, run_id))


def attempt_log(store: Store, paths: SweepPaths, run_id: str) -> Journal:
    """The log of a run's attempts."""
    return Journal(store, partial(paths.attempts, run_id))


def events_of(store: Store, paths: SweepPaths, run_id: str) -> list[Event]:
    """All events of a run, in their order. Raises StoreError for a file that is no log."""
    return list(_read(store, paths.events_folder(run_id), Event))


def attempts_of(store: Store, paths: SweepPaths, run_id: str) -> Iterator[Attempt]:
    """All attempts of a run, in the order of their ends. Raises StoreError for a file that is no log."""
    return _read(store, paths.attempts_folder(run_id), Attempt)


def _read(store: Store, folder: str, kind: type[L]) -> Iterator[L]:
    for name in sorted(entry.name for entry in store.list(folder)):
        try:
            for line in store.get(name).splitlines():
                yield kind.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise StoreError(
                f"{name} in the store {store.url} is no log of {kind.__name__.lower()}s: {problem}; "
                "remove it: nothing depends on it but what is told of that run"
            ) from None


def utc_now() -> datetime:
    """To the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
