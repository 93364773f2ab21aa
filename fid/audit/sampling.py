"""Subsets of samples, and how far differences of their distances can be trusted.

Apart from the tests because their thresholds come from here and from `fid.control`: from other splits and
other subsets of the same data, not from numbers chosen beforehand. It must not know any hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fid.control import Rows
from fid.moments import Moments

Chosen = NDArray[np.int64]  # numbers of samples

GROUPS = 10  # of the jackknife

#: Jackknife standard errors that a contribution must exceed. Ten groups give nine degrees of freedom, where
#: 4 is passed by chance in 0.2 % of trials on one side, and an audit makes about a dozen of them.
SIGNIFICANT = 4.0


def jackknife(statistic: Callable[[Chosen], float], count: int, seed: int) -> float:
    """Standard error of a statistic of `count` samples by leaving out one of ten random groups at a time.

    Shao and Wu 1989: the delete-d jackknife holds for smooth statistics, as distances of moments are.
    statistic: takes the numbers of the samples that stay.
    """
    groups = min(GROUPS, count // 2)
    if groups < 2:
        return float("inf")
    group = np.random.default_rng(seed).permutation(count) % groups
    values = np.array([statistic(np.flatnonzero(group != number)) for number in range(groups)])
    return float(np.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum()))


def condensed(rows: Rows) -> Rows | Moments:
    """Moments of rows where they are enough for them, else the rows: what is compared again and again."""
    return Moments.of(rows) if len(rows) > rows.shape[1] else rows
