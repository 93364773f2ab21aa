"""Fréchet distance between Gaussians fitted to two sets of features.

A module of its own because its numerics decide whether FID can be trusted: the trace of the matrix square
root comes from eigenvalues of a symmetric form in float64, never from a general matrix square root, and it is
right for rank-deficient covariances too. It must not know what the features are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike

from fid.moments import Array, Moments, check_finite

TRACE_METHOD = "symmetric eigenvalues, float64"  # of F^T B F with A = F F^T, as results state it
EXACT = 16 * float(np.finfo(np.float64).eps)  # relative error of one float64 computation, several roundings
_PANEL = 256  # columns of one block of the triangular product


@dataclass(frozen=True)
class Frechet:
    """Squared Fréchet (2-Wasserstein) distance and its two parts, which point to different faults.

    Range, resize and extractor faults load on the mean term, few samples on the trace part.
    """

    mean_term: float  # |mean_a - mean_b|^2
    trace_term: float  # tr(A) + tr(B) - 2 tr((A B)^(1/2))
    roots: Array = field(repr=False, compare=False)  # square roots of the non-zero eigenvalues of A B

    @property
    def distance(self) -> float:
        return self.mean_term + self.trace_term


def frechet_distance(a: Moments, b: Moments) -> Frechet:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, eq. 6).

    The eigenvalues of A B are those of F^T B F where A = F F^T, A being the side of fewer samples. F is A's
    Cholesky factor, or its eigenvectors of non-zero eigenvalues where A is singular. A term that is no larger
    than its rounding error is 0, so sets have no distance to themselves.

    Raises:
        ValueError: different dimensions, or fewer than two samples on a side.
    """
    if a.dimension != b.dimension:
        raise ValueError(f"features of {a.dimension} and {b.dimension} dimensions have no distance")
    first, second = a.covariance, b.covariance
    roots = (
        _product_roots(first, second, a.count)
        if a.count <= b.count
        else _product_roots(second, first, b.count)
    )
    return _of_eigenvalues(a.mean, b.mean, float(np.trace(first)), float(np.trace(second)), roots)


def frechet_distances(many: Iterable[Moments], reference: Moments) -> list[Frechet]:
    """The distances of many sets to one reference, whose covariance is then factored once.

    Sets are read one by one, so an iterator of them needs the memory of one. Those of at most as many samples
    as dimensions are measured by their own factor, as singular covariances are not by the reference's.

    Raises:
        ValueError: see `frechet_distance`.
    """
    lower: torch.Tensor | None = None
    if reference.count > reference.dimension:
        factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(reference.covariance))
        lower = None if failed else factor
    found = []
    for moments in many:
        if lower is None or moments.dimension != reference.dimension or moments.count <= moments.dimension:
            found.append(frechet_distance(moments, reference))
            continue
        covariance = moments.covariance
        roots = _square_roots(_triangular_congruence(lower, torch.from_numpy(covariance)))
        traces = float(np.trace(covariance)), float(np.trace(reference.covariance))
        found.append(_of_eigenvalues(moments.mean, reference.mean, *traces, roots))
    return found


