"""Scores from nearest neighbours in feature space: precision, recall, density, coverage.

Together in a module because all rest on the same balls: around each sample, as far as its k-th neighbour of
the same set. They need all features in memory, not all distances. It must not know where features come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fid.moments import BLOCK, Array, check_finite


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019), both in [0, 1]."""

    precision: float  # share of generated samples in the balls of the reference: quality
    recall: float  # share of reference samples in the balls of the generated: variety
    k: int


@dataclass(frozen=True)
class DensityCoverage:
    """Density and coverage (Naeem et al. 2020); density may exceed 1, coverage is in [0, 1]."""

    density: float
    coverage: float
    k: int


def precision_recall(generated: ArrayLike, reference: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of features (count, dimension); k = 3 in StyleGAN and guided-diffusion.

    Depends on both numbers of samples: compare at equal ones.

    Raises:
        ValueError: other shapes, values that are not finite, or k below 1 or not below the number of samples.
    """
    fake, real = _checked(generated, reference, k)
    real_radii, fake_radii = _squared_radii(real, k), _squared_radii(fake, k)
    covered = np.zeros(len(real), dtype=bool)
    inside = 0
    for rows, distances in _squared_distances(fake, real):
        inside += int((distances <= real_radii).any(axis=1).sum())
        covered |= (distances <= fake_radii[rows, None]).any(axis=0)
    return PrecisionRecall(inside / len(fake), float(covered.mean()), k)


def density_coverage(generated: ArrayLike, reference: ArrayLike, k: int = 5) -> DensityCoverage:
    """Density and coverage of features (count, dimension); k = 5 in the paper.

    Raises:
        ValueError: other shapes, values that are not finite, or k below 1 or not below the number of samples.
    """
    fake, real = _checked(generated, reference, k)
    radii = _squared_radii(real, k)
    balls = 0
    nearest = np.full(len(real), np.inf)
    for _, distances in _squared_distances(fake, real):
        balls += int((distances < radii).sum())
        nearest = np.minimum(nearest, distances.min(axis=0))
    return DensityCoverage(balls / (k * len(fake)), float((nearest < radii).mean()), k)


def nearest_neighbours(queries: ArrayLike, candidates: ArrayLike) -> tuple[Array, np.ndarray]:
    """Distance to the nearest candidate (queries,) and its row, for features or pixels (count, dimension)."""
    first, second = _checked(queries, candidates, 0)
    distances, rows = np.empty(len(first)), np.empty(len(first), dtype=np.int64)
    for part, squared in _squared_distances(first, second):
        rows[part] = squared.argmin(axis=1)
        distances[part] = np.linalg.norm(first[part] - second[rows[part]], axis=1)  # of a copy exactly zero
    return distances, rows


def nearest_rows(queries: ArrayLike, candidates: ArrayLike, k: int) -> np.ndarray:
    """Rows (queries, k) of the k nearest candidates, nearest first.

    Raises:
        ValueError: other shapes, or fewer than k candidates.
    """
    first, second = _checked(queries, candidates, 0)
    if k > len(second):
        raise ValueError(f"{k} neighbours need as many candidates, got {len(second)}")
    found = np.empty((len(first), k), dtype=np.int64)
    for part, squared in _squared_distances(first, second):
        found[part] = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return found


def nearest_others(features: ArrayLike) -> Array:
    """Distance of each row (count, dimension) to the nearest other row, exactly zero for a copy."""
    rows, _ = _checked(features, features, 1)
    distances = np.empty(len(rows))
    for part, squared in _squared_distances(rows, rows):
        squared[np.arange(len(part)), part] = np.inf
        distances[part] = np.linalg.norm(rows[part] - rows[squared.argmin(axis=1)], axis=1)
    return distances


def _checked(first: ArrayLike, second: ArrayLike, k: int) -> tuple[Array, Array]:
    """Both sets in float64, moved by one vector so that distances keep their digits."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (count, dimension) of one dimension, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} samples on each side, got {len(a)} and {len(b)}")
    for side in (a, b):
        check_finite(side)
    centre = b.mean(axis=0)
    return a - centre, b - centre


def _squared_radii(features: Array, k: int) -> Array:
    """Squared distance of each row to its k-th nearest other row. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"k = {k}: a ball reaches to a neighbour, so k is at least 1")
    radii = np.empty(len(features))
    for rows, distances in _squared_distances(features, features):
        distances[np.arange(distances.shape[0]), rows] = np.inf
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[np.ndarray, Array]]:
    """Blocks of (row numbers of a, squared distances to all of b)."""
    norms = np.square(b).sum(axis=1)
    for first in range(0, len(a), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(a)))
        part = a[rows]
        squared = np.square(part).sum(axis=1)[:, None] + norms - 2 * (part @ b.T)
        yield rows, np.maximum(squared, 0)
