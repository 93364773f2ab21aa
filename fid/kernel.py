"""Kernel Inception distance: squared maximum mean discrepancy with a polynomial kernel.

A module of its own: unlike the Fréchet distance it is unbiased at every number of samples. It needs all
features in memory. It must not know where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fid.moments import Array, check_finite


@dataclass(frozen=True)
class KernelDistance:
    """Mean of the unbiased estimates of disjoint blocks, with its standard error (None for one block)."""

    value: float
    standard_error: float | None
    block_size: int
    blocks: int


def kernel_distance(
    generated: ArrayLike, reference: ArrayLike, block_size: int | None = None, seed: int = 0
) -> KernelDistance:
    """KID (Binkowski et al. 2018): kernel (x·y / d + 1)^3, unbiased estimator, averaged over disjoint blocks.

    Published code draws 100 random subsets of 1,000, whose spread understates the error; disjoint blocks
    have the same expectation and an honest standard error.

    Args:
        generated: features (count, dimension).
        reference: features (count, dimension).
        block_size: rows of each side in a block; None: 1,000, or a tenth of the smaller side.
        seed: of the shuffles that fill the blocks.

    Raises:
        ValueError: other shapes, values that are not finite, or blocks of fewer than 2 rows or more than
            there are.
    """
    first, second = np.asarray(generated, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features must be (count, dimension) of one dimension, got {first.shape}, {second.shape}"
        )
    for side in (first, second):
        check_finite(side)
    smaller = min(len(first), len(second))
    size = block_size if block_size is not None else max(2, min(1000, smaller // 10))
    if not 2 <= size <= smaller:
        raise ValueError(f"blocks of {size} rows need at least 2 and at most {smaller} samples on each side")
    count = smaller // size
    generator = np.random.default_rng(seed)
    rows_of_first = generator.permutation(len(first))
    rows_of_second = generator.permutation(len(second))
    estimates = [
        _unbiased_discrepancy(first[rows_of_first[at : at + size]], second[rows_of_second[at : at + size]])
        for at in range(0, count * size, size)
    ]
    error = float(np.std(estimates, ddof=1) / np.sqrt(count)) if count > 1 else None
    return KernelDistance(float(np.mean(estimates)), error, size, count)


def _unbiased_discrepancy(x: Array, y: Array) -> float:
    """MMD^2 without the diagonal terms (Gretton et al. 2012, eq. 3)."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * xy.mean())


def _kernel(x: Array, y: Array) -> Array:
    return (x @ y.T / x.shape[1] + 1) ** 3
