"""Connecting to Ray: a cluster that is there, or one embedded in this process that ends with it.

The embedded cluster is small and quiet: no dashboard, no usage reports, little shared memory, its files in a
short temporary folder (names of Unix sockets are limited to 107 characters) that is removed at the end. Its
processes listen on every network interface, so it demands a token, in a file that only its user can read;
left to itself, Ray would write one for all to read. This module must not know what the workers do.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from cluster.access import MODE, find_token, use_token
from cluster.demand import UNDECIDED, Demand, Machine, describe_machines
from cluster.pool import PoolError, WorkerPool
from jobs.planning.hardware import Hardware, hardware_here
from jobs.specs.sections import Resources

_log = logging.getLogger(__name__)

OBJECT_STORE = 80 * 2**20  # bytes; receipts are all that passes through
JOIN_RETRIES = "3"  # of Ray's own, each of up to 40 seconds; its 20 keep a wrong token waiting for minutes
COMING = 1800.0  # seconds that an autoscaler has to bring the first machine
ANSWER = 120.0  # seconds that a machine has to say what it is like, PyTorch being imported there
NODE_LABEL = "ray.io/node-id"  # that Ray gives to every machine
REACH = 10.0  # seconds that a cluster's head has to accept a connection
MAX_TEMPORARY = 40  # characters of the temporary folder's name, so that Ray's sockets below it fit


@contextmanager
def open_ray_pool(
    store: str,
    address: str | None,
    demand: Demand,
    work: int,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[WorkerPool]:
    """Workers on a Ray cluster.

    store: URL, which must mean the same on every machine.
    address: of a running cluster ("auto", "host:port"); None for an embedded one.
    work: workers that there is something to do for. note: told of the cluster before it is joined.
    Raises PoolError when the cluster cannot be reached, or has no room for a worker and none is asked for
    whatever room there is.
    """
    note("starting Ray on this machine" if address is None else f"joining the Ray cluster at {address}")
    with _connected(address, demand):
        from cluster.ray_pool import RayPool, machines

        there = machines()
        if demand.least is None and not demand.room(there):
            raise PoolError(no_room(demand, there))
        pool = RayPool(store, demand, work)
        try:
            yield pool
        finally:
            pool.close()


def hardware_of(
    address: str | None, resources: Resources, workers: int | None, note: Callable[[str], None]
) -> Hardware:
    """What the machine is like that workers would live on first.

    Its GPUs are those that Ray counts, whether they are taken just now or not. Where workers are asked for
    whatever room there is, the first machine that can hold one is waited for.

    address: as in `open_ray_pool`; without one it is this machine, and Ray is not asked.
    Raises PoolError when the cluster cannot be reached, has no such machine, or it does not answer.
    """
    if address is None:
        return hardware_here()
    demand = Demand.of(resources, workers)
    with _connected(address, demand):
        import ray

        from cluster.ray_pool import machines

        there = machines()
        machine = demand.preferred(there)
        if machine is not None:  # the task sees all devices there, and waits for none
            gpus = machine.resources.get("GPU", 0.0)
            where: dict[str, Any] = {
                "num_cpus": 0,
                "label_selector": {NODE_LABEL: machine.labels[NODE_LABEL]},
            }
        elif demand.least is None:
            raise PoolError(no_room(demand, there))
        elif resources.gpus is None:
            raise PoolError(UNDECIDED)
        else:
            gpus = demand.gpus
            where = {"num_cpus": demand.cpus, "num_gpus": gpus, "memory": demand.memory or None}
            where["label_selector"] = next(iter(demand.selectors), None)
            note(f"waiting for a machine that can hold a worker, which takes {demand}")
        answer = ray.remote(hardware_here).options(**where).remote()
        try:
            found: Hardware = ray.get(answer, timeout=ANSWER if machine else COMING)
        except ray.exceptions.RayError as error:
            ray.cancel(answer)
            raise PoolError(f"no machine for workers said what it is like: {error}") from error
        return found.model_copy(update={"gpus": math.ceil(gpus)})


def no_room(demand: Demand, there: Sequence[Machine]) -> str:
    """Why no worker can live on these machines, and what to do."""
    return (
        f"no machine has room for a worker, which takes {demand}; there are {describe_machines(there)}: "
        "change `resources` in the spec, or give --workers to wait for machines"
    )


@contextmanager
def _connected(address: str | None, demand: Demand) -> Iterator[None]:
    """Be connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        if MODE not in os.environ:  # else Ray would take no token, or make one of its own for all to read
            use_token(find_token())
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", JOIN_RETRIES)
        _refuse_unreachable(address)
    with _embedded_folder() if address is None else nullcontext() as folder:
        import ray  # reads its environment when it is imported

        with redirect_stdout(_Messages()):
            try:
                if folder is not None:
                    _start_embedded(folder, demand)
                else:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # Ray raises bare ones when a node does not come up in time
                raise PoolError(_refusal(address, error)) from error
            try:
                yield
            finally:
                ray.shutdown()


def _start_embedded(folder: Path, demand: Demand) -> None:
    import ray

    ray.init(
        address="local",  # also where RAY_ADDRESS names another cluster
        num_cpus=None if demand.most is None else math.ceil(demand.most * demand.cpus),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )


@contextmanager
def _embedded_folder() -> Iterator[Path]:
    """A short folder for Ray's files, inside one that is closed to others; the environment names both.

    Ray opens the folder that it is given to everybody, so the token lies beside it.
    """
    parent = tempfile.gettempdir()
    if len(parent) > MAX_TEMPORARY:
        parent = "/tmp"
    closed = Path(tempfile.mkdtemp(prefix="sdesweep-", dir=parent))
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    try:
        folder = closed / "r"
        token = closed / "token"
        token.touch(mode=0o600)
        token.write_text(_token())
        os.environ.pop("RAY_AUTH_TOKEN", None)  # it would win over the file
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_TMPDIR=str(folder))
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves them beside anybody else's work
        yield folder
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)
        shutil.rmtree(closed, ignore_errors=True)


@functools.cache
def _token() -> str:
    """One for all clusters that this process starts: Ray reads its token once and keeps to it."""
    return secrets.token_hex(32)


def _refuse_unreachable(address: str) -> None:
    """Raise PoolError at once where nothing listens: Ray itself would try for a quarter of an hour."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise PoolError(f"the address {address!r} has no port: write HOST:PORT, or 'auto'")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, OverflowError) as error:
        raise PoolError(_refusal(address, error)) from error


def _refusal(address: str | None, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if address is None:
        return f"Ray did not start on this machine: {reason}"
    return f"no Ray cluster at {address!r}: {reason}; is it running, and is RAY_AUTH_TOKEN_PATH its token?"


class _Messages(io.TextIOBase):
    """Takes what Ray prints to standard output, which belongs to the command's own results."""

    def write(self, text: str) -> int:
        if text.strip():
            _log.info("Ray: %s", text.strip())
        return len(text)
