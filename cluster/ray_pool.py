"""The worker pool made of Ray actors.

Actors are plain (they end with the driver) and Ray restarts them for ever, on another machine if need be; Ray
never retries a task, because the driver gives it to whoever is ready. Nothing waits without a limit of time.
It must not know what a shard is.
"""

from __future__ import annotations

import math
import socket
import time
from collections import Counter, deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError, RayTaskError

from cluster.demand import Demand, Machine
from cluster.pool import Advanced, Event, Failed, Lost, NodeJoined, NodeLost, PoolError, Ready
from cluster.ray_worker import CONTROL, MAX_TRACEBACK, Place, ShardWorker, node_name
from jobs.compute.assignment import Assignment

POLL = 2.0  # seconds between questions to a busy worker
GROW = 5.0  # seconds between looks at how many machines there are
HEADLESS = 10.0  # seconds without the head, until the cluster counts as lost: Ray ends this process after 60
REACH = 2.0  # seconds that the head has to accept a connection
ANSWER = 60.0  # seconds that fetching an answer may take that is there already
LOG_LINES = 5  # of a lost worker's log, in the message

RAY_LINES = (":job_id:", ":actor_name:", ":task_name:")  # Ray's own marks in the logs of workers

_remote: Any = ray.remote  # whose type hints do not know concurrency_groups, though its documentation does
_Actor = _remote(concurrency_groups={CONTROL: 1})(ShardWorker)


class RayPool:
    """Actors on the cluster that this process is connected to: more as machines join, until the tail."""

    def __init__(self, store: str, demand: Demand, work: int) -> None:
        """store: its URL, which must mean the same on every machine. work: most workers of use."""
        self._store = store
        self._demand = demand
        self._work = work
        self._growing = True  # until workers are given back
        self._begun = 0  # workers so far
        self._actors: dict[int, Any] = {}
        self._places: dict[int, Place] = {}
        self._hellos: dict[ray.ObjectRef, int] = {}
        self._tasks: dict[ray.ObjectRef, int] = {}
        self._assignments: dict[int, Assignment] = {}
        self._attempts: Counter[int] = Counter()  # assignments so far, by worker
        self._questions: dict[ray.ObjectRef, int] = {}
        self._asked = 0.0
        self._nodes: dict[str, str] = {}  # machines that are there: Ray's id -> name
        self._head = ray.get_runtime_context().gcs_address  # host:port
        self._head_seen = time.monotonic()
        self._headless = False
        self._looked = time.monotonic()
        self._grow()

    def wait(self, timeout: float) -> list[Event]:
        if time.monotonic() - self._asked >= POLL:
            self._ask()
        changes: list[Event] = []
        if time.monotonic() - self._looked >= GROW and self._head_answers():
            self._grow()
            changes = self._node_changes()
        if changes:
            return changes
        references = [*self._tasks, *self._hellos, *self._questions]
        if not references:
            time.sleep(timeout)
            return []
        try:
            ready, rest = ray.wait(references, num_returns=1, timeout=timeout, fetch_local=False)
            if ready and rest:
                ready += ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
            return [event for reference in ready if (event := self._receive(reference)) is not None]
        except (RayError, ConnectionError) as error:
            raise PoolError(f"the connection to Ray is lost: {_brief(error)}") from error

    def submit(self, worker: int, assignment: Assignment) -> None:
        self._attempts[worker] += 1
        task = self._actors[worker].perform.remote(assignment, self._attempts[worker])
        self._tasks[task] = worker
        self._assignments[worker] = assignment

    def drain(self, workers: Collection[int] | None = None) -> None:
        for worker in self._assignments:
            if workers is None or worker in workers:
                self._actors[worker].drain.remote(self._attempts[worker])

    def end(self, worker: int) -> None:
        ray.kill(self._actors[worker], no_restart=False)

    def release(self, worker: int) -> None:
        self._growing = False
        del self._places[worker]
        ray.kill(self._actors.pop(worker), no_restart=True)

    def release_waiting(self) -> None:
        self._growing = False
        for worker in self._hellos.values():
            ray.kill(self._actors.pop(worker), no_restart=True)
        self._hellos.clear()

    def close(self) -> None:
        for actor in () if self._headless else self._actors.values():
            ray.kill(actor, no_restart=True)
        for kept in (self._actors, self._hellos, self._tasks, self._questions, self._assignments):
            kept.clear()

    # --- actors -----------------------------------------------------------------------------------------

    def _head_answers(self) -> bool:
        """Whether the head can be asked, which would wait for it. Raises PoolError when it stays away."""
        now = self._looked = time.monotonic()
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=REACH).close()
        except OSError as error:
            self._headless = now - self._head_seen >= HEADLESS
            if self._headless:
                raise PoolError(
                    f"the head of the cluster at {self._head} is gone ({error}), and its workers with it; "
                    "`sdesweep resume` goes on, on this cluster when it is back or on another"
                ) from error
            return False
        self._head_seen = now
        return True

    def _grow(self) -> None:
        """Ask for the workers that the machines which have joined can hold."""
        if self._growing:
            wanted = self._demand.wanted(self._demand.room(machines()), self._work)
            while self._begun < wanted:
                self._start(self._begun)
                self._begun += 1

    def _node_changes(self) -> list[Event]:
        """Machines that joined or were lost since the last look."""
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        lost = [NodeLost(self._nodes.pop(key)) for key in self._nodes.keys() - alive.keys()]
        joined = [
            NodeJoined(node_name(node["NodeManagerHostname"], key), _size(node["Resources"]))
            for key, node in alive.items()
            if key not in self._nodes
        ]
        self._nodes |= {key: node_name(node["NodeManagerHostname"], key) for key, node in alive.items()}
        return [*lost, *joined]

    def _start(self, worker: int) -> None:
        threads = max(1, math.floor(self._demand.cpus))
        best, *others = self._demand.selectors or (None,)
        self._actors[worker] = _Actor.options(
            num_cpus=self._demand.cpus,
            num_gpus=self._demand.gpus,
            memory=self._demand.memory or None,
            label_selector=best,
            fallback_strategy=[{"label_selector": other} for other in others] or None,
            max_restarts=-1,
            max_task_retries=0,  # and no runtime_env: processes that Ray has begun beforehand can be used
        ).remote(worker, self._store, threads, self._demand.gpus)
        self._greet(worker)

    def _greet(self, worker: int) -> None:
        self._hellos[self._actors[worker].hello.remote()] = worker

    def _ask(self) -> None:
        """Ask busy workers how far they are, unless they still owe an answer."""
        self._asked = time.monotonic()
        for worker in self._assignments.keys() - set(self._questions.values()):
            self._questions[self._actors[worker].advanced.remote()] = worker

    # --- answers ----------------------------------------------------------------------------------------

    def _receive(self, reference: ray.ObjectRef) -> Event | None:
        if reference in self._questions:
            return self._answer(reference)
        if reference in self._hellos:
            return self._greeting(reference)
        return self._end(reference)

    def _answer(self, reference: ray.ObjectRef) -> Event | None:
        worker = self._questions.pop(reference)
        try:
            images, evaluations, unsaved = ray.get(reference, timeout=ANSWER)
        except RayError:  # the worker's task tells its end
            return None
        return Advanced(worker, images, evaluations, unsaved)

    def _greeting(self, reference: ray.ObjectRef) -> Event | None:
        worker = self._hellos.pop(reference)
        try:
            place = ray.get(reference, timeout=ANSWER)
        except ActorUnavailableError:  # not up again yet; Ray lets each question wait a little
            self._greet(worker)
            return None
        except ActorDiedError as error:
            if error.actor_init_failed:
                raise PoolError(f"workers cannot start: {_brief(error)}") from error
            self._start(worker)
            return Lost(worker, None, _brief(error))
        self._places[worker] = place
        return Ready(worker, str(place), node_name(place.host, place.node), place.device)

    def _end(self, reference: ray.ObjectRef) -> Event:
        worker = self._tasks.pop(reference)
        assignment = self._assignments.pop(worker)
        try:
            event: Event = ray.get(reference, timeout=ANSWER)
        except RayTaskError as error:  # its answer could not be made, or not be read
            return Failed(worker, assignment, "code", _brief(error), str(error)[-MAX_TRACEBACK:])
        except RayError as error:
            place = self._places.pop(worker)
            if isinstance(error, ActorDiedError):
                self._start(worker)
            else:  # Ray is restarting it
                self._greet(worker)
            return Lost(worker, assignment, _obituary(place, error))
        return event


