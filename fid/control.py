"""Distances of real data to real data: what any score at these numbers of samples must be held against.

Apart from scores because nothing generated takes part, and from the audit because every score states it. It
must not know extractors or storage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fid.frechet import (
    Frechet,
    frechet_distance,
    frechet_distance_of_features,
    frechet_distance_of_rows,
)
from fid.moments import Moments

Rows = NDArray[np.floating]

WIDE = 4096  # dimensions beyond which no covariance matrix is formed
CONTROL_ROWS = 5000  # rows of a side of a control: enough for any slope, in bounded time


@dataclass(frozen=True)
class Control:
    """Distances of real data to real data, brought to the numbers of samples in question."""

    mean: float
    spread: float  # standard deviation over splits
    sizes: tuple[int, int]  # of the two sides that were compared
    slope: float  # points x (1 / N_generated + 1 / N_reference) that they amount to


def measure(first: Rows | Moments, second: Rows | Moments) -> Frechet:
    """Fréchet distance of features or moments, by the way that is cheapest for their shapes."""
    if not isinstance(first, Moments) and not isinstance(second, Moments):
        dimension = first.shape[1]
        if dimension > WIDE or max(len(first), len(second)) <= dimension:
            return frechet_distance_of_rows(first, second)
    if isinstance(first, Moments) or (not isinstance(second, Moments) and len(second) < len(first)):
        first, second = second, first  # symmetric: features first, and the fewer of two
    moments = second if isinstance(second, Moments) else Moments.of(second)
    if isinstance(first, Moments):
        return frechet_distance(first, moments)
    return frechet_distance_of_features(first, moments)


def real_control(rows: Rows, generated: int, reference: int, seed: int, repeats: int = 6) -> Control:
    """Distances of disjoint random parts of real features, scaled to `generated` against `reference` samples.

    The first part has as many rows as were generated, at most half; the rest is the second part. What is left
    of a difference in numbers is made up by the law c (1 / N_a + 1 / N_b), exact to second order.
    """
    first = min(generated, len(rows) // 2, CONTROL_ROWS)
    second = min(len(rows) - first, CONTROL_ROWS)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        order = generator.permutation(len(rows))
        values.append(measure(rows[order[:first]], rows[order[first : first + second]]).distance)
    here = 1 / first + 1 / second
    wanted = 1 / generated + 1 / reference
    return Control(
        mean=float(np.mean(values)) * wanted / here,
        spread=float(np.std(values, ddof=1)) * wanted / here,
        sizes=(first, second),
        slope=float(np.mean(values)) / here,
    )


def dimension_of(statistics: Rows | Moments) -> int:
    """Of the features that statistics are about."""
    return statistics.dimension if isinstance(statistics, Moments) else statistics.shape[1]


def subset(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers of at most `most` of `count` rows, drawn at random, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
