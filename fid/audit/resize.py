"""H5: resize filter and geometry: on the way into the network, and in the stored images."""

from __future__ import annotations

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.explain import features_of
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.sampling import SIGNIFICANT
from fid.audit.shown import explanation_of, outcome_of
from fid.control import measure, subset

COMPARED = 128  # images that are resized by every filter

REMEDY = (
    "make both sides' features with one resize, that of the expected value (TensorFlow 1 bilinear for FID)"
)


def look(evidence: Evidence) -> Outcome:
    """Find the variant that made the features; else measure the spread over variants, then look at images."""
    for side, made in evidence.provenances.items():
        if made.match == "variant" and not made.name.startswith("layer"):
            return Outcome(
                "found",
                f"{side}: the features were made with another {made.name}",
                {"relative difference that is left": made.error, "images compared": made.compared},
                evidence.repaired_gain,
                True,
                REMEDY,
            )
    explanation = explanation_of(evidence, "H5")
    if explanation is not None:
        return outcome_of(
            explanation, "store the images as they were sampled: same size, place and direction"
        )
    resize = None if evidence.extractor is None else evidence.extractor.identity.get("resize")
    numbers: Numbers = {} if resize is None else {"resize": resize}
    spread = _spread(evidence, numbers)
    if spread is not None and spread > SIGNIFICANT * evidence.standard_error:
        return Outcome(
            "remains",
            f"other filters change the distance by up to {spread:.3g} points: the expected value must have "
            "been measured with the same",
            numbers,
            spread,
            remedy=REMEDY,
        )
    if resize is None and evidence.reference.images is None:
        return Outcome(
            "remains", "how the features were made is not known", numbers, remedy="give the extractor"
        )
    return Outcome("excluded", "features and images show no other resize", numbers)


def _spread(evidence: Evidence, numbers: Numbers) -> float | None:
    """Largest change of the distance when the generated side alone is resized by another filter."""
    images = evidence.generated.images
    resizes = {name: variant for name, variant in evidence.variants.items() if name.startswith("resize")}
    if images is None or evidence.extractor is None or not resizes or evidence.frechet is None:
        return None
    some = images[subset(len(images), min(evidence.budget, COMPARED), evidence.seed)]
    reference = evidence.reference.statistics
    own = measure(features_of(evidence.extractor, some), reference).distance
    changes = []
    for name, variant in resizes.items():
        changes.append(measure(features_of(variant, some), reference).distance - own)
        numbers[f"change of the distance, {name}"] = changes[-1]
    return float(np.abs(changes).max())


TEST = HypothesisTest(
    "H5",
    "resize filter or geometry",
    (frozenset({"generated images", "reference images"}), frozenset({"generated images", "an extractor"})),
    9,
    look,
)
