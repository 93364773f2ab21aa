"""The Ray pool with real actors: what becomes of assignments that end, fail, drain, or lose their process."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from cluster.account import Account, Tally
from cluster.causes import cause_of
from cluster.demand import Demand
from cluster.metrics import METRICS, Metrics, ray_instrument
from cluster.pool import Event, Failed, Finished, GivenUp, Lost, Ready, WorkerPool
from cluster.prepare import Goal, prepare
from cluster.ray_session import _embedded_folder, open_ray_pool
from jobs.compute.assignment import Assignment
from jobs.planning.sweep import Sweep
from jobs.storage.commit import DamageError, OverlapError
from jobs.storage.images import BadImagesError
from jobs.store import StoreUnavailableError
from jobs.store_local import LocalStore

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "sdesweep.json"
TIMEOUT = 120.0  # seconds, on a machine that is busy with other things


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[WorkerPool]:
    """Two workers on an embedded cluster, which the tests below share in their order."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(folder))
    patch.setenv("RAY_metrics_report_interval_ms", "500")
    with open_ray_pool(str(folder / "store"), None, Demand(least=2, most=2), work=2) as opened:
        yield opened
    patch.undo()


@pytest.fixture(scope="module")
def ready(pool: WorkerPool) -> dict[int, str]:
    events = collect(pool, lambda events: sum(isinstance(event, Ready) for event in events) == 2)
    return {event.worker: event.where for event in events if isinstance(event, Ready)}


@pytest.fixture
def sweep(folder: Path, make_sweep: Callable[..., Sweep]) -> Sweep:
    """The tiny sweep, written down in the store of the pool."""
    made = make_sweep()
    prepare(LocalStore(folder / "store"), made, print)
    return made


