"""The order in which sweeps are served that run together, and which of them rest: a small file in the store.

The driver writes it when it begins and reads it while it runs; `sdesweep queue` changes it at any time, with
or without a driver. Whoever writes last wins. This module must not know workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.paths import QUEUES, StorePaths
from jobs.specs.sections import PlainName
from jobs.storage.records import read_record
from jobs.store import Store


class UnknownSweepError(ValueError):
    """A sweep was named that the queue does not hold."""


class QueueState(BaseModel):
    """Names of sweeps: all in the order in which they are served, and those that are paused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    name: PlainName
    sweeps: tuple[PlainName, ...]
    paused: tuple[PlainName, ...] = ()

    def first(self, names: Sequence[str]) -> QueueState:
        """With these sweeps in front, in this order. Raises UnknownSweepError."""
        self._known(names)
        wanted = tuple(dict.fromkeys(names))
        rest = tuple(sweep for sweep in self.sweeps if sweep not in wanted)
        return self.model_copy(update={"sweeps": wanted + rest})

    def pause(self, names: Sequence[str]) -> QueueState:
        """With these sweeps resting, all if none is named. Raises UnknownSweepError."""
        self._known(names)
        resting = {*self.paused, *(names or self.sweeps)}
        return self.model_copy(update={"paused": tuple(s for s in self.sweeps if s in resting)})

    def unpause(self, names: Sequence[str]) -> QueueState:
        """With these sweeps served again, all if none is named. Raises UnknownSweepError."""
        self._known(names)
        served = set(names or self.sweeps)
        return self.model_copy(update={"paused": tuple(s for s in self.paused if s not in served)})

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.sweeps:
                raise UnknownSweepError(
                    f"the queue {self.name!r} holds no sweep {name!r}, but {', '.join(self.sweeps)}"
                )


def read_queue(store: Store, name: str) -> QueueState | None:
    """The queue of that name, or None. Raises StoreError when the file is something else."""
    remedy = "remove it, and the next run begins it anew"
    try:
        return read_record(store, StorePaths().queue(name), QueueState, "queue", remedy)
    except FileNotFoundError:
        return None


def write_queue(store: Store, queue: QueueState) -> None:
    """Replace the queue of that name."""
    store.put(StorePaths().queue(queue.name), queue.model_dump_json(indent=1).encode())


def begin_queue(store: Store, name: str, sweeps: Sequence[str]) -> QueueState:
    """The queue of a run that begins: what is known of these very sweeps stays, else they form a new one."""
    known = read_queue(store, name)
    if known is not None and set(known.sweeps) == set(sweeps):
        return known
    queue = QueueState(name=name, sweeps=tuple(sweeps))
    write_queue(store, queue)
    return queue


def queue_names(store: Store) -> list[str]:
    """All queues of the store, sorted."""
    names = (entry.name for entry in store.list(QUEUES))
    return sorted(name.removeprefix(f"{QUEUES}/").removesuffix(".json") for name in names)
