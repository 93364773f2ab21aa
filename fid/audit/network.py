"""H3: wrong network, or a network in train mode."""

from __future__ import annotations

import numpy as np
import torch

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.provenance import SAME, relative_difference
from fid.extractors import Extractor

#: Beginnings of the sha256 of published weights, as their file names state them.
PUBLISHED_WEIGHTS = {"inception": "6726825d", "cifar10-resnet20": "12fca82f"}

IMAGES = 32  # passed twice
SHUFFLES = 999  # of the order of units, for the null distribution of their agreement
CHANCE = 0.999  # quantile of that distribution


def look(evidence: Evidence) -> Outcome:
    """Check the weights' digest, the mode of the network, and whether both sides come from one network."""
    numbers: Numbers = {}
    for check in (_digest, _train_mode, _origin, _units):
        outcome = check(evidence, numbers)
        if outcome is not None:
            return outcome
    if evidence.extractor is None:
        return Outcome(
            "remains",
            "units of both sides agree, so they come from one network; whether it is the right one cannot be "
            "told without the extractor",
            numbers,
            remedy="give the extractor",
        )
    return Outcome("excluded", "weights, mode and origin of the features are as they should be", numbers)


def _digest(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    if evidence.extractor is None:
        return None
    identity = evidence.extractor.identity
    found = str(identity.get("weights", ""))
    wanted = evidence.expectation.weights or PUBLISHED_WEIGHTS.get(str(identity.get("network")))
    numbers["weights (sha256)"] = found[:16]
    if wanted is None or not found or found.startswith(wanted):
        return None
    numbers["weights wanted (sha256)"] = wanted[:16]
    return Outcome(
        "found",
        f"the extractor's weights have sha256 {found[:8]}..., wanted is {wanted[:8]}...",
        numbers,
        None,
        True,
        "load the weights that the expected value was measured with (torchvision's Inception is another "
        "network than FID's)",
    )


def _train_mode(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    images = evidence.generated.images if evidence.generated.images is not None else evidence.reference.images
    if evidence.extractor is None or images is None:
        return None
    some = images[:IMAGES]
    first, again = _pass(evidence.extractor, some), _pass(evidence.extractor, some)
    repeat = relative_difference(first, again)
    half = max(1, len(some) // 2)
    apart = np.concatenate(
        [_pass(evidence.extractor, part) for part in (some[:half], some[half:]) if len(part)]
    )
    mates = relative_difference(apart, first)
    numbers["relative difference of two passes"] = repeat
    numbers["relative difference in other batches"] = mates
    if repeat == 0 and mates <= SAME:
        return None
    seen = "two passes over the same images differ" if repeat else "features depend on the batch"
    return Outcome(
        "found",
        f"{seen}, by {max(repeat, mates):.2g} of their spread: the network is in train mode",
        numbers,
        None,
        True,
        "put the network into eval mode (network.eval()) before features are made",
    )


def _pass(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(np.ascontiguousarray(images))
    return extractor(batch).features.numpy().astype(np.float64)


def _origin(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    for side, made in evidence.provenances.items():
        numbers[f"relative difference of features made anew, {side}"] = made.error
        if made.agreement is not None:
            numbers[f"agreement of units with those made anew, {side}"] = made.agreement
        if made.match == "none" and evidence.generated.dimension == evidence.reference.dimension:
            alike = made.agreement is not None and made.agreement > 0.5  # same unit, same images
            kind = (
                "the same network in train mode or after another preparation" if alike else "another network"
            )
            return Outcome(
                "found",
                f"{side}: the stored features are not those of the stored images, nor of any known "
                f"preparation of them: made by {kind}",
                numbers,
                evidence.repaired_gain,
                True,
                "make both sides' features anew from the stored images, in eval mode, with one extractor",
            )
    return None


def _units(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """Do unit j of one side and unit j of the other have like means, more than units in random order?"""
    means = []
    for found in (evidence.generated, evidence.reference):
        if found.finite_features is not None:
            means.append(found.finite_features.mean(axis=0))
        elif found.moments is not None:
            means.append(found.moments.mean)
    if len(means) < 2 or means[0].shape != means[1].shape or means[0].size < 16:
        return None
    first, second = (_standardised_ranks(mean) for mean in means)
    shuffled = np.random.default_rng(evidence.seed).permuted(np.tile(first, (SHUFFLES, 1)), axis=1)
    limit = float(np.quantile(shuffled @ second, CHANCE))
    found_correlation = float(first @ second)
    numbers["rank correlation of the units' means"] = found_correlation
    numbers["the same for units in random order, 99.9 %"] = limit
    if found_correlation > limit:
        return None
    return Outcome(
        "found",
        f"the units' means of the two sides correlate by {found_correlation:.2f}, no more than units in "
        f"random order ({limit:.2f}): two networks",
        numbers,
        None,
        False,
        "make both sides' features with one extractor",
    )


def _standardised_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks about their mean, of length 1: the product of two is Spearman's correlation."""
    ranks = np.argsort(np.argsort(values)) - (len(values) - 1) / 2
    standardised: np.ndarray = ranks / np.linalg.norm(ranks)
    return standardised


TEST = HypothesisTest(
    "H3",
    "wrong network or train mode",
    (
        frozenset({"an extractor"}),
        frozenset({"generated features", "reference statistics"}),
        frozenset({"generated features", "reference features"}),
    ),
    6,
    look,
)
