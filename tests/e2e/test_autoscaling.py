"""A cluster that an autoscaler has scaled to zero: machines come for a job's workers, and go after them.

Ray's own autoscaler (the second one, which KubeRay has) with a provider whose machines are processes here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray.util
from killable_cluster import free_port
from processes import descendants
from real_runs import TIMEOUT, Content, Site

from cluster.head import HeadError, describe
from cluster.story import story
from jobs.paths import SweepPaths

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD = "f" * 51 + "00000"  # the id that this provider gives to it
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
OF_THE_HEAD = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "OMP_NUM_THREADS": "1",
}


def config(gcs: str) -> dict[str, object]:
    """A head without CPUs, and machines of one logical GPU each that come and go."""
    gpu = {"CPU": 1, "GPU": 1, "object_store_memory": 80 * 2**20}
    provider = {
        "type": "external",
        "module": PROVIDER,
        "gcs_address": gcs,
        "head_node_id": HEAD,
        "use_node_id_as_ip": True,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    kinds = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": gpu, "node_config": {}, "min_workers": 0, "max_workers": 3},
    }
    return {
        "cluster_name": "scaled",
        "provider": provider,
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        "max_workers": 3,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 0.1,
        "auth": {},
        "docker": {},
        **{f"{part}_commands": [] for part in COMMANDS},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }


@dataclass
class Scaled:
    """The cluster and how to speak to it."""

    dashboard: str
    environment: dict[str, str]
    token: str

    def machines(self) -> int:
        """Those that are there, the head among them; 0 while the head does not answer."""
        try:
            return len(describe(self.dashboard, self.token).machines)
        except HeadError:
            return 0

    def until(self, machines: int) -> None:
        end = time.monotonic() + TIMEOUT
        while self.machines() != machines:
            assert time.monotonic() < end, "machines do not come or go"
            time.sleep(0.5)

    def submit(self, site: Site, *options: str) -> tuple[int, str]:
        place = ("--store", site.store.url, "--address", self.dashboard)
        workers = ("--set", "resources.workers={min: 1, max: 2}", "--set", "shard_size=8")
        done = subprocess.run(
            site.command("submit", str(site.spec), *place, *workers, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**site.environment, **self.environment},
            timeout=TIMEOUT,
        )
        return done.returncode, done.stdout


@pytest.fixture
def scaled() -> Iterator[Scaled]:
    folder = Path(tempfile.mkdtemp(prefix="scaled-", dir="/tmp"))  # short: sockets lie below it
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    gcs, dashboard = free_port(), free_port()
    (folder / "config").write_text(json.dumps(config(f"{ray.util.get_node_ip_address()}:{gcs}")))
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    start = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"),
        *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0"),
        *(
            f"--autoscaling-config={folder}/config",
            f"--temp-dir={folder}/r",
            "--object-store-memory=83886080",
        ),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            start, stdout=log, stderr=log, env={**kept, **own, **OF_THE_HEAD}, start_new_session=True
        )
    try:
        found = Scaled(f"http://127.0.0.1:{dashboard}", own, token.read_text())
        found.until(machines=1)
        yield found
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it died with its parent
                continue
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_machines_come_for_the_workers_of_a_job_and_go_after_them(
    scaled: Scaled, make_site: Callable[[], Site], undisturbed: Content
):
    site = make_site()
    code, output = scaled.submit(site)
    assert code == 2, output
    assert "failed: gpus: no machine is there yet to decide `resources.gpus: auto` by" in output
    assert "`resources: {gpus: 1}`" in output

    code, output = scaled.submit(site, "--set", "resources.gpus=1", "--follow")
    assert code == 0, output
    assert "waiting for a machine that can hold a worker, which takes 1 CPUs, 1 GPUs" in output
    assert site.content() == undisturbed
    joined = [event for told in story(site.store, SweepPaths("tiny")) for event in told.events]
    assert len({event.worker for event in joined if event.kind == "joined"}) == 2  # `max`, one to a machine
    scaled.until(machines=1)
