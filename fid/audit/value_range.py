"""H4: value range, normalisation, channel order: of the stored images, and on their way into the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.shown import explanation_of, outcome_of

#: Means and standard deviations of channels on [0, 1] of known data sets, by the beginning of their names.
CHANNELS = {"cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))}

MEAN_OFF = 0.05  # no sound set of samples is this far from its data set: a tenth of the mean
CLIPPED = 0.05  # share of values at 0 or 255 beyond that of the reference
REMEDY = (
    "store uint8 as floor(255 x) of x in [0, 1], in the order red, green, blue; let the extractor scale once"
)


def look(evidence: Evidence) -> Outcome:
    """Compare channels and histograms; look for a change of values that explains the difference."""
    for side, made in evidence.provenances.items():
        if made.match == "preparation":
            return Outcome(
                "found",
                f"{side}: the features are those of other images than the stored ones: {made.name}",
                {"relative difference that is left": made.error, "images compared": made.compared},
                evidence.repaired_gain,
                True,
                "prepare images for the network in one way on both sides: " + REMEDY,
            )
    images = evidence.generated.images
    if images is None:
        return Outcome("excluded", "no change of the stored images explains the features of the reference")
    numbers, off, clipped = _channels(evidence)
    explanation = explanation_of(evidence, "H4")
    if explanation is not None:
        outcome = outcome_of(explanation, REMEDY)
        return replace(outcome, evidence={**numbers, **outcome.evidence})
    if off is None:
        return Outcome("remains", "there are no images of the reference to compare with", numbers)
    if evidence.reference.images is None and (off > MEAN_OFF or (clipped or 0.0) > CLIPPED):
        return Outcome("found", f"channel means are off by up to {off:.3f}", numbers, remedy=REMEDY)
    if off > MEAN_OFF:
        reason = f"channel means are off by up to {off:.3f}, but no change of values explains the difference"
        return Outcome("remains", reason, numbers, remedy="look at the images")
    return Outcome("excluded", f"channel means agree to {off:.3f} of the range", numbers)


def _channels(evidence: Evidence) -> tuple[Numbers, float | None, float | None]:
    """Statistics of channels, the largest difference of means, and the excess of clipped values."""
    numbers: Numbers = {}
    sides = {"generated": evidence.generated.images, "reference": evidence.reference.images}
    means = {}
    for side, images in sides.items():
        if images is not None:
            means[side] = images.mean(axis=(0, 2, 3)) / 255
            numbers[f"channel means, {side}"] = _text(means[side])
            numbers[f"channel deviations, {side}"] = _text(images.std(axis=(0, 2, 3)) / 255)
            numbers[f"values at 0 or 255, {side}"] = _clipped(images)
    known = next(
        (mean for name, (mean, _) in CHANNELS.items() if evidence.reference.name.startswith(name)), None
    )
    clipped = None
    if "reference" not in means and known is not None:
        means["reference"] = np.array(known)
        clipped = _clipped(sides["generated"]) if sides["generated"] is not None else None
        numbers["channel means, published"] = _text(means["reference"])
    if len(means) < 2 or means["generated"].shape != means["reference"].shape:
        return numbers, None, None
    return numbers, float(np.abs(means["generated"] - means["reference"]).max()), clipped


def _clipped(images: np.ndarray) -> float:
    return float(((images == 0) | (images == 255)).mean())


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)


TEST = HypothesisTest(
    "H4",
    "value range, normalisation or channel order",
    (
        frozenset({"generated images"}),
        frozenset({"reference images", "reference features", "an extractor"}),
    ),
    8,
    look,
)
