"""The actor that performs assignments: one to a CPU or to a GPU slot, keeping its model between them.

Errors of the work are answers here, not exceptions: nothing needs to be unpickled to learn what went wrong.
It must not know the queue or other workers.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from dataclasses import dataclass

import ray

from cluster.pool import Failed, Finished, GivenUp
from jobs.compute.assignment import Assignment, Drained

CONTROL = "control"  # concurrency group whose methods answer while an assignment runs
#: A worker computes in as many threads as it was given CPUs, whatever the libraries think of the machine.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MAX_TRACEBACK = 20_000  # characters kept, the last ones


@dataclass(frozen=True)
class Place:
    """Where a worker runs."""

    host: str
    pid: int
    device: str  # `cpu`, or what kind of GPU
    log: str  # path on its host
    node: str  # Ray's id of it

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}, {self.device}"


def node_name(host: str, node: str) -> str:
    """What people call a machine: its host, told apart from others of that name by Ray's id."""
    return f"{host} ({node[:6]})"


class ShardWorker:
    """Also the `Context` of the assignment that it performs."""

    def __init__(self, number: int, store: str, threads: int, gpus: float) -> None:
        """gpus: reserved for it; 0: it computes on the CPU, though Ray hides no device from it."""
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # read when libraries are imported
        import torch

        from jobs.compute.worker import WorkerState
        from jobs.store import open_store

        self._number = number
        self._threads = threads
        torch.set_num_threads(threads)
        # Ray's own count may be made up.
        self._device = "cuda" if gpus and torch.cuda.is_available() else "cpu"
        self._store = open_store(store)
        self._state = WorkerState(self._device)
        self._attempt = 0
        self._given_up = 0  # this attempt and those before it are to give up
        self._advanced = (0, 0)
        self._saved_at = time.monotonic()

    def hello(self) -> Place:
        """Answers once the worker can take assignments."""
        import torch

        device = torch.cuda.get_device_name() if self._device == "cuda" else self._device
        node = ray.get_runtime_context().get_node_id()
        return Place(socket.gethostname(), os.getpid(), device, os.readlink("/proc/self/fd/2"), node)

    def perform(self, assignment: Assignment, attempt: int) -> Finished | Failed | GivenUp:
        """Do an assignment, to whatever end. attempt: 1 for the worker's first one, 2 for the next."""
        import torch

        from cluster.causes import cause_of
        from jobs.work.perform import perform

        torch.set_num_threads(self._threads)  # counts for the calling thread, which need not be __init__'s
        self._attempt = attempt
        self._advanced = (0, 0)
        self._saved_at = time.monotonic()
        try:
            return Finished(self._number, perform(assignment, self._store, self._state, self))
        except Drained:
            return GivenUp(self._number, assignment)
        except Exception as error:  # whatever the work raises, the driver decides what becomes of it
            text = f"{type(error).__name__}: {error}"
            trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
            return Failed(self._number, assignment, cause_of(error), text, trace)

    @ray.method(concurrency_group=CONTROL)
    def advanced(self) -> tuple[int, int, float]:
        """Images and evaluations of the running assignment so far, and seconds of work not saved yet."""
        return *self._advanced, time.monotonic() - self._saved_at

    @ray.method(concurrency_group=CONTROL)
    def drain(self, attempt: int) -> None:
        """Make an assignment snapshot and give up, also when it has not been begun here yet."""
        self._given_up = attempt

    def should_stop(self) -> bool:
        return self._attempt <= self._given_up

    def progress(self, images: int, evaluations: int) -> None:
        self._advanced = (images, evaluations)

    def saved(self) -> None:
        self._saved_at = time.monotonic()
