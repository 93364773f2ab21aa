"""H8: numerics: the trace term by several ways, FID(a, a) = 0, symmetry, and known miscalculations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.control import Rows
from fid.frechet import Frechet, frechet_distance, frechet_distance_of_rows
from fid.moments import Moments

DISAGREEMENT = 1e-3  # points, or of the value where that is above 1: what published values state is coarser
ROW_ROUTE = 300  # rows of a side for the way by singular values
COVARIANCES = 2048  # dimensions up to which covariances are formed
REMEDY = "compute moments and eigenvalues in float64, with N - 1, as fid.frechet does"

Matrix = NDArray[np.floating]


def look(evidence: Evidence) -> Outcome:
    """Compute the distance in independent ways, and compare the reported value with them."""
    numbers: Numbers = {}
    for side, found in (("generated", evidence.generated), ("reference", evidence.reference)):
        problem = _statistics_problem(found.moments)
        if problem is not None:
            return Outcome("found", f"{side}: {problem}", numbers, None, True, REMEDY)
    frechet = evidence.frechet
    if frechet is None:
        return Outcome("remains", "the sides' features have no distance", numbers)
    distance = frechet.distance
    numbers |= {
        "distance": distance,
        "mean term": frechet.mean_term,
        "trace term": frechet.trace_term,
    }
    ways = _ways(evidence, distance)
    numbers |= {f"distance {name}": value for name, value in ways.items()}
    worst = max((abs(value - distance) for value in ways.values()), default=0.0)
    if worst > _tolerance(distance):
        reason = f"ways to the same distance disagree by {worst:.3g}"
        return Outcome("found", reason, numbers, worst, True, REMEDY)
    if evidence.reported is None:
        return Outcome("excluded", f"{len(ways)} ways agree to {worst:.1g}", numbers)
    off = evidence.reported - distance
    numbers["reported"] = evidence.reported
    if abs(off) <= _tolerance(distance):
        return Outcome("excluded", "the reported value is that of the features", numbers)
    for name, value in _miscalculations(evidence, frechet):
        numbers[f"distance {name}"] = value
        if abs(value - evidence.reported) <= max(0.02 * abs(off), _tolerance(distance)):
            reason = f"the reported {evidence.reported:.6g} is what one gets {name}; "
            reason += f"it should be {distance:.6g}"
            return Outcome("found", reason, numbers, off, True, REMEDY)
    return Outcome(
        "found",
        f"the features give {distance:.6g}, not the reported {evidence.reported:.6g}, by no known "
        "miscalculation: other features, or other numerics",
        numbers,
        off,
        True,
        REMEDY + "; report the value with the features that it was made of",
    )


def _tolerance(value: float) -> float:
    return DISAGREEMENT * max(1.0, abs(value))


def _statistics_problem(moments: Moments | None) -> str | None:
    """What cannot be true of a covariance."""
    if moments is None:
        return None
    covariance = moments.covariance
    scale = float(np.abs(covariance).max())
    asymmetry = float(np.abs(covariance - covariance.T).max())
    if asymmetry > 1e-6 * scale:
        return f"the covariance is not symmetric: entries differ by up to {asymmetry:.2g}"
    least = float(np.linalg.eigvalsh(covariance)[0])
    if least < -1e-6 * scale:
        return f"the covariance has a negative eigenvalue, {least:.2g}: summed in too low a precision"
    return None


def _ways(evidence: Evidence, value: float) -> dict[str, float]:
    """The distance, which is `value`, by other ways; singular values are taken of few rows, and their
    disagreement is added."""
    a, b = evidence.generated.statistics, evidence.reference.statistics
    found: dict[str, float] = {}
    if evidence.generated.dimension is None or evidence.generated.dimension > COVARIANCES:
        return found
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        some = a[:ROW_ROUTE], b[:ROW_ROUTE]
        by_moments = frechet_distance(Moments.of(some[0]), Moments.of(some[1])).distance
        found["by singular values of the rows"] = (
            value + frechet_distance_of_rows(*some).distance - by_moments
        )
    first, second = (side if isinstance(side, Moments) else Moments.of(side) for side in (a, b))
    found["by eigenvalues"] = frechet_distance(first, second).distance
    found["with the sides exchanged"] = frechet_distance(second, first).distance
    found["less FID(a, a)"] = value - abs(frechet_distance(first, first).distance)
    return found


def _miscalculations(evidence: Evidence, frechet: Frechet) -> list[tuple[str, float]]:
    """Values of known mistakes, by what was done."""
    a, b = evidence.generated.finite_features, evidence.reference.finite_features
    found = [
        ("from the mean term alone", frechet.mean_term),
        ("from the trace term alone", frechet.trace_term),
        ("by leaving out the square", float(np.sqrt(max(frechet.distance, 0.0)))),
    ]
    if a is None or b is None or a.shape[1] > COVARIANCES:
        return found
    estimates: dict[str, Callable[[Rows], Moments]] = {
        "with a covariance of E[x x^T] - E[x] E[x]^T in float32": _one_pass_float32,
        "with sums in float32, one sample at a time": _running_float32,
        "with sums in float16": lambda rows: Moments.of(rows.astype(np.float16).astype(np.float64)),
        "with N in place of N - 1": _divided_by_n,
        "with 1e-6 added to the diagonals": lambda rows: _shifted(rows, 1e-6),
        "with 1e-3 added to the diagonals": lambda rows: _shifted(rows, 1e-3),
    }
    for name, estimate in estimates.items():
        found.append((name, frechet_distance(estimate(a), estimate(b)).distance))
    return found


def _one_pass_float32(rows: Rows) -> Moments:
    x = rows.astype(np.float32)
    mean = x.mean(axis=0, dtype=np.float32)
    covariance = (x.T @ x - len(x) * np.outer(mean, mean)) / np.float32(len(x) - 1)
    return Moments.from_covariance(mean, _nearest_covariance(covariance), len(x))


def _running_float32(rows: Rows) -> Moments:
    x = rows.astype(np.float32)
    total = np.cumsum(x, axis=0, dtype=np.float32)[-1]
    mean = total / np.float32(len(x))
    outer = np.zeros((x.shape[1], x.shape[1]), dtype=np.float32)
    for row in x:
        outer += np.outer(row, row)
    covariance = (outer - len(x) * np.outer(mean, mean)) / np.float32(len(x) - 1)
    return Moments.from_covariance(mean, _nearest_covariance(covariance), len(x))


def _nearest_covariance(matrix: Matrix) -> Matrix:
    """Without the negative eigenvalues that rounding left: real parts of a square root drop them too."""
    values, vectors = np.linalg.eigh((matrix.astype(np.float64) + matrix.T) / 2)
    cleaned: Matrix = (vectors * values.clip(0)) @ vectors.T
    return cleaned


def _divided_by_n(rows: Rows) -> Moments:
    moments = Moments.of(rows)
    return Moments.from_covariance(moments.mean, moments.scatter / moments.count, moments.count)


def _shifted(rows: Rows, by: float) -> Moments:
    moments = Moments.of(rows)
    return Moments.from_covariance(
        moments.mean, moments.covariance + by * np.eye(moments.dimension), moments.count
    )


TEST = HypothesisTest(
    "H8",
    "numerics",
    (
        frozenset({"generated features", "reference features"}),
        frozenset({"reference statistics"}),
    ),
    3,
    look,
)
