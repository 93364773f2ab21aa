"""Mean and scatter matrix of features, accumulated in float64 block by block.

A module of its own because every Fréchet score rests on these numbers: they are mergeable, they never hold
the features themselves, and the same blocks in the same order give the same bits. It must not know where
features come from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BLOCK = 1024  # rows of one update: fixed, so that sums do not depend on how rows were stored


class Moments:
    """Count, mean and scatter of rows seen so far.

    Attributes:
        count: number of rows.
        mean: (dimension,) float64.
        scatter: (dimension, dimension) float64, the sum of (x - mean)(x - mean)^T.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"features need at least one dimension, got {dimension}")
        self.count = 0
        self.mean: Array = np.zeros(dimension)
        self.scatter: Array = np.zeros((dimension, dimension))

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """Moments of all rows of `features` (count, dimension), in blocks of 1,024 in row order."""
        rows = np.asarray(features)
        if rows.ndim != 2:
            raise ValueError(f"features must be (count, dimension), got shape {rows.shape}")
        moments = cls(rows.shape[1])
        for block in blocks(rows):
            moments.update(block)
        return moments

    @classmethod
    def from_covariance(cls, mean: ArrayLike, covariance: ArrayLike, count: int) -> Moments:
        """Moments of published statistics: mean (d,), covariance (d, d) with N - 1, and the N behind them."""
        mu = np.asarray(mean, dtype=np.float64)
        sigma = np.asarray(covariance, dtype=np.float64)
        if mu.ndim != 1 or sigma.shape != (mu.size, mu.size):
            raise ValueError(f"mean (d,) and covariance (d, d) expected, got {mu.shape} and {sigma.shape}")
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got count {count}")
        moments = cls(mu.size)
        moments.count = count
        moments.mean = mu.copy()
        moments.scatter = sigma * (count - 1)
        return moments

    @property
    def dimension(self) -> int:
        return self.mean.size

    @property
    def covariance(self) -> Array:
        """(dimension, dimension) sample covariance, divided by N - 1."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)

    def update(self, block: ArrayLike) -> None:
        """Take in the rows of `block` (rows, dimension).

        Raises:
            ValueError: another dimension, or values that are not finite.
        """
        rows = np.asarray(block, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(f"a block must be (rows, {self.dimension}), got shape {rows.shape}")
        check_finite(rows)
        if len(rows) == 0:
            return
        mean = rows.mean(axis=0)
        centred = np.empty((len(rows) + 1, self.dimension))
        np.subtract(rows, mean, out=centred[:-1])
        # the step from the old mean to this block's is one more row: no other pass over the whole matrix
        centred[-1] = (mean - self.mean) * np.sqrt(self._weight(len(rows)))
        self.scatter += centred.T @ centred  # one array and its transpose: BLAS syrk
        self._advance(len(rows), mean)

    def merge(self, other: Moments) -> None:
        """Take in all rows that `other` has seen (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        if other.dimension != self.dimension:
            raise ValueError(f"moments of {self.dimension} and of {other.dimension} dimensions do not merge")
        if other.count == 0:
            return
        delta = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(delta, delta * self._weight(other.count))
        self._advance(other.count, other.mean)

    def _weight(self, count: int) -> float:
        """Of the squared distance between the mean of all rows so far and that of `count` more."""
        return self.count * count / (self.count + count)

    def _advance(self, count: int, mean: Array) -> None:
        self.count += count
        self.mean = self.mean + (mean - self.mean) * (count / self.count)


def check_finite(rows: Array, what: str = "feature") -> None:
    """Raise ValueError, with their number, where rows (count, dimension) hold NaN or infinity."""
    finite = np.isfinite(rows)
    if not finite.all():
        bad = int((~finite.all(axis=1)).sum())
        raise ValueError(f"{bad} of {len(rows)} {what} rows hold NaN or infinity")


def blocks(rows: NDArray[np.generic], size: int = BLOCK) -> Iterator[NDArray[np.generic]]:
    """Consecutive slices of `size` rows; the last may be shorter."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
