"""H6: reference mismatch: another split, another data set, or statistics that were made otherwise."""

from __future__ import annotations

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.explain import features_of
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.imageset import ImageSet, Tally
from fid.audit.sampling import SIGNIFICANT
from fid.control import Rows, dimension_of, measure, subset
from fid.moments import Moments

ROWS = 3000  # of each side in a permutation
PERMUTATIONS = 20


def look(evidence: Evidence) -> Outcome:
    """Compare the reference with the set that the expected value was measured against."""
    given, meant = evidence.reference, evidence.expectation.real
    numbers: Numbers = {"reference": given.name, "images of the reference": given.count}
    wanted = evidence.expectation.reference or (None if meant is None else meant.name)
    if wanted is not None:
        numbers["reference wanted"] = wanted
    features = None if meant is None else _features(evidence, meant)
    gain = _gain(evidence, features, numbers)
    remedy = f"measure against {wanted}"
    if meant is not None and meant.tally is not None and given.tally is not None:
        shared = shared_images(given.tally, meant.tally)
        numbers["share of its images that are in the one wanted"] = shared
        if shared < 0.5:
            reason = f"{100 * shared:.0f} % of the images of {given.name} are in {wanted}"
            return Outcome("found", reason, numbers, gain, True, remedy)
        if shared == 1.0 and given.count == meant.count:
            return Outcome("excluded", f"the reference holds the images of {wanted}", numbers)
    if features is not None:
        outcome = _control(evidence, features, gain, numbers, remedy)
        if outcome is not None:
            return outcome
    if wanted is not None and wanted != given.name:
        return Outcome("found", f"the reference is {given.name}, not {wanted}", numbers, gain, True, remedy)
    if meant is None:
        return Outcome(
            "remains",
            f"by its name the reference is the one wanted; give the images of {wanted} to check its content",
            numbers,
            remedy=f"give {wanted}",
        )
    return Outcome("excluded", f"the reference is as {wanted}", numbers)


def _features(evidence: Evidence, meant: ImageSet) -> Rows | None:
    if meant.finite_features is not None:
        return meant.finite_features
    if meant.images is None or evidence.extractor is None:
        return None
    return features_of(evidence.extractor, meant.images[subset(len(meant.images), ROWS, evidence.seed)])


def _gain(evidence: Evidence, features: Rows | None, numbers: Numbers) -> float | None:
    """Points that vanish when measured against the set wanted, at as many reference images."""
    rows = evidence.generated.finite_features
    if features is None or rows is None or features.shape[1] != rows.shape[1] or evidence.frechet is None:
        return None
    count = min(len(features), evidence.reference.count)
    against = features[subset(len(features), count, evidence.seed)]
    given = evidence.reference.statistics
    if not isinstance(given, Moments):
        given = given[subset(len(given), count, evidence.seed)]
    numbers["distance to the set wanted"] = measure(rows, against).distance
    return measure(rows, given).distance - measure(rows, against).distance


def _control(
    evidence: Evidence, features: Rows, gain: float | None, numbers: Numbers, remedy: str
) -> Outcome | None:
    """Is the distance of the wanted set to the given one larger than between random parts of the two?"""
    given = evidence.reference.statistics
    if dimension_of(given) != features.shape[1]:
        return None
    rows = features[subset(len(features), ROWS, evidence.seed)]
    if isinstance(given, Moments):
        half = np.random.default_rng(evidence.seed).permutation(len(rows))
        within = measure(rows[half[: len(rows) // 2]], rows[half[len(rows) // 2 :]]).distance
        limit = within * (1 / len(rows) + 1 / given.count) / (4 / len(rows))
        found, spread = measure(rows, given).distance, limit / SIGNIFICANT
    else:
        others = given[subset(len(given), ROWS, evidence.seed)]
        found, limit, spread = _permuted(rows, others, evidence.seed)
    numbers["real wanted against reference given"] = found
    numbers["the same for random parts of both"] = limit
    if found <= limit + SIGNIFICANT * spread:
        return Outcome("excluded", f"{evidence.reference.name} and real images are alike", numbers)
    traces = _trace(rows), _trace(given)
    numbers["trace, wanted"], numbers["trace, given"] = traces
    reason = f"real images are {found:.3g} points from the reference, where {limit:.3g} is chance"
    if gain is not None and gain <= SIGNIFICANT * evidence.standard_error:
        return Outcome("remains", reason + "; but the value would be no better", numbers, gain, remedy=remedy)
    return Outcome("found", reason, numbers, gain, False, remedy)


def _permuted(first: Rows, second: Rows, seed: int) -> tuple[float, float, float]:
    """Distance of two sets, and mean and spread of it when rows change sides at random."""
    pooled = np.concatenate([first, second])
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(PERMUTATIONS):
        order = generator.permutation(len(pooled))
        values.append(measure(pooled[order[: len(first)]], pooled[order[len(first) :]]).distance)
    return measure(first, second).distance, float(np.mean(values)), float(np.std(values, ddof=1))


def _trace(statistics: Rows | Moments) -> float:
    if isinstance(statistics, Moments):
        return float(np.trace(statistics.covariance))
    return float(np.asarray(statistics, dtype=np.float64).var(axis=0, ddof=1).sum())


def shared_images(first: Tally, second: Tally) -> float:
    """Share of the images of `first` that are in `second` too, pixel for pixel."""
    known = set(second.digests)
    return float(np.mean([digest in known for digest in first.digests]))


TEST = HypothesisTest(
    "H6", "another reference", (frozenset({"what the value was measured against"}),), 5, look
)
