"""A Ray cluster of several nodes on this machine, in a process of its own, whose nodes can be killed.

Run as a script it is that process: every line on its standard input holds the arguments of a node to be
added, as JSON, and is answered with a JSON object. GPUs and labels of nodes are made up.
`KillableCluster` starts it and talks to it.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import descendants, name_of

START = 120.0  # seconds that a node may take to start, on a machine that is busy with other things
#: Node loss is noticed within seconds, not within half a minute.
HEALTH = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}


class KillableCluster:
    """A head, and nodes of one CPU each unless told otherwise. A context manager."""

    def __init__(self, nodes: int, *, head_cpus: int = 0, dashboard: int = 0) -> None:
        """head_cpus: none keeps work off it. dashboard: its port; 0 for no dashboard."""
        self._arguments = [str(head_cpus), str(dashboard)]
        self._folder = Path(tempfile.mkdtemp(prefix="sim-", dir="/tmp"))  # short: sockets lie below it
        self._count = nodes
        self.nodes: dict[int, int] = {}  # number -> process of its raylet
        self.address = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a driver needs to join."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    def __enter__(self) -> KillableCluster:
        token = self._folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        (self._folder / "ray").mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment = {**kept, **self.environment, **HEALTH, "RAY_TMPDIR": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environment, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        try:
            self.address = str(self._answer()["address"])
            for _ in range(self._count):
                self.add_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in descendants(self.process.pid):
            _signal(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_node(self, **arguments: object) -> int:
        """Let a node join, with `num_cpus`, `num_gpus`, `labels` as Ray takes them; returns its number."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(arguments)}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.nodes[int(answer["node"])] = int(answer["pid"])
        return int(answer["node"])

    def kill_node(self, node: int) -> None:
        """SIGKILL for everything on a node."""
        pid = self.nodes.pop(node)
        for process in [*descendants(pid), pid]:
            _signal(process, signal.SIGKILL)

    def kill_head(self) -> None:
        """SIGKILL for the head's own processes."""
        for pid in descendants(self.process.pid):
            if "gcs_server" in name_of(pid).partition("\0")[0] or "\0--head\0" in name_of(pid):
                _signal(pid, signal.SIGKILL)

    def freeze_node(self, node: int) -> None:
        """The cluster takes the node for dead, but its workers go on and may still write."""
        _signal(self.nodes[node], signal.SIGSTOP)

    def workers(self, node: int | None = None) -> list[int]:
        """Processes of actors, of one node or of all."""
        pids = self.nodes.values() if node is None else [self.nodes[node]]
        return [
            child for pid in pids for child in descendants(pid) if name_of(child).startswith("ray::ShardW")
        ]

    def _answer(self) -> dict[str, object]:
        output = self.process.stdout
        assert output is not None
        end = time.monotonic() + START
        while time.monotonic() < end:
            if select.select([output], [], [], 1.0)[0] and (line := output.readline()).startswith("{"):
                return json.loads(line)
            assert self.process.poll() is None, (self._folder / "log").read_text()[-3000:]
        raise TimeoutError("the simulated cluster does not answer")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has ended by itself
        return


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("", 0))
        return int(bound.getsockname()[1])


def serve(head_cpus: int, dashboard: int) -> None:
    """Start the head, then do as told."""
    from ray.cluster_utils import Cluster

    memory = 80 * 2**20
    head = {"num_cpus": head_cpus, "object_store_memory": memory, "include_dashboard": bool(dashboard)}
    head["dashboard_agent_listen_port"] = (
        free_port()
    )  # the usual one may be another cluster's on this machine
    if dashboard:
        head["dashboard_port"] = dashboard
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(json.dumps({"address": cluster.address}))
    for number, line in enumerate(sys.stdin):
        arguments = {"num_cpus": 1, "num_gpus": 0, **json.loads(line)}
        arguments["dashboard_agent_listen_port"] = free_port()
        node = cluster.add_node(wait=False, object_store_memory=memory, **arguments)
        raylet = node.all_processes["raylet"][0].process
        print(json.dumps({"node": number, "pid": raylet.pid}))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
