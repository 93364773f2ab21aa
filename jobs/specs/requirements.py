"""What each metric needs of two sets of images: how many, features or moments, class logits.

Asked before a sweep starts, before stored images are scored anew, and for any two sets; so it imports
nothing that computes. What the metrics are is in `fid/`.
"""

from __future__ import annotations

from jobs.specs.configuration import Extractor
from jobs.specs.sections import Metric

#: Metrics for which moments of the reference are enough.
OF_MOMENTS: frozenset[Metric] = frozenset({"fid", "fid_infinity", "is"})
INFINITY_PARTS = 12  # that fid_infinity cuts the samples into, each of more rows than dimensions


def why_not(
    metric: Metric, samples: int, extractor: Extractor, reference: int | None, *, features: bool, real: bool
) -> str | None:
    """Why a metric cannot be had; None where it can.

    samples, reference: how many there are on each side; None: not known yet. features, real: whether each has
    features, not only moments.
    """
    if not features and metric != "fid":
        return f"{metric} needs the features of both sides, and of the first only moments are known"
    if not real and metric not in OF_MOMENTS:
        return (
            f"{metric} needs the features of the reference, and only its moments are known; "
            f"they are enough for {', '.join(sorted(OF_MOMENTS))}"
        )
    if metric == "is":
        return None if extractor.logits else f"is needs logits, which {extractor.name} does not give"
    least = {"fid_infinity": INFINITY_PARTS * (extractor.dimension + 1), "fid": 2, "kid": 20}.get(metric, 6)
    if samples < least:
        return f"{metric} needs at least {least:,} images, there are {samples:,}"
    least = 2 if metric in OF_MOMENTS else least  # moments of one image are none
    if reference is not None and reference < least:
        return f"{metric} needs a reference of at least {least:,} images, it has {reference:,}"
    return None
