"""A sweep as a job of a simulated two-node cluster with a token: submitted, killed, resumed, followed.

One sweep and, until its head is killed, one cluster for all tests of this file, which stand in the order in
which they are run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killable_cluster import KillableCluster, free_port
from processes import descendants, frozen
from real_runs import SPEC, TIMEOUT, Content, Site

from cluster.story import story
from jobs.inputs.datasets import read_digits
from jobs.paths import SweepPaths
from jobs.storage.runrecord import runs

SLOTS = ("--set", "resources.cpus=0.5", "--set", "resources.gpus=0.5")
JOIN = """
import sys
from cluster.demand import Demand
from cluster.pool import Ready
from cluster.ray_session import open_ray_pool

demand = Demand(cpus=0.5, gpus=1.0, selectors=({"kind": "fast"}, {"kind": "slow"}))
ready = 0
with open_ray_pool(sys.argv[1], sys.argv[2], demand, work=3) as pool:
    while ready < 3:
        ready += sum(isinstance(event, Ready) for event in pool.wait(1.0))
        print(ready, file=sys.__stdout__, flush=True)
"""


@dataclass
class Head:
    """The cluster and how to speak to it."""

    home: Path  # of whoever submits
    cluster: KillableCluster = field(init=False)
    address: str = ""  # of its dashboard

    def begin(self) -> None:
        """A cluster of a head and a node with two logical GPUs."""
        port = free_port()
        self.cluster = KillableCluster(0, head_cpus=2, dashboard=port).__enter__()
        self.address = f"http://127.0.0.1:{port}"
        self.cluster.add_node(num_cpus=2, num_gpus=2, labels={"kind": "slow"})

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {**self.cluster.environment, "HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        del own["RAY_AUTH_MODE"]  # the command says it outright
        return {**kept, **own}

    def sdesweep(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Exit code and output of a command; variables: of its environment."""
        done = subprocess.run(
            [sys.executable, "-m", "cluster.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, **variables},
            timeout=TIMEOUT,
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    head = Head(tmp_path_factory.mktemp("home"))
    head.begin()
    yield head
    head.cluster.__exit__()


@pytest.fixture(scope="module")
def place(make_site) -> Site:
    """It has a second reference, in an archive that only the machine which submits has."""
    site = make_site()
    np.savez(site.folder / "real.npz", images=read_digits("train").images)
    both = "reference: [digits-train, {name: mine, path: real.npz}]"
    site.spec.write_text(SPEC.replace("reference: digits-train", both))
    return site


def until(condition: Any) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_doctor_tells_what_is_wrong_between_a_user_and_a_real_head(head: Head, tmp_path: Path):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    wrong.chmod(0o644)
    verdicts = []
    for token in (head.environment["RAY_AUTH_TOKEN_PATH"], str(wrong)):
        code, output = head.sdesweep("doctor", "--address", head.address, "--json", RAY_AUTH_TOKEN_PATH=token)
        verdicts.append({check["name"]: check["verdict"] for check in json.loads(output)["checks"]})
    known, unknown = verdicts
    asked = ("token", "reachable", "authentication", "access", "version", "python", "dashboard", "clock")
    assert [known[name] for name in asked] == ["ok"] * len(asked)
    assert (unknown["token"], unknown["authentication"], unknown["access"]) == ("failed", "ok", "failed")
    assert code == 1


def test_a_spec_that_can_never_fit_is_refused_with_what_there_is(head: Head, place: Site):
    code, output = head.sdesweep(
        *("submit", str(place.spec), "--store", place.store.url, "--address", head.address),
        *("--set", "resources.gpus=8"),
    )
    assert code == 2, output
    assert "failed: resources: room for 0 of at least 1 workers that take 1 CPUs, 8 GPUs" in output
    assert "1 with 2 CPUs, 2 GPUs" in output
    assert not list(place.store.list("tiny"))


def test_a_job_whose_driver_is_killed_is_told_so(head: Head, place: Site):
    code, output = head.sdesweep(
        "submit", str(place.spec), "--store", place.store.url, "--address", head.address, *SLOTS, "--json"
    )
    assert code == 0, output
    assert json.loads(output)["job"] == "tiny-a1"
    until(lambda: place.files("images") and place.files("snapshots"))
    record = runs(place.store, SweepPaths("tiny"))[0]
    assert record.job == "tiny-a1"
    assert record.pid in descendants(head.cluster.process.pid)
    os.kill(record.pid, signal.SIGKILL)
    code, output = head.sdesweep("logs", "tiny", "--follow", "--address", head.address)
    assert code == 75, output
    assert "tiny-a1 ended as FAILED: tiny running; its driver was killed in the middle of it" in output


def test_a_job_whose_head_is_killed_ends_as_incomplete(head: Head, place: Site):
    for path in (place.spec, place.folder / "real.npz"):
        path.unlink()  # the store has all that is needed
    code, output = head.sdesweep("resume", "tiny", "--store", place.store.url, "--address", head.address)
    assert code == 0, output
    until(lambda: head.cluster.workers() and runs(place.store, SweepPaths("tiny"))[-1].job == "tiny-a2")
    with frozen(head.cluster.workers()):  # else it might be done before that is noticed
        head.cluster.kill_head()
        until(lambda: runs(place.store, SweepPaths("tiny"))[-1].outcome != "running")
    record = runs(place.store, SweepPaths("tiny"))[-1]
    assert (record.outcome, record.exit_code) == ("incomplete", 75)
    told = story(place.store, SweepPaths("tiny"))[-1].text
    assert "the head of the cluster" in told
    assert "`sdesweep resume` goes on" in told
    head.cluster.__exit__()


def test_resumed_on_another_cluster_it_ends_with_the_same_bits(head: Head, place: Site, undisturbed: Content):
    head.begin()
    code, output = head.sdesweep(
        "resume", "tiny", "--store", place.store.url, "--address", head.address, "--follow"
    )
    assert code == 0, output
    assert "submitted tiny-a3" in output
    assert "tiny-a3 ended as SUCCEEDED: tiny done" in output
    assert place.content() == undisturbed
    assert len(list(place.store.root.glob("tiny/*/results/*-mine.json"))) == 3
    records = runs(place.store, SweepPaths("tiny"))
    assert [record.job for record in records] == ["tiny-a1", "tiny-a2", "tiny-a3"]
    assert (records[-1].outcome, records[-1].shards_done) == ("done", records[-1].shards)
    code, output = head.sdesweep("list", "--address", head.address, "--json")
    jobs = json.loads(output)["jobs"]
    assert [(job["id"], job["status"]) for job in jobs] == [("tiny-a3", "SUCCEEDED")]


def test_workers_join_with_their_machines_the_second_choice_of_labels_among_them(head: Head, tmp_path: Path):
    pool = subprocess.Popen(
        [sys.executable, "-c", JOIN, str(tmp_path / "store"), head.cluster.address],
        stdout=subprocess.PIPE,
        text=True,
        env=head.environment,
    )
    assert pool.stdout is not None
    try:
        lines = iter(pool.stdout)
        assert any(line.strip() == "2" for line in lines)
        head.cluster.add_node(num_cpus=1, num_gpus=1, labels={"kind": "fast"})
        assert any(line.strip() == "3" for line in lines)
        assert pool.wait(timeout=TIMEOUT) == 0
    finally:
        pool.kill()
