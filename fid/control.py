"""Distances of real data to real data: what any score at these numbers of samples must be held against.

Apart from scores because nothing generated takes part, and from the audit because every score states it. It
must not know extractors or storage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fid.frechet import frechet_distance, frechet_distance_of_features
from fid.moments import Moments

Rows = NDArray[np.floating]

WIDE = 4096  # dimensions beyond which no covariance matrix is formed
CONTROL_ROWS = 5000  # rows of a side of a control: enough for any slope, in bounded time


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance and its two parts."""

    mean_term: float
    trace_term: float

    @property
    def value(self) -> float:
        return self.mean_term + self.trace_term


@dataclass(frozen=True)
class Control:
    """Distances of real data to real data, brought to the numbers of samples in question."""

    mean: float
    spread: float  # standard deviation over splits
    sizes: tuple[int, int]  # of the two sides that were compared
    slope: float  # points x (1 / N_generated + 1 / N_reference) that they amount to


def measure(first: Rows | Moments, second: Rows | Moments) -> Distance:
    """Fréchet distance of features or moments, by the way that is cheapest for their shapes."""
    if not isinstance(first, Moments) and not isinstance(second, Moments):
        dimension = first.shape[1]
        if dimension > WIDE or max(len(first), len(second)) <= dimension:
            return distance_of_rows(first, second)
    if isinstance(first, Moments) or (not isinstance(second, Moments) and len(second) < len(first)):
        first, second = second, first  # symmetric: features first, and the fewer of two
    moments = second if isinstance(second, Moments) else Moments.of(second)
    if isinstance(first, Moments):
        found = frechet_distance(first, moments)
    else:
        found = frechet_distance_of_features(first, moments)
    return Distance(found.mean_term, found.trace_term)


def distance_of_rows(first: Rows, second: Rows) -> Distance:
    """The distance without any covariance matrix, for few rows of many dimensions.

    With A = X^T X and B = Y^T Y, the square roots of the eigenvalues of A B are the singular values of X Y^T.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a -= mean_a
    b -= mean_b
    traces = np.square(a).sum() / (len(a) - 1) + np.square(b).sum() / (len(b) - 1)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return Distance(float(np.square(mean_a - mean_b).sum()), float(traces - 2 * cross))


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
        values.append(measure(rows[order[:first]], rows[order[first : first + second]]).value)
    here = 1 / first + 1 / second
    wanted = 1 / generated + 1 / reference
    return Control(
        mean=float(np.mean(values)) * wanted / here,
        spread=float(np.std(values, ddof=1)) * wanted / here,
        sizes=(first, second),
        slope=float(np.mean(values)) / here,
    )


def subset(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers of at most `most` of `count` rows, drawn at random, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
