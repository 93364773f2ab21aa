"""What snapshots cost, and what a SIGKILL costs with them.

`cost`: seconds to save the state of one group, for the shapes that the catalogue's models have, and the
interval that they lead to where the spec says none. `loss`: a shard of a digits model is sampled in a process
that is killed at random moments; sampling time that no snapshot held, beside the interval.

    python benchmarks/snapshots.py [--store DIR] [--kills 10] [--interval 1]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import torch

from jobs.compute.assignment import Assignment
from jobs.compute.sampling import INTERVAL, SHARE
from jobs.compute.worker import WorkerState
from jobs.paths import RangeFolder, SweepPaths
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.storage.commit import Execution
from jobs.storage.snapshots import Progress, Snapshots
from jobs.store_local import LocalStore
from jobs.work.perform import perform
from sdesampling.samplers import State

GROUP = 1024  # samples
STATES = {  # of predictor-corrector sampling: x and its mean
    "8x8 digits": (1, 8, 8),
    "32x32 colour": (3, 32, 32),
    "64x64 colour": (3, 64, 64),
    "256x256 colour": (3, 256, 256),
}
EXECUTION = Execution(
    device="cpu",
    torch=torch.__version__,
    threads=1,
    micro_batch=GROUP,
    precision="float32",
    sampler_version="1",
)
SPEC = """
name: snapshots
samples: 512
group_size: 512
model: digits-ve
sampler: {{kind: predictor_corrector, predictor: reverse_diffusion, corrector: langevin, steps: 10000}}
snapshot_every: {interval}
metrics: []
"""


def cost(root: Path) -> list[dict[str, object]]:
    found = []
    for name, shape in STATES.items():
        tensors = {key: torch.randn(GROUP, *shape) for key in ("x", "mean")}
        snapshots = Snapshots(LocalStore(root), RangeFolder("snapshots"), "f" * 64, EXECUTION, "a" * 32)
        seconds, computing = [], []
        for step in range(7):
            began, used = time.perf_counter(), time.process_time()
            snapshots.save(Progress(range(GROUP), State(step, tensors, 0)))
            seconds.append(time.perf_counter() - began)
            computing.append(time.process_time() - used)
        typical = statistics.median(seconds)
        found.append(
            {
                "state": name,
                "MiB": round(sum(tensor.nbytes for tensor in tensors.values()) / 2**20, 1),
                "seconds": round(typical, 4),
                "cpu_seconds": round(statistics.median(computing), 4),
                "interval": round(max(INTERVAL, typical / SHARE)),
                "share": f"{typical / max(INTERVAL, typical / SHARE):.2%}",
            }
        )
    return found


class Clock:
    """A context that tells another process how much was sampled, and how much of it snapshots hold."""

    def __init__(self, sampled: Synchronized, saved: Synchronized) -> None:
        self._began = time.monotonic()
        self._sampled, self._saved = sampled, saved

    def should_stop(self) -> bool:
        return False

    def progress(self, images: int, evaluations: int) -> None:
        self._sampled.value = time.monotonic() - self._began

    def saved(self) -> None:
        self._saved.value = time.monotonic() - self._began


def sample(root: str, sweep: Sweep, sampled: Synchronized, saved: Synchronized) -> None:
    (configuration,) = sweep.configurations
    store = LocalStore(root)
    worker = WorkerState()
    worker.sampler(store, configuration)
    assignment = Assignment("sample", sweep.name, configuration.fingerprint, 0, configuration.samples)
    perform(assignment, store, worker, Clock(sampled, saved))


def loss(root: Path, kills: int, interval: float) -> dict[str, object]:
    from cluster.prepare import prepare

    spec = root / "snapshots.yaml"
    spec.write_text(SPEC.format(interval=interval))
    sweep = expand(load_spec(spec))
    store = LocalStore(root / "loss")
    prepare(store, sweep, print)
    folder = SweepPaths(sweep.name).configuration(sweep.configurations[0].fingerprint).snapshots
    context = multiprocessing.get_context("spawn")
    chance = random.Random(0)
    lost = []
    for _ in range(kills):
        sampled, saved = context.Value("d", 0.0), context.Value("d", 0.0)
        process = context.Process(target=sample, args=(str(store.root), sweep, sampled, saved))
        process.start()
        while sampled.value == 0.0 and process.is_alive():
            time.sleep(0.01)
        time.sleep(interval * chance.uniform(1.0, 3.0))
        process.kill()
        process.join()
        lost.append(sampled.value - saved.value)
    assert any(store.list(folder.root))
    return {
        "interval": interval,
        "kills": kills,
        "most_seconds_lost": round(max(lost), 2),
        "mean_seconds_lost": round(statistics.mean(lost), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="a folder on the file system to be measured")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between snapshots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.store) as folder:
        print(json.dumps({"cost": cost(Path(folder))}, indent=1))
        print(json.dumps({"loss": loss(Path(folder), options.kills, options.interval)}, indent=1))


if __name__ == "__main__":
    main()
