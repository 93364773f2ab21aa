"""Speed of the Fréchet distance at 2048 dimensions against scipy's sqrtm of the product of covariances.

    python benchmarks/frechet_speed.py [--dimension 2048] [--rounds 3] [--many 5]

Rows have correlated, skewed, non-negative features, as pooled activations do. Prints seconds of each way,
their ratio, how far the values are apart, and the seconds for N below the dimension, where the covariance
has no full rank. `--many` distances to one reference are then taken in one call.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

from fid.frechet import frechet_distance, frechet_distance_of_features, frechet_distances
from fid.moments import Moments


def rows(count: int, dimension: int, seed: int) -> np.ndarray:
    """(count, dimension) float32, with a spectrum that falls like a power."""
    mixing = np.random.default_rng(99).normal(size=(dimension, dimension)) / np.sqrt(dimension)
    spectrum = (1 + np.arange(dimension)) ** -0.6
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.maximum((drawn * spectrum) @ mixing + 0.01 * seed, 0).astype(np.float32)


def timed(work: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Median seconds, and the value."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), value


def by_sqrtm(a: Moments, b: Moments) -> float:
    """As published code has it: the trace of scipy's square root of the product."""
    first, second = a.covariance, b.covariance
    root = scipy.linalg.sqrtm(first @ second)
    delta = a.mean - b.mean
    return float(delta @ delta + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=5)
    arguments = parser.parse_args()
    size = arguments.dimension
    generated, reference = rows(3 * size, size, 1), rows(3 * size, size, 2)
    a, b = Moments.of(generated), Moments.of(reference)
    few = generated[: size // 2]

    ours, value = timed(lambda: frechet_distance(a, b).distance, arguments.rounds)
    short, value_of_few = timed(lambda: frechet_distance_of_features(few, b).distance, arguments.rounds)
    theirs, wanted = timed(lambda: by_sqrtm(a, b), 1)
    print(f"{torch.get_num_threads()} threads, {size} dimensions")
    print(f"eigenvalues {ours:.3f} s, sqrtm {theirs:.2f} s, ratio {theirs / ours:.1f}")
    print(f"values {value:.8f} and {wanted:.8f}, relative difference {abs(value / wanted - 1):.1e}")
    by_moments = frechet_distance(Moments.of(few), b).distance
    print(
        f"N = {len(few)}: {short:.3f} s from the features, "
        f"relative difference to the covariances' way {abs(value_of_few / by_moments - 1):.1e}"
    )
    parts = [Moments.of(part) for part in np.array_split(generated, arguments.many)]
    many, _ = timed(lambda: frechet_distances(parts, b)[-1].distance, 1)
    one, _ = timed(lambda: frechet_distance(parts[-1], b).distance, 1)
    print(f"{arguments.many} at once: {many / arguments.many:.3f} s each, one alone {one:.3f} s")


if __name__ == "__main__":
    main()
