"""H10: duplicates, missing samples, features that are not finite, constant images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.imageset import ImageSet, Tally
from fid.audit.sampling import SIGNIFICANT
from fid.control import Rows, measure
from fid.neighbours import nearest_neighbours

NEAR_ROWS = 2000  # features whose neighbours are searched
NEAR = 0.25  # of the distance to the nearest neighbour that only 1 % of real images go below


def look(evidence: Evidence) -> Outcome:
    """Count what is missing, double, constant or not finite."""
    numbers: Numbers = {}
    for check in (_not_finite, _missing, _static, _constant, _duplicates, _near_duplicates):
        outcome = check(evidence, numbers)
        if outcome is not None:
            return outcome
    return Outcome("excluded", "all samples are there, finite and different", numbers)


def _not_finite(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    for side in (evidence.generated, evidence.reference):
        if side.features is None or side.finite_features is None:
            continue
        bad = len(side.features) - len(side.finite_features)
        if bad:
            numbers[f"rows with NaN or infinity, {side.name}"] = bad
            first = int(np.flatnonzero(~np.isfinite(side.features).all(axis=1))[0])
            return Outcome(
                "found",
                f"{side.name}: {bad:,} of {len(side.features):,} feature rows hold NaN or infinity, row "
                f"{first:,} first",
                numbers,
                None,
                True,
                "sample these images again and make their features anew; the rest has another score",
            )
    return None


def _missing(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    for side in (evidence.generated, evidence.reference):
        wanted = side.samples
        held = side.count if side.index is None else len(np.unique(side.index))
        if wanted is not None:
            numbers[f"samples wanted, {side.name}"] = wanted
            numbers[f"samples there, {side.name}"] = held
        gaps = [] if side.index is None else _gaps(side.index, wanted)
        absent = sum(last - first for first, last in gaps) if gaps else max(0, (wanted or 0) - held)
        if absent:
            where = ", ".join(f"[{first:,}, {last:,})" for first, last in gaps[:3])
            return Outcome(
                "found",
                f"{side.name}: {absent:,} samples are missing" + (f", {where} first" if where else ""),
                numbers,
                _bias_of(evidence, held + absent, held),
                True,
                "run the sweep again: it makes what is missing; join parts in numeric order, not by name",
            )
    return None


def _gaps(index: np.ndarray, wanted: int | None) -> list[tuple[int, int]]:
    """Ranges of sample numbers that are not there, up to `wanted` or the largest."""
    present = np.unique(index)
    last = max(wanted or 0, int(present[-1]) + 1)
    edges = np.concatenate([[-1], present[present < last], [last]])
    holes = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[hole]) + 1, int(edges[hole + 1])) for hole in holes]


def _bias_of(evidence: Evidence, wanted: int, there: int) -> float | None:
    if evidence.control is None:
        return None
    return evidence.control.slope * (1 / there - 1 / wanted)


def _duplicates(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """Exact duplicates beyond the rate of the reference, whose own are counted by chance of the pairs."""
    found = _keys(evidence.generated)
    if found is None:
        return None
    double = repeats(found)
    numbers["generated samples that repeat another"] = double
    reference = _keys(evidence.reference)
    expected = 0.0
    if reference is not None:
        numbers["reference samples that repeat another"] = repeats(reference)
        expected = repeats(reference) * (len(found) / len(reference)) ** 2  # pairs grow with the square
    if double <= expected + SIGNIFICANT * sqrt(expected + 1):
        return None
    unique = _first_rows(found)
    reason = f"{double:,} of {len(found):,} generated samples repeat another exactly"
    offset, share = _common_offset(found)
    if share > 0.5:
        numbers["distance of most repeats in the index"] = offset
        reason += f", mostly {offset:,} places before: a seed or a shard was used twice"
    return Outcome(
        "found",
        reason,
        numbers,
        _gain_without(evidence, unique, len(found) - double),
        True,
        "give every shard its own seeds, and sample the repeated ones again",
    )


def _keys(side: ImageSet) -> list[bytes] | None:
    if side.tally is not None:
        return side.tally.digests
    if side.features is None:
        return None
    return [row.tobytes() for row in np.ascontiguousarray(side.features)]


def repeats(keys: list[bytes]) -> int:
    """How many keys have been there before."""
    return len(keys) - len(set(keys))


def _first_rows(keys: list[bytes]) -> np.ndarray:
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    return np.sort(np.array(list(first.values())))


def _common_offset(keys: list[bytes]) -> tuple[int, float]:
    """The commonest distance of a repeat to the one before, and its share of the repeats."""
    last: dict[bytes, int] = {}
    offsets: Counter[int] = Counter()
    for row, key in enumerate(keys):
        if key in last:
            offsets[row - last[key]] += 1
        last[key] = row
    offset, count = offsets.most_common(1)[0]
    return offset, count / sum(offsets.values())


def _gain_without(evidence: Evidence, rows: np.ndarray, kept: int) -> float | None:
    """Points more than as many different samples would have, from the distance of the rest and its bias."""
    features = evidence.generated.features
    if features is None or evidence.frechet is None or evidence.control is None or kept < 2:
        return None
    rest = features[rows]
    rest = rest[np.isfinite(rest).all(axis=1)]
    alone = measure(rest, evidence.reference.statistics).distance
    fewer = evidence.control.slope * (1 / len(rest) - 1 / len(features))
    return evidence.frechet.distance - (alone - fewer)


def _near_duplicates(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    """Samples much nearer to another sample than real images are to each other."""
    ours, theirs = evidence.generated.finite_features, evidence.reference.finite_features
    if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
        return None
    count = min(len(ours), len(theirs), NEAR_ROWS) // 2
    if count < 50:
        return None
    normal = _halves(theirs, count, evidence.seed)
    limit = NEAR * float(np.quantile(normal, 0.01))
    near = int((_halves(ours, count, evidence.seed) < limit).sum())
    usual = int((normal < limit).sum())
    numbers[f"near repeats among {2 * count:,}"] = near
    if near <= usual + SIGNIFICANT * sqrt(usual + 1):
        return None
    return Outcome(
        "found",
        f"{near:,} of {count:,} generated samples are nearly the same as one of {count:,} others; among real "
        f"images {usual:,}",
        numbers,
        None,
        False,
        "look at the pairs: seeds used twice on other devices, or a generator that repeats itself",
    )


def _halves(rows: Rows, count: int, seed: int) -> np.ndarray:
    """Distance of `count` rows to the nearest of `count` others."""
    chosen = np.random.default_rng(seed).permutation(len(rows))
    distances, _ = nearest_neighbours(rows[chosen[:count]], rows[chosen[count : 2 * count]])
    return distances


def _static(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    return _of_a_kind(
        evidence,
        numbers,
        "pure noise",
        lambda tally: tally.static,
        "samples that never left the prior, a sampler that diverged, or files of another run",
    )


def _constant(evidence: Evidence, numbers: Numbers) -> Outcome | None:
    return _of_a_kind(
        evidence,
        numbers,
        "constant",
        lambda tally: tally.constant,
        "a diverged sampler, clipped values, or files that were never filled",
    )


def _of_a_kind(
    evidence: Evidence,
    numbers: Numbers,
    kind: str,
    chosen: Callable[[Tally], NDArray[np.bool_]],
    causes: str,
) -> Outcome | None:
    """Generated images that are no pictures, beyond the share of such in the reference."""
    tally = evidence.generated.tally
    if tally is None:
        return None
    hit, usual = chosen(tally), 0.0
    if evidence.reference.tally is not None:
        usual = float(chosen(evidence.reference.tally).mean()) * len(hit)
    count = int(hit.sum())
    numbers[f"{kind} images"] = count
    if count <= usual + SIGNIFICANT * sqrt(usual + 1):
        return None
    return Outcome(
        "found",
        f"{count:,} of {len(hit):,} generated images are {kind}",
        numbers,
        _gain_without(evidence, np.flatnonzero(~hit), len(hit) - count),
        False,
        f"find out where they come from: {causes}",
    )


TEST = HypothesisTest(
    "H10",
    "duplicates, missing samples, NaN, constant images",
    (frozenset({"generated images"}), frozenset({"generated features"})),
    1,
    look,
)
