"""How far a Fréchet distance of finitely many samples can be trusted: standard error, bias, extrapolation.

Apart from the distance itself because these are statements about sampling. All hold the reference fixed: they
speak of another draw of as many generated samples. It must not know where features come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from fid.frechet import Frechet, frechet_distances, symmetric_factor
from fid.moments import Array, Moments, blocks

ErrorMethod = Literal["jackknife", "bootstrap"]
RESAMPLES = 100  # of a bootstrap: its standard deviation is known to 7 % then


@dataclass(frozen=True)
class StandardError:
    """Standard deviation of the distance over other draws of the generated samples, and how it was found."""

    value: float
    method: str


def jackknife_standard_error(
    feature_blocks: Iterable[ArrayLike], generated: Moments, reference: Moments, distance: Frechet
) -> StandardError:
    """Standard error by the infinitesimal jackknife, less its bias: one pass over the features.

    A sample x moves the distance by 2 (m - n)·c + c^T (I - T) c less its mean, where c = x - m, n is the
    reference's mean and T the optimal transport map between the two Gaussians (T A T = B). The variance of
    these, J, has the expectation V1 + 2 V2 of any jackknife (Efron and Stein 1981), where the distance has
    V1 + V2: V2 is the variance of its quadratic part, which leads where the two sets are close. (A bootstrap
    has V1 + 3 V2 and worse, as repeated rows add spread of their own.) V2 is taken from Gaussian features:

        V2 = (2 tr A^2 + sum_ij (1 + delta_ij) c_ij^2) / N^2,    c_ij = r_i r_j / (r_i + r_j)

    with r the square roots of the eigenvalues of A B. As V1 >= 0, the result is at least J / 2.

    Args:
        feature_blocks: the features that `generated` was made of, (rows, dimension) each.
        generated: their moments.
        reference: moments of the reference.
        distance: between the two.
    """
    whitening = _transport_factor(generated.covariance, reference.covariance)
    slope = 2 * (generated.mean - reference.mean)
    squares, total = 0.0, 0.0
    for block in feature_blocks:
        centred = np.asarray(block, dtype=np.float64) - generated.mean
        influence = (
            centred @ slope + np.square(centred).sum(axis=1) - np.square(centred @ whitening).sum(axis=1)
        )
        squares += float(np.square(influence).sum())
        total += float(influence.sum())
    count = generated.count
    jackknife = max(squares - total**2 / count, 0.0) / (count - 1) / count
    curvature = _curvatures(distance)
    quadratic = (
        2 * float(np.square(generated.covariance).sum())
        + float(np.square(curvature).sum())
        + float(np.square(np.diag(curvature)).sum())
    ) / count**2
    variance = max(jackknife - quadratic, jackknife / 2)
    return StandardError(float(np.sqrt(variance)), "infinitesimal jackknife, Gaussian second order removed")


def bootstrap_standard_error(
    features: ArrayLike, reference: Moments, resamples: int = RESAMPLES, seed: int = 0
) -> StandardError:
    """Standard error by the bootstrap (Efron 1979): the spread over resamples with replacement.

    In the words of `jackknife_standard_error` it has the expectation V1 + 3 V2, and more, as repeated rows
    add spread of their own: right where the two sets are far apart, and up to four times too much where they
    are close (`benchmarks/fid_error.py`). One distance for each resample.

    Args:
        features: (count, dimension) generated, all in memory.
        reference: moments of the reference, which stays as it is.
        resamples: at least 2.
        seed: of the resamples.
    """
    rows = np.asarray(features)
    generator = np.random.default_rng(seed)

    def drawn() -> Moments:
        moments = Moments(reference.dimension)
        for chosen in blocks(generator.integers(len(rows), size=len(rows))):
            moments.update(rows[chosen])
        return moments

    distances = frechet_distances((drawn() for _ in range(resamples)), reference)
    spread = float(np.std([found.distance for found in distances], ddof=1))
    return StandardError(spread, f"bootstrap, {resamples} resamples, seed {seed}")


def _curvatures(distance: Frechet) -> Array:
    """r_i r_j / (r_i + r_j): how the distance curves in an error of the covariance."""
    roots = distance.roots[distance.roots > 0]
    found: Array = np.outer(roots, roots) / (roots[:, None] + roots[None, :])
    return found


def _transport_factor(a: Array, b: Array) -> Array:
    """G (d, rank) with T = G G^T, T the symmetric map with T A T = B on the range of A."""
    factor = torch.from_numpy(symmetric_factor(a))
    inverse = factor / factor.square().sum(dim=0)  # columns are orthogonal: the transposed pseudo-inverse
    values, vectors = torch.linalg.eigh(factor.T @ torch.from_numpy(b) @ factor)
    root: Array = (inverse @ vectors * values.clamp_min(0).pow(0.25)).numpy()
    return root


@dataclass(frozen=True)
class Bias:
    """Expected excess of the distance over that of infinitely many samples, by side; in second order."""

    generated: float  # from N generated: does not vanish in comparisons at other N
    reference: float  # from N reference

    @property
    def total(self) -> float:
        return self.generated + self.reference


def predicted_bias(distance: Frechet, generated: Moments, reference: Moments) -> Bias:
    """Bias of the distance for Gaussian features: (tr A + Q) / N_a + (tr B + Q) / N_b.

    Q = 1/2 sum_ij (1 + delta_ij) r_i r_j / (r_i + r_j), r the square roots of the eigenvalues of A B:
    expectation over Wishart covariances of the second-order term of -2 tr((A B)^(1/2)); the mean term gives
    the traces. Holds for N well above the dimension; below it, it is an upper estimate.
    """
    curvatures = _curvatures(distance)
    curvature = 0.5 * float(curvatures.sum() + np.trace(curvatures))
    return Bias(
        generated=(float(np.trace(generated.covariance)) + curvature) / generated.count,
        reference=(float(np.trace(reference.covariance)) + curvature) / reference.count,
    )


@dataclass(frozen=True)
class Extrapolation:
    """FID-infinity: intercept of the distance as a line in 1/N."""

    value: float
    standard_error: float  # of the intercept: the line's, and that of the distance at full N
    slope: float  # the measured bias is slope / N
    sizes: tuple[int, ...]  # numbers of samples of the points
    distances: tuple[float, ...]  # mean over disjoint subsets of that size


def fid_infinity(
    features: ArrayLike, reference: Moments, full: StandardError, parts: int = 12, seed: int = 0
) -> Extrapolation:
    """Extrapolate to infinitely many generated samples (Chong and Forsyth 2020).

    Rows are shuffled and cut into `parts` disjoint parts; all groups of 1, 2, 3, ... neighbouring parts that
    tile the whole give distances, whose mean at each size is fitted by a line in 1/N, weighted by the number
    of groups. The line gives the slope, the distance of all rows the level.

    Args:
        features: (count, dimension) generated.
        reference: moments of the reference.
        full: standard error of the distance of all features.
        parts: number of disjoint parts, with several divisors.
        seed: of the shuffle.

    Raises:
        ValueError: a single part, or the smallest one would have fewer samples than dimensions, where no line
            holds.
    """
    if parts < 2:
        raise ValueError(f"parts = {parts}: a line in 1/N needs at least 2")
    rows = np.asarray(features)
    size = len(rows) // parts
    if size <= reference.dimension:
        raise ValueError(
            f"{len(rows)} samples in {parts} parts leave {size} each, not more than {reference.dimension} "
            f"dimensions: use more samples or fewer parts"
        )
    order = np.random.default_rng(seed).permutation(len(rows))[: size * parts]
    pieces = [Moments.of(rows[chosen]) for chosen in np.split(order, parts)]
    counts, means, spreads = [], [], []
    for width in (width for width in range(1, parts + 1) if parts % width == 0):
        groups_of_parts = (_merged(pieces[first : first + width]) for first in range(0, parts, width))
        distances = [found.distance for found in frechet_distances(groups_of_parts, reference)]
        counts.append(size * width)
        means.append(float(np.mean(distances)))
        spreads.append(
            float(np.std(distances, ddof=1)) / np.sqrt(len(distances)) if len(distances) > 1 else 0.0
        )
    groups = parts * size / np.array(counts)
    slope = float(np.polyfit(1 / np.array(counts), means, 1, w=np.sqrt(groups))[0])
    at_full = means[-1]
    reach = 1 / counts[0] - 1 / counts[-1]
    slope_error = float(np.hypot(spreads[0], full.value)) / reach
    return Extrapolation(
        value=at_full - slope / counts[-1],
        standard_error=float(np.hypot(full.value, slope_error / counts[-1])),
        slope=slope,
        sizes=tuple(counts),
        distances=tuple(means),
    )


def _merged(pieces: list[Moments]) -> Moments:
    whole = Moments(pieces[0].dimension)
    for piece in pieces:
        whole.merge(piece)
    return whole
