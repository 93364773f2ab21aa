"""One call a metric: what a training loop, a notebook or the reducer asks for.

The methods are in modules of their own; here they are put together and named. It must not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from fid.frechet import frechet_distance
from fid.inception_score import InceptionScore, InceptionScoreSums, inception_score
from fid.kernel import KernelDistance, kernel_distance
from fid.moments import Moments, blocks
from fid.neighbours import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from fid.uncertainty import (
    Bias,
    ErrorMethod,
    Extrapolation,
    StandardError,
    bootstrap_standard_error,
    fid_infinity,
    jackknife_standard_error,
    predicted_bias,
)

__all__ = [
    "DensityCoverage",
    "Extrapolation",
    "FidScore",
    "InceptionScore",
    "InceptionScoreSums",
    "KernelDistance",
    "PrecisionRecall",
    "density_coverage",
    "fid_infinity",
    "fid_score",
    "fid_score_of_blocks",
    "inception_score",
    "kernel_distance",
    "precision_recall",
]


@dataclass(frozen=True)
class FidScore:
    """A Fréchet distance with what is needed to read it."""

    value: float
    mean_term: float
    trace_term: float
    standard_error: StandardError
    bias: Bias
    count: int
    reference_count: int


def fid_score(
    features: ArrayLike, reference: ArrayLike | Moments, error: ErrorMethod = "jackknife"
) -> FidScore:
    """FID of features (count, dimension) against reference features or moments."""
    rows = np.asarray(features)
    moments = reference if isinstance(reference, Moments) else Moments.of(reference)
    return fid_score_of_blocks(lambda: blocks(rows), moments, error)


def fid_score_of_blocks(
    feature_blocks: Callable[[], Iterable[ArrayLike]], reference: Moments, error: ErrorMethod = "jackknife"
) -> FidScore:
    """FID of features that come in blocks (rows, dimension), in memory independent of their number.

    One pass makes the moments, a second one the standard error; only the bootstrap holds all features.

    Args:
        feature_blocks: called for each pass; the same blocks in the same order give the same bits.
        reference: moments of the reference.
        error: how the standard error is found.

    Raises:
        ValueError: fewer than two rows, another dimension, values that are not finite, or an unknown `error`.
    """
    if error not in get_args(ErrorMethod):
        raise ValueError(f"error = {error!r}: must be one of {', '.join(get_args(ErrorMethod))}")
    moments = Moments(reference.dimension)
    for block in feature_blocks():
        moments.update(block)
    distance = frechet_distance(moments, reference)
    if error == "bootstrap":
        rows = np.concatenate([np.asarray(block) for block in feature_blocks()])
        found = bootstrap_standard_error(rows, reference)
    else:
        found = jackknife_standard_error(feature_blocks(), moments, reference, distance)
    return FidScore(
        value=distance.distance,
        mean_term=distance.mean_term,
        trace_term=distance.trace_term,
        standard_error=found,
        bias=predicted_bias(distance, moments, reference),
        count=moments.count,
        reference_count=reference.count,
    )
