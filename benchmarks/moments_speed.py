"""Speed of moments in float64 against the BLAS alone, and how exactly they merge.

    python benchmarks/moments_speed.py [--count 50000] [--dimension 2048] [--rounds 3]

The yardstick is one `syrk` (scipy.linalg.blas.dsyrk, float64) of each block of 1,024 rows, without means,
conversions or sums. Prints rows a second of both, their ratio, and the largest relative difference of mean
and covariance when parts are merged in another order.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.linalg.blas import dsyrk

from fid.moments import BLOCK, Moments


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    block = np.maximum(np.random.default_rng(0).normal(0.3, 0.5, (BLOCK, arguments.dimension)), 0).astype(
        np.float32
    )
    blocks = -(-arguments.count // BLOCK)
    best = {"syrk": float("inf"), "moments": float("inf")}
    for _ in range(arguments.rounds):
        double = np.asfortranarray(block.astype(np.float64).T)
        began = time.perf_counter()
        for _ in range(blocks):
            dsyrk(1.0, double)
        best["syrk"] = min(best["syrk"], time.perf_counter() - began)
        moments = Moments(arguments.dimension)
        began = time.perf_counter()
        for _ in range(blocks):
            moments.update(block)
        best["moments"] = min(best["moments"], time.perf_counter() - began)
    rows = blocks * BLOCK
    print(f"{torch.get_num_threads()} threads, {rows:,} x {arguments.dimension}")
    print(
        f"moments {best['moments']:.2f} s ({rows / best['moments']:,.0f} rows/s), "
        f"syrk alone {best['syrk']:.2f} s, ratio {best['moments'] / best['syrk']:.2f}"
    )
    data = np.random.default_rng(1).normal(3, 2, (8 * BLOCK, 256)).astype(np.float32)
    parts = [Moments.of(part) for part in np.array_split(data, 9)]
    whole, backwards = Moments.of(data), Moments(256)
    for part in reversed(parts):
        backwards.merge(part)
    scale = float(np.abs(whole.covariance).max())
    print(
        f"merged backwards: mean {np.abs(backwards.mean / whole.mean - 1).max():.1e}, covariance "
        f"{np.abs(backwards.covariance - whole.covariance).max() / scale:.1e}"
    )


if __name__ == "__main__":
    main()
