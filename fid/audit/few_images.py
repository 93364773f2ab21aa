"""H1: too few images. The bias of a Fréchet distance is about c (1 / N_generated + 1 / N_reference)."""

from __future__ import annotations

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.finding import MATERIAL, HypothesisTest, Outcome
from fid.control import measure, subset
from fid.frechet import frechet_distance
from fid.moments import Moments
from fid.uncertainty import predicted_bias

#: Samples a dimension that a covariance needs to be an estimate at all: the authors of FID ask for 10,000
#: images in 2048 dimensions, which is about five. Used without an expectation only.
PER_DIMENSION = 5

#: Standard deviations that the excess must exceed. Less than elsewhere: the bias itself is no chance.
CLEAR = 2.0

LEAST = 4  # images of a side, below which a distance has no standard error and no control
PARTS = 12  # of the fit
FIT_ROWS = 12_000  # rows that the fit uses at most: its slope is known to a few percent then


def look(evidence: Evidence) -> Outcome:
    """Compare the bias at these numbers with that at the numbers of the expected value."""
    expected, dimension = evidence.expectation, evidence.generated.dimension or 0
    generated, reference = evidence.generated.count, evidence.reference.count
    if min(generated, reference) < LEAST:
        reason = f"{generated:,} against {reference:,} images: of fewer than {LEAST} nothing can be told"
        return Outcome("found", reason, direct=True, remedy=f"generate {expected.samples:,} images")
    now = 1 / generated + 1 / reference
    then = 1 / expected.samples + 1 / (expected.reference_samples or reference)
    slopes = _slopes(evidence)
    if not slopes:
        return Outcome("remains", "no slope can be measured: features and statistics of both sides differ")
    source, slope = next(iter(slopes.items()))
    contribution = slope * (now - then)
    numbers = {
        "images generated": generated,
        "images of the reference": reference,
        "dimensions": dimension,
        "images behind the expected value": expected.samples,
        **{f"slope, {name}": value for name, value in slopes.items()},
        "bias here": slope * now,
        "bias of the expected value": slope * then,
    }
    if evidence.control is not None:
        numbers["real against real at these numbers"] = evidence.control.mean
    advice = f"generate {expected.samples:,} images, or compare at equal numbers"
    reason = (
        f"{generated:,} images against {reference:,} add {contribution:.3g} points over {expected.samples:,} "
        f"({source})"
    )
    if contribution <= evidence.standard_error:
        return Outcome("excluded", reason + ": within the standard error", numbers, contribution)
    if expected.value is not None:
        # at few images leaving some out changes the bias itself, so chance is what real parts show
        chance = evidence.standard_error if evidence.control is None else evidence.control.spread
        excess = evidence.excess or 0.0
        wrong = excess > CLEAR * chance and contribution >= MATERIAL * excess
    else:
        wrong = min(generated, reference) < PER_DIMENSION * dimension
        if wrong:
            reason += f"; {dimension} dimensions ask for {PER_DIMENSION * dimension:,}"
    return Outcome("found" if wrong else "remains", reason, numbers, contribution, remedy=advice)


def _slopes(evidence: Evidence) -> dict[str, float]:
    """Points x images of the bias, by where they come from, the most reliable first."""
    found: dict[str, float] = {}
    dimension = evidence.generated.dimension or 0
    same_width = dimension == evidence.reference.dimension
    if evidence.control is not None and same_width and min(evidence.control.sizes) > 1:
        found["real against real"] = evidence.control.slope
    rows = evidence.generated.finite_features
    if same_width and rows is not None and len(rows) >= 2 * PARTS * (dimension + 1):
        found["fit over subsets"] = fitted_slope(rows, evidence)
    predicted = _predicted(evidence) if same_width else None
    if predicted is not None:
        found["formula for Gaussian features"] = predicted
    return found


def fitted_slope(rows: np.ndarray, evidence: Evidence) -> float:
    """Slope of the distance against 1/N, over disjoint parts: twelfths, sixths, ..., halves, the whole."""
    rows = rows[subset(len(rows), FIT_ROWS, evidence.seed)]
    order = np.random.default_rng(evidence.seed).permutation(len(rows))
    reference = evidence.reference.statistics
    moments = reference if isinstance(reference, Moments) else Moments.of(reference)
    inverse, distances, weights = [], [], []
    for parts in (12, 6, 4, 3, 2, 1):
        pieces = np.array_split(order, parts)
        inverse.append(parts / len(rows))
        distances.append(np.mean([measure(rows[piece], moments).distance for piece in pieces]))
        weights.append(np.sqrt(parts))
    return float(np.polyfit(inverse, distances, 1, w=weights)[0])


def _predicted(evidence: Evidence) -> float | None:
    sides = [
        side if isinstance(side, Moments) else Moments.of(side)
        for side in (evidence.generated.statistics, evidence.reference.statistics)
    ]
    if sides[0].dimension > min(side.count for side in sides):
        return None
    bias = predicted_bias(frechet_distance(*sides), *sides)
    return bias.total / (1 / sides[0].count + 1 / sides[1].count)


TEST = HypothesisTest(
    "H1",
    "too few images",
    (
        frozenset({"generated features", "reference features"}),
        frozenset({"generated features", "reference statistics"}),
    ),
    4,
    look,
)
