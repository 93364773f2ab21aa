"""What driver and store cost: wall time of `sdesweep run` beside the bare sampling loop.

The bare loop is the same configuration, sampled group by group in equally many single-threaded processes that
already hold the model: no Ray, no files, no features, no scores. The run is the whole command, from its start
to its exit. Rounds alternate between both, so that a machine that gets slower or faster does not favour one.

    python benchmarks/driver_overhead.py --seconds 300 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before anything imports torch, here and in the processes begun from here
)

from jobs.paths import SweepPaths
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.specs.configuration import Configuration
from jobs.storage.runrecord import runs
from jobs.store_local import LocalStore

SPEC = """
name: overhead
samples: {samples}
group_size: {group}
shard_size: {group}
model: digits-ve
sampler: {{kind: predictor_corrector, predictor: reverse_diffusion, corrector: langevin, steps: {steps}}}
extractor: digits-cnn
reference: digits-train
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the bare loop (default 300)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=100, help="of the sampler (default 100)")
    parser.add_argument(
        "--group", type=int, default=256, help="samples of a group and of a shard (default 256)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = calibrated_samples(options, Path(folder))
        rounds = [one_round(options, samples, Path(folder) / str(n)) for n in range(options.rounds)]
    overheads = [100 * (item["run"] / item["bare"] - 1) for item in rounds]
    print(json.dumps({**vars(options), "samples": samples, "rounds": rounds, "overhead_percent": overheads}))
    print(f"overhead {statistics.median(overheads):.1f} % (median of {[round(x, 1) for x in overheads]})")


def calibrated_samples(options: argparse.Namespace, folder: Path) -> int:
    """So many that the bare loop takes the time asked for: whole groups, equally many for each process."""
    sweep = write_spec(options, options.group * options.workers, folder)
    seconds = bare_loop(sweep.configurations[0], options.workers, sweep.files)
    groups = max(1, round(options.seconds / seconds))
    return groups * options.group * options.workers


def one_round(options: argparse.Namespace, samples: int, folder: Path) -> dict[str, float]:
    folder.mkdir()
    sweep = write_spec(options, samples, folder)
    bare = bare_loop(sweep.configurations[0], options.workers, sweep.files)
    store = folder / "store"
    command = ["run", str(folder / "spec.yaml"), "--store", str(store), "--workers", str(options.workers)]
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cluster.cli", *command, "--json"], check=True, stdout=subprocess.DEVNULL
    )
    wall = time.monotonic() - began
    record = runs(LocalStore(store), SweepPaths(sweep.name))[-1]
    phases = {f"worker_{phase}": seconds for phase, seconds in record.seconds.items()}
    return {"bare": bare, "run": wall, **phases}


def write_spec(options: argparse.Namespace, samples: int, folder: Path) -> Sweep:
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(samples=samples, group=options.group, steps=options.steps))
    return expand(load_spec(path))


def bare_loop(configuration: Configuration, processes: int, files: dict[str, str]) -> float:
    """Seconds from the first group's start in any process to the last one's end in any."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    groups = math.ceil(configuration.samples / configuration.group_size)
    with context.Pool(processes, initializer=_receive, initargs=(barrier,)) as pool:
        tasks = [(configuration, files, range(n, groups, processes)) for n in range(processes)]
        times = pool.starmap(_sample, tasks, chunksize=1)
    return max(end for _, end in times) - min(begin for begin, _ in times)


def _receive(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _sample(configuration: Configuration, files: dict[str, str], groups: range) -> tuple[float, float]:
    """Begin and end of sampling the groups with these numbers; time.monotonic() is the machine's."""
    import torch

    from jobs.models import build
    from sdesampling.noise import NoiseStream

    torch.set_num_threads(1)
    micro_batch = configuration.group_size
    source = build.build_model(configuration.model, lambda digest: Path(files[digest]), "cpu", micro_batch)
    sampler = build.sampler_of(configuration, source)
    _barrier.wait()
    begin = time.monotonic()
    with torch.no_grad():
        for number in groups:
            first = number * configuration.group_size
            last = min(first + configuration.group_size, configuration.samples)
            noise = NoiseStream(configuration.seed, configuration.replicate, range(first, last))
            state = sampler.init(noise)
            while state.step < sampler.steps:
                state = sampler.step(state, noise)
            sampler.finish(state)
    return begin, time.monotonic()


if __name__ == "__main__":
    main()
