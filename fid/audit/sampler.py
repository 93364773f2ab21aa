"""H7: the sampler: no final denoising, raw weights, wrong number of steps, wrong r, eps or noise range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import hypot

import numpy as np

from fid.audit import pixels
from fid.audit.evidence import Evidence
from fid.audit.explain import features_of
from fid.audit.finding import HypothesisTest, Numbers, Outcome, weigh
from fid.audit.imageset import ImageSet
from fid.audit.sampling import SIGNIFICANT, Chosen, condensed, jackknife
from fid.audit.shown import explanation_of, outcome_of
from fid.control import Rows, measure, subset
from fid.moments import Moments

TENTH = 0.126  # of a standard deviation, below which a tenth of |Gaussian noise| lies
DENOISE = "return the mean of the last step (denoise: true)"


def look(evidence: Evidence) -> Outcome:
    """Compare settings, measure re-runs with one setting changed, and look for noise left in the images."""
    numbers: Numbers = {}
    rerun = _best_alternative(evidence, numbers)
    if rerun is not None:
        return rerun
    explanation = explanation_of(evidence, "H7")
    other = {
        name: (evidence.settings[name], wanted)
        for name, wanted in evidence.expectation.settings.items()
        if name in evidence.settings and evidence.settings[name] != wanted
    }
    if other:
        said = "; ".join(f"{name} is {here}, not {wanted}" for name, (here, wanted) in other.items())
        return Outcome(
            "found",
            f"sampled otherwise than the published protocol: {said}",
            {**numbers, **_noise_floor(evidence)},
            None if explanation is None else explanation.contribution,
            True,
            "sample with " + ", ".join(f"{name} {wanted}" for name, (_, wanted) in other.items()),
        )
    if explanation is not None:
        outcome = outcome_of(explanation, DENOISE + ", or take a smaller last noise level")
        return replace(outcome, evidence={**numbers, **_noise_floor(evidence), **outcome.evidence})
    compared = set(evidence.expectation.settings) & set(evidence.settings)
    if compared and evidence.generated.images is not None and evidence.reference.images is not None:
        reason = f"no noise is left in the images; as expected: {', '.join(sorted(compared))}"
        return Outcome("excluded", reason, {**numbers, **_noise_floor(evidence)})
    return Outcome(
        "remains",
        "no noise is left in the images; which weights and settings were used cannot be seen in them"
        if evidence.reference.images is not None
        else "weights and settings of the sampler cannot be seen in features",
        {**numbers, **_noise_floor(evidence)},
        remedy="sample 1,000 images with the setting in doubt changed (moving averages, steps, r, eps) and "
        "give them as an alternative",
    )


def _best_alternative(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """The re-run that lowers the distance most at equal numbers, if it does so by more than chance."""
    best: tuple[float, float, str] | None = None
    for name, rerun in evidence.alternatives.items():
        found = _gain(evidence, rerun)
        if found is None:
            continue
        numbers[f"points less with {name}"] = found[0]
        if best is None or found[0] > best[0]:
            best = (*found, name)
    if best is None or best[0] <= SIGNIFICANT * best[1]:
        return None
    gain, error, name = best
    numbers["standard error"] = error
    verdict = weigh(gain, error, evidence.excess or gain)
    reason = f"{name} lowers the distance by {gain:.3g} points"
    return Outcome(verdict, reason, numbers, gain, True, f"use {name}")


def _gain(evidence: Evidence, rerun: ImageSet) -> tuple[float, float] | None:
    """Points by which a re-run is nearer to the reference, at equal numbers, and their standard error."""
    rows, others = evidence.generated.finite_features, rerun.finite_features
    if others is None and rerun.images is not None and evidence.extractor is not None:
        others = features_of(evidence.extractor, rerun.images)
    if others is None or rows is None:
        return None
    count = min(len(rows), len(others))
    given = evidence.reference.statistics
    reference = given if isinstance(given, Moments) else condensed(given)
    values, errors = [], []
    for part in (
        rows[subset(len(rows), count, evidence.seed)],
        others[subset(len(others), count, evidence.seed)],
    ):
        value = _distance_to(reference, part)
        values.append(value(np.arange(count)))
        errors.append(jackknife(value, count, evidence.seed))
    return values[0] - values[1], hypot(errors[0], errors[1])


def _distance_to(reference: Rows | Moments, rows: Rows) -> Callable[[Chosen], float]:
    return lambda chosen: measure(rows[chosen], reference).distance


def _noise_floor(evidence: Evidence) -> Numbers:
    """Deviation of noise that the smoothest tenth of each side's images can hold, in grey levels."""
    return {
        f"noise floor, {side} (of 255)": 255 * float(pixels.noise_floor(found.images[:1000]).mean()) / TENTH
        for side, found in (("generated", evidence.generated), ("reference", evidence.reference))
        if found.images is not None
    }


TEST = HypothesisTest(
    "H7",
    "sampler settings: final denoising, weights, steps, r, eps",
    (frozenset({"generated images", "reference images"}), frozenset({"the sampler's settings"})),
    10,
    look,
)