def collect(pool: WorkerPool, enough: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []
    end = time.monotonic() + TIMEOUT
    while not enough(events):
        assert time.monotonic() < end, events
        events += pool.wait(1.0)
    return events


def first(pool: WorkerPool, kind: type) -> Event:
    events = collect(pool, lambda events: any(isinstance(event, kind) for event in events))
    return next(event for event in events if isinstance(event, kind))


def sample(sweep: Sweep, number: int, of: int = 1) -> Assignment:
    fingerprint = sweep.configurations[of].fingerprint
    return Assignment("sample", sweep.name, fingerprint, 16 * number, 16 * number + 16)


def test_workers_become_ready_and_say_where(ready):
    assert sorted(ready) == [0, 1]
    assert all(", process " in where for where in ready.values())


def test_the_token_is_for_its_user_alone_and_nothing_is_left_at_home(pool, folder):
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert not (folder / ".ray").exists()


def test_an_assignment_is_done(pool, ready, sweep):
    pool.submit(0, sample(sweep, 0))
    event = first(pool, Finished)
    assert (event.worker, event.receipt.assignment, event.receipt.images) == (0, sample(sweep, 0), 16)


def test_an_exception_comes_back_as_text_and_the_worker_lives(pool, ready, sweep):
    unknown = Assignment("sample", sweep.name, "f" * 64, 0, 16)
    pool.submit(1, unknown)
    event = first(pool, Failed)
    assert (event.worker, event.assignment, event.cause) == (1, unknown, "code")
    assert event.error.startswith("FileNotFoundError: ")
    assert "in perform" in event.traceback
    pool.submit(1, sample(sweep, 1))
    assert first(pool, Finished).worker == 1


def test_a_killed_worker_is_lost_with_its_place_and_comes_back(pool, ready, sweep):
    pid = int(ready[0].split("process ")[1].split(",")[0])
    os.kill(pid, signal.SIGKILL)
    pool.submit(0, sample(sweep, 2))
    lost = first(pool, Lost)
    assert (lost.worker, lost.assignment) == (0, sample(sweep, 2))
    assert lost.reason.startswith(f"{ready[0]}: its process ended")
    again = first(pool, Ready)
    assert again.worker == 0
    assert str(pid) not in again.where
    pool.submit(0, sample(sweep, 2))
    assert first(pool, Finished).worker == 0


def test_metrics_are_served_by_the_node_under_their_names(pool, ready, sweep):
    tallies = {
        f"{sweep.name}/{item.fingerprint}": Tally(
            None, unfinished=3, images=16, evaluations=160, seconds_lost=1.5, retries=Counter(machine=1)
        )
        for item in sweep.configurations
    }
    for tally in tallies.values():
        tally.seconds["sample"] = 2.0
    goals = {key: Goal(key, 48, 0, 3, 0, 10) for key in tallies}
    metrics = Metrics(ray_instrument)
    metrics.begin(goals)
    metrics.tick(Account(tallies))
    (node,) = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    end = time.monotonic() + TIMEOUT
    missing = {f"ray_{name}" for name in METRICS}
    while missing:
        assert time.monotonic() < end, missing
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        missing = {name for name in missing if f"\n{name}{{" not in text}
        time.sleep(0.2)
    (images,) = re.findall(r"^ray_sdesweep_images_total\{.*\} (\S+)$", text, re.M)
    assert float(images) == 32
    assert re.search(r'^ray_sdesweep_shards\{[^}]*state="pending"[^}]*\} 6', text, re.M)
    assert re.search(r'^ray_sdesweep_retries_total\{[^}]*cause="machine"[^}]*\} 2', text, re.M)
    assert list(unanswered(text, sweep.name)) == []
    assert len(list(unanswered("", sweep.name))) >= len(METRICS)


def unanswered(metrics: str, sweep: str) -> Iterator[str]:
    """What the dashboard selects and finds nothing of."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    series = [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
        for name, labels in re.findall(r"^(ray_sdesweep_\w+)\{(.*)\} ", metrics, re.M)
    ]
    for name, selector in re.findall(r"(ray_sdesweep_\w+)\{([^}]*)\}", asked):
        wanted = re.findall(r'(\w+)=~?"([^"]*)"', selector.replace("$sweep", sweep))
        found = (
            all(re.fullmatch(value, labels.get(key, "")) for key, value in wanted)
            for each, labels in series
            if each == name
        )
        if not any(found):
            yield f"{name}{{{selector}}}"


def test_a_released_worker_ends(pool, ready):
    pid = int(ready[1].split("process ")[1].split(",")[0])
    pool.release(1)
    end = time.monotonic() + TIMEOUT
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def endless(folder: Path, spec: Path, make_sweep: Callable[..., Sweep]) -> Assignment:
    """A shard that takes longer than any test."""
    cell = "{model: digits-gan, sampler: {kind: ddls, steps: 100000, step_size: 0.001}}"
    spec.write_text(f"{spec.read_text()}      long: {cell}\n")
    longer = make_sweep(name="longer")
    prepare(LocalStore(folder / "store"), longer, print)
    return Assignment("sample", longer.name, longer.configurations[2].fingerprint, 0, 16)


def under_way(pool: WorkerPool, assignment: Assignment) -> None:
    pool.submit(0, assignment)
    collect(pool, lambda events: any(getattr(event, "evaluations", 0) for event in events))


def test_a_drain_gives_the_assignment_up_after_a_snapshot(pool, ready, sweep, endless, folder):
    under_way(pool, endless)
    pool.drain([0])
    assert first(pool, GivenUp) == GivenUp(0, endless)
    assert list(LocalStore(folder / "store").list(f"longer/{endless.fingerprint}/snapshots"))
    pool.submit(0, sample(sweep, 0, of=0))  # which was not asked to give up
    assert first(pool, Finished).receipt.assignment == sample(sweep, 0, of=0)
    pool.submit(0, endless)
    pool.drain()  # before the worker has begun it, most likely
    assert first(pool, GivenUp) == GivenUp(0, endless)


def test_a_busy_worker_that_is_ended_is_lost_and_another_one_takes_its_place(pool, ready, sweep, endless):
    under_way(pool, endless)
    pool.end(0)
    lost = first(pool, Lost)
    assert (lost.worker, lost.assignment) == (0, endless)
    assert first(pool, Ready).worker == 0
    pool.submit(0, sample(sweep, 1, of=0))
    assert first(pool, Finished).receipt.assignment == sample(sweep, 1, of=0)


def test_causes_of_failures():
    assert cause_of(OSError(28, "No space left on device")) == "storage"
    assert cause_of(FileNotFoundError(2, "No such file")) == "code"
    assert cause_of(OverlapError("[0, 8) overlaps")) == "overlap"
    assert cause_of(ValueError("bad")) == "code"
    assert cause_of(StoreUnavailableError("AccessDenied")) == "storage"
    assert cause_of(DamageError("a file has no digest")) == "damage"
    assert cause_of(BadImagesError("not finite")) == "diverged"


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "Connection refused"), ("head", "has no port"), ("head:port", "has no port")],
)
def test_a_cluster_that_is_not_there_is_told_at_once(address, message):
    """In a process of its own, as Ray connects a process once."""
    code = (
        "from cluster.demand import Demand\n"
        "from cluster.ray_session import open_ray_pool\n"
        f"with open_ray_pool('nowhere', {address!r}, Demand(), 1): pass"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cluster.pool.PoolError: ")
    assert message in last
    assert time.monotonic() - began < 60


def test_every_cluster_of_a_process_has_the_same_token():
    """Ray reads its token once: with another one, the second night of a command would not start."""
    with _embedded_folder():
        first = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    with _embedded_folder():
        assert Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text() == first
    assert len(first) == 64
