"""H2: wrong layer. It shows in the number of features, their signs and their average over positions."""

from __future__ import annotations

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.provenance import poolings
from fid.control import measure

POOL = "take the global average pool (2048 numbers of the FID Inception)"


def look(evidence: Evidence) -> Outcome:
    """Compare dimension, sign and origin of the features with those of the layer that is meant."""
    meant = evidence.expectation.dimension
    if meant is None and evidence.extractor is not None:
        meant = evidence.extractor.dimension
    found = {side.name: side.dimension for side in (evidence.generated, evidence.reference)}
    numbers: Numbers = {f"dimensions, {name}": width for name, width in found.items() if width is not None}
    rows = evidence.generated.finite_features
    if rows is not None and rows.size:
        numbers["share of negative features"] = float((rows < 0).mean())
        numbers["rank at most"] = min(len(rows) - 1, rows.shape[1])
    if meant is not None:
        numbers["dimensions meant"] = meant
        wrong = {name: width for name, width in found.items() if width is not None and width != meant}
        if wrong:
            name, width = next(iter(wrong.items()))
            return _of_other_width(evidence, name, width, meant, numbers)
    elif len({width for width in found.values() if width is not None}) > 1:
        widths = " and ".join(f"{width} ({name})" for name, width in found.items())
        return Outcome("found", f"the sides have features of {widths} dimensions", numbers, None, True, POOL)
    other = _other_layer(evidence, numbers)
    if other is not None:
        return other
    if _signs_differ(evidence):
        return Outcome(
            "found",
            "one side has negative features and the other none: not the same layer",
            numbers,
            None,
            True,
            POOL,
        )
    if meant is None:
        return Outcome(
            "remains",
            "both sides have equal dimensions, but which layer was meant is not known",
            numbers,
            remedy="name the extractor, or the number of features",
        )
    return Outcome(
        "excluded", f"all features have the {meant} dimensions of the layer that is meant", numbers
    )


def _other_layer(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """The outcome where another layer of the network gives a side's features of its stored images."""
    for side, made in evidence.provenances.items():
        if made.match == "layer":
            return Outcome("found", f"{side}: {made.name}", numbers, None, True, POOL)
        if made.match == "variant" and made.name.startswith("layer"):
            gain = evidence.repaired_gain
            return Outcome("found", f"{side}: made by {made.name}", numbers, gain, True, POOL)
    return None


def _of_other_width(evidence: Evidence, name: str, width: int, meant: int, numbers: Numbers) -> Outcome:
    reason = f"{name}: {width:,} features an image where the layer has {meant:,}"
    positions, rest = divmod(width, meant)
    side = round(positions**0.5)
    gain = None
    if not rest and positions > 1:
        form = f"{side}x{side} map" if side * side == positions else f"map of {positions} positions"
        reason += f": a {form}, flattened instead of averaged"
        gain = _pooling_gain(evidence, meant, numbers)
    elif width in (64, 192, 768) and meant == 2048:
        reason += ": an earlier block of the FID Inception"
    elif width in (1000, 1001, 1008):
        reason += ": class logits or probabilities"
    return Outcome("found", reason, numbers, gain, True, POOL)


def _pooling_gain(evidence: Evidence, meant: int, numbers: Numbers) -> float | None:
    """Points that vanish when maps are averaged over positions; channels come first, as in PyTorch."""
    sides = []
    for found in (evidence.generated, evidence.reference):
        rows = found.finite_features
        if rows is None:
            return None
        sides.append(rows if rows.shape[1] == meant else _averaged(rows, meant))
    pooled = measure(sides[0], sides[1]).distance
    numbers["distance of the averages"] = pooled
    return None if evidence.frechet is None else evidence.frechet.distance - pooled


def _averaged(rows: np.ndarray, meant: int) -> np.ndarray:
    """The average over positions whose units differ most: averaging over channels instead levels them."""
    return max(poolings(rows, meant), key=lambda pooled: float(pooled.mean(axis=0).var()))


def _signs_differ(evidence: Evidence) -> bool:
    signs = []
    for found in (evidence.generated, evidence.reference):
        if found.finite_features is not None:
            signs.append(bool((found.finite_features < 0).any()))
        elif found.moments is not None:
            signs.append(bool((found.moments.mean < 0).any()))
    return len(set(signs)) > 1


TEST = HypothesisTest(
    "H2", "wrong layer", (frozenset({"generated features"}), frozenset({"reference statistics"})), 2, look
)
