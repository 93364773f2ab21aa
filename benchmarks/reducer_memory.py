"""Peak memory of the reducer against the number of samples: features that are made as they are read.

The reducer's own code (`jobs.scores.scoring.stage_scores`: moments, Fréchet distance, standard error, digest)
reads blocks of 1,024 float32 features in index order, as it reads them from files. Each size is a process of
its own.

    python benchmarks/reducer_memory.py                       # 50,000 and 1,000,000 features of 2,048
    python benchmarks/reducer_memory.py --samples 1000000 --dimension 256
    python benchmarks/reducer_memory.py --samples 1000000 --moments     # without standard error and digest
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

import numpy as np

from fid.frechet import frechet_distance
from fid.moments import BLOCK
from jobs.scores.scoring import moments_of, one_thread, stage_scores
from jobs.storage.features import FeatureRows, FeatureSource

SIZES = (50_000, 1_000_000)
REFERENCE = 10_000  # samples


class SyntheticFeatures(FeatureSource):
    """Rows of a fixed Gaussian block, each block of the source shifted by its own small amount."""

    step = 0

    def __init__(self, samples: int, dimension: int, seed: int) -> None:
        self.samples = samples
        self._block = np.random.default_rng(seed).standard_normal((BLOCK, dimension), dtype=np.float32)

    def __iter__(self) -> Iterator[FeatureRows]:
        shifts = np.random.default_rng(7)
        for first in range(0, self.samples, BLOCK):
            index = np.arange(first, min(first + BLOCK, self.samples))
            shift = np.float32(0.01 * shifts.standard_normal())
            yield FeatureRows(self.step, index, self._block[: len(index)] + shift)


def measure(samples: int, dimension: int, only_moments: bool) -> dict[str, object]:
    with one_thread():
        real = SyntheticFeatures(REFERENCE, dimension, 1)
        moments = moments_of(real)
        before = peak()
        began, used = time.perf_counter(), time.process_time()
        generated = SyntheticFeatures(samples, dimension, 2)
        if only_moments:
            value = frechet_distance(moments_of(generated), moments).distance
        else:
            scores = stage_scores(generated, ["fid"], moments, real)
            assert scores.fid is not None
            value = scores.fid.value
    return {
        "what": "moments" if only_moments else "scores",
        "samples": samples,
        "dimension": dimension,
        "all_features_MiB": round(samples * dimension * 4 / 2**20),
        "peak_before_MiB": round(before),
        "peak_MiB": round(peak()),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "fid": round(value, 4),
    }


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, help="one size, in this process; otherwise both")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--moments", action="store_true", help="one pass: moments and distance alone")
    options = parser.parse_args()
    if options.samples is not None:
        print(json.dumps(measure(options.samples, options.dimension, options.moments)))
        return
    for samples in SIZES:
        command = [sys.executable, __file__, "--samples", str(samples), "--dimension", str(options.dimension)]
        subprocess.run(command + ["--moments"] * options.moments, check=True)


if __name__ == "__main__":
    main()
