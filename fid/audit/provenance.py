"""Whether features in a score are those of the stored images, and if not, what reproduces them.

Apart from the tests because layer, network, preparation and resize are all told by the same comparison. A
match names the fault exactly; it needs a handful of images only. It must not know what a verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from fid.audit.explain import features_of
from fid.audit.families import families_for
from fid.audit.faults import Fault, Images
from fid.control import Rows, subset
from fid.extractors import Extractor

COMPARED = 16  # images: a match in so many rows of features is no accident
SCREENED = 4  # of them, whose features are made by every candidate first
SCREEN = 0.02  # relative difference in these, about their own mean, that a candidate may have to go on
SAME = 1e-3  # relative: float32 on other machines and in other batches differs by 1e-6 to 1e-4
ALIKE = 0.03  # relative: bfloat16 and float16 arithmetic differ by 5e-3 to 2e-2

Match = Literal["as stored", "preparation", "variant", "layer", "precision", "none"]


@dataclass(frozen=True)
class Provenance:
    """What made the stored features.

    Attributes:
        match: the stored images as they are, the same after a change of the images (preparation), a variant
            of the extractor, another layer of it, the same in lower precision, or nothing that is known.
        name: of the change or variant.
        error: relative difference that is left by the match; by the images as they are where there is none.
        agreement: correlation of each unit with its own recomputed values, mean over units; None where the
            widths differ.
        compared: number of images.
    """

    match: Match
    name: str
    error: float
    agreement: float | None
    compared: int


def provenance(
    images: Images, features: Rows, extractor: Extractor, variants: Mapping[str, Extractor], seed: int = 0
) -> Provenance:
    """Find what made `features` (count, dimension) of `images` (count, channels, height, width)."""
    finite = np.flatnonzero(np.isfinite(features).all(axis=1))
    chosen = finite[subset(len(finite), COMPARED, seed)]
    some, stored = images[chosen], features[chosen].astype(np.float64)
    own = _features(extractor, some)
    error = relative_difference(stored, own)
    agreement = unit_agreement(stored, own)
    if error <= SAME:
        return Provenance("as stored", "", error, agreement, len(chosen))
    if pooled_like(stored, own) is not None:
        name = f"map of {stored.shape[1] // own.shape[1]} positions, flattened instead of averaged"
        return Provenance("layer", name, 0.0, agreement, len(chosen))
    few = some[:SCREENED]
    for match, name, make in _candidates(extractor, variants, few):
        if relative_difference(stored[:SCREENED], make(few)) > SCREEN:
            continue
        left = relative_difference(stored, make(some))
        if left <= SAME:
            return Provenance(match, name, left, agreement, len(chosen))
    if error <= ALIKE:
        return Provenance("precision", "arithmetic of lower precision", error, agreement, len(chosen))
    return Provenance("none", "", error, agreement, len(chosen))


def _candidates(
    extractor: Extractor, variants: Mapping[str, Extractor], images: Images
) -> Iterator[tuple[Match, str, Callable[[Images], Rows]]]:
    """What else could have made them, as functions of images, cheapest first."""
    for name, variant in variants.items():
        yield "variant", name, partial(_features, variant)
    for family in families_for((images.shape[1], images.shape[2], images.shape[3])):
        for fault in family.faults():
            yield "preparation", fault.name, partial(_damaged_features, extractor, fault)


def _damaged_features(extractor: Extractor, fault: Fault, images: Images) -> Rows:
    return _features(extractor, fault.apply(images))


def _features(extractor: Extractor, images: Images) -> Rows:
    return features_of(extractor, images).astype(np.float64)


def relative_difference(found: Rows, wanted: Rows) -> float:
    """Frobenius norm of the difference over that of `wanted` about its mean; infinite for other widths."""
    if found.shape != wanted.shape:
        return float("inf")
    scale = np.linalg.norm(wanted - wanted.mean(axis=0))
    return float(np.linalg.norm(found - wanted) / max(float(scale), 1e-12))


def unit_agreement(found: Rows, wanted: Rows) -> float | None:
    """Mean correlation over units that vary in both, None for other widths or too few images."""
    if found.shape != wanted.shape or len(found) < 3:
        return None
    a, b = found - found.mean(axis=0), wanted - wanted.mean(axis=0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    varying = norms > 1e-9 * max(float(norms.max()), 1e-300)
    return float(((a * b).sum(axis=0)[varying] / norms[varying]).mean()) if varying.any() else None


def poolings(rows: Rows, dimension: int) -> list[Rows]:
    """Averages of flattened maps over positions, channels first and channels last: (count, dimension)."""
    positions, rest = divmod(rows.shape[1], dimension)
    if positions < 2 or rest:
        return []
    return [
        rows.reshape(len(rows), dimension, positions).mean(axis=2),
        rows.reshape(len(rows), positions, dimension).mean(axis=1),
    ]


def pooled_like(stored: Rows, own: Rows) -> Rows | None:
    """The average over positions that agrees with `own`, None where none does."""
    for candidate in poolings(stored, own.shape[1]):
        if relative_difference(candidate, own) <= SAME:
            return candidate
    return None