def frechet_distance_of_features(features: ArrayLike, reference: Moments) -> Frechet:
    """The same distance from the features themselves (N, dimension), cheaper where N <= dimension.

    With X the centred features / sqrt(N - 1), A = X^T X and the eigenvalues of A B are those of the N x N
    matrix X B X^T: no matrix of the features' dimension is decomposed.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != reference.dimension:
        raise ValueError(f"features must be (count, {reference.dimension}), got shape {rows.shape}")
    if len(rows) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(rows)}")
    if len(rows) > reference.dimension:
        return frechet_distance(Moments.of(rows), reference)
    check_finite(rows)
    mean = rows.mean(axis=0)
    centred = (rows - mean) / np.sqrt(len(rows) - 1)
    covariance = reference.covariance
    roots = _square_roots(torch.from_numpy(centred @ covariance @ centred.T))
    traces = float(np.square(centred).sum()), float(np.trace(covariance))
    return _of_eigenvalues(mean, reference.mean, *traces, roots)


def frechet_distance_of_rows(first: ArrayLike, second: ArrayLike) -> Frechet:
    """The same distance of two sets of features, without any covariance: for few rows of many dimensions.

    With A = X^T X and B = Y^T Y, the square roots of the eigenvalues of A B are the singular values of X Y^T.

    Raises:
        ValueError: other shapes, fewer than two samples on a side, or values that are not finite.
    """
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (count, dimension) of one dimension, got {a.shape}, {b.shape}")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {min(len(a), len(b))}")
    for side in (a, b):
        check_finite(side)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a -= mean_a
    b -= mean_b
    traces = np.square(a).sum() / (len(a) - 1) + np.square(b).sum() / (len(b) - 1)
    singular = np.linalg.svd(a @ b.T, compute_uv=False)
    scale = np.sqrt((len(a) - 1) * (len(b) - 1))
    roots = singular / scale
    error = EXACT * len(roots) * roots[0]  # singular values are known to EXACT of the largest
    return _assemble(mean_a, mean_b, float(traces), float(singular.sum() / scale), float(error), roots)


def _of_eigenvalues(mean_a: Array, mean_b: Array, trace_a: float, trace_b: float, roots: Array) -> Frechet:
    """The distance of two sets, where the roots come from eigenvalues r^2.

    These are known to EXACT of the largest one (Weyl's inequality), hence each root r to EXACT r_max^2 / r,
    at most sqrt(EXACT) r_max.
    """
    error = EXACT * roots.max(initial=0) ** 2
    errors = np.minimum(error / np.maximum(roots, np.finfo(np.float64).tiny), np.sqrt(error))
    return _assemble(mean_a, mean_b, trace_a + trace_b, float(roots.sum()), float(errors.sum()), roots)


def _assemble(
    mean_a: Array, mean_b: Array, traces: float, cross: float, error: float, roots: Array
) -> Frechet:
    """The distance of two sets, where a term that rounding alone could have made is 0.

    Of equal sets both terms are differences of equal numbers, and what rounding leaves of them, of either
    sign, would be read as a distance.

    traces: tr(A) + tr(B). cross: tr((A B)^(1/2)), the sum of the roots. error: of it.
    """
    mean_term = float(np.square(mean_a - mean_b).sum())
    if mean_term <= EXACT**2 * float(np.square(mean_a).sum()):
        mean_term = 0.0
    trace_term = traces - 2 * cross
    if abs(trace_term) <= EXACT * traces + 2 * error:
        trace_term = 0.0
    return Frechet(mean_term, trace_term, roots)


def _product_roots(factored: Array, other: Array, count: int) -> Array:
    """Square roots of the eigenvalues of `factored other`; `count` bounds the rank of `factored`."""
    a, b = torch.from_numpy(factored), torch.from_numpy(other)
    if count > len(a):
        lower, failed = torch.linalg.cholesky_ex(a)
        if not failed:
            return _square_roots(_triangular_congruence(lower, b))
    factor = torch.from_numpy(symmetric_factor(factored))
    return _square_roots(factor.T @ b @ factor)


def symmetric_factor(matrix: Array) -> Array:
    """F (d, rank) with matrix = F F^T for a positive semi-definite matrix (d, d), without rounding noise."""
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix))
    keep = values > values[-1] * len(values) * torch.finfo(torch.float64).eps
    return (vectors[:, keep] * values[keep].sqrt()).numpy()


def _triangular_congruence(lower: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Lower triangle of L^T M L, by panels: a third of the work of two dense products."""
    size = len(lower)
    product = torch.zeros_like(matrix)
    for first in range(0, size, _PANEL):
        columns = slice(first, first + _PANEL)
        right = matrix[first:, first:] @ lower[first:, columns]
        for row in range(first, size, _PANEL):
            rows = slice(row, row + _PANEL)
            product[rows, columns] = lower[row:, rows].T @ right[row - first :]
    return product


def _square_roots(symmetric: torch.Tensor) -> Array:
    """Square roots of a semi-definite matrix's eigenvalues, ascending; only its lower triangle is read."""
    values: Array = torch.linalg.eigvalsh(symmetric, UPLO="L").clamp_min(0).sqrt().numpy()
    return values