def machines() -> list[Machine]:
    """The machines of the cluster that are there now."""
    return [Machine(node["Resources"], node.get("Labels", {})) for node in ray.nodes() if node["Alive"]]


def _size(resources: dict[str, float]) -> str:
    parts = [f"{resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU") if resources.get(name)]
    return " and ".join(parts) or "nothing"


def _obituary(place: Place, error: RayError) -> str:
    """Where a worker ran, how it ended, and the last lines of its log where they can be read from here."""
    text = f"{place}: {_brief(error)}"
    lines = _last_lines(place.log) if place.host == socket.gethostname() else None
    if lines is None:
        return f"{text}; its log: {place.log} on {place.host}"
    return "\n".join([text, *(f"    {line}" for line in lines)])


def _last_lines(log: str) -> list[str] | None:
    """The last lines that a worker printed; None where its log cannot be read."""
    try:
        with Path(log).open(encoding="utf-8", errors="replace") as file:
            written = (line.rstrip() for line in file)
            return list(
                deque((line for line in written if line and not line.startswith(RAY_LINES)), LOG_LINES)
            )
    except OSError:  # of another user, or removed
        return None


def _brief(error: Exception) -> str:
    """One line: Ray's messages and remote tracebacks say last what happened."""
    if isinstance(error, ActorUnavailableError):
        return "its process ended or cannot be reached"
    if isinstance(error, OutOfMemoryError):
        return "its process was ended because the machine was running out of memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
