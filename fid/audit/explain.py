"""Which fault of stored images explains how they differ from the reference: sound images, damaged alike.

If the reference's own images, put through a fault, become like the generated ones, that fault has its name
and its contribution: the distance that vanishes. Statistics of pixels choose the candidates, features decide.
It must not know what a verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fid.audit import pixels
from fid.audit.faults import Family, Fault, Images, families_for
from fid.audit.sampling import condensed, jackknife
from fid.control import Rows, measure, real_control, subset
from fid.extractors import Extractor

LEAST = 16  # images of a side, below which nothing is said
GLANCED = 32  # images of a side whose pixel statistics choose families of faults
SCREENED = 200  # images of a side whose pixel statistics choose the strength
GLANCED_FEATURES = 256  # images of a side whose features choose among faults that pixels do not show
CONFIRMED = 3  # families of candidates whose features are computed, best first
ROUNDS = 3  # faults that may lie on top of each other
BATCH = 256
PERMUTATIONS = 500  # of images between the sides: the largest distance is passed by chance once in 500
HALVES = 20  # of the reference, for the distance of looks that real images have
LEFT = 0.1  # share of the distance of looks that a fault may leave when its strength is not met exactly
SURE = 4.0  # standard errors, as `finding.SIGNIFICANT`
SCALE_FLOOR = 0.1  # a statistic that hardly varies among real images counts in visible steps

Side = Literal["generated", "reference"]


@dataclass(frozen=True)
class Explanation:
    """A fault that images of one side show against the other side.

    Attributes:
        fault: what happened to the images of `side`.
        look: distance of pixel statistics before and after the other side was damaged alike, and its value
            for two parts of the reference.
        complete: what is left of it is chance, or less than a tenth.
        exact: what is left of it is chance.
        contribution: points of the distance that vanish; None without an extractor.
        error: its standard error.
        excess: points by which the same images were off before, over real data at the same numbers.
    """

    fault: Fault
    side: Side
    look: tuple[float, float, float]
    complete: bool
    exact: bool
    contribution: float | None = None
    error: float | None = None
    excess: float | None = None


def features_of(extractor: Extractor, images: Images) -> Rows:
    """(count, dimension) float32 of uint8 images, in batches of 256."""
    return outputs_of(extractor, images)[0]


def outputs_of(extractor: Extractor, images: Images) -> tuple[Rows, Rows | None]:
    """Features (count, dimension) and logits (count, classes), where there are any, in batches of 256."""
    blocks = [
        extractor(torch.from_numpy(np.ascontiguousarray(images[first : first + BATCH])))
        for first in range(0, len(images), BATCH)
    ]
    logits = [block.logits.numpy() for block in blocks if block.logits is not None]
    features = np.concatenate([block.features.numpy() for block in blocks])
    return features, np.concatenate(logits) if logits else None


@dataclass(frozen=True)
class _Candidate:
    fault: Fault
    side: Side
    look: float


class _Looks:
    """Pixel statistics of both sides on one scale, and what faults do to them.

    Distances are those of Gaussians with diagonal covariances, each named statistic for itself; their sum
    counts each by log(1 + distance), so that a fault which explains nine of ten statistics is not outdone by
    the tenth, where its strength is not met exactly.
    """

    def __init__(self, generated: Images, reference: Images, seed: int) -> None:
        self.images: dict[Side, Images] = {"generated": generated, "reference": reference}
        self._seed = seed
        found = pixels.statistics(reference)
        self._widths = [values.shape[1] for values in found.values()]
        scale = np.concatenate([values.std(axis=0) for values in found.values()])
        self._scale = np.maximum(scale, SCALE_FLOOR) * np.sqrt(np.repeat(self._widths, self._widths))
        self._starts = np.cumsum([0, *self._widths[:-1]])
        self._rows = {"generated": self._of(generated), "reference": self._of(reference)}

    def _of(self, images: Images) -> Rows:
        return np.concatenate(list(pixels.statistics(images).values()), axis=1) / self._scale

    def _distance(self, first: Rows, second: Rows) -> float:
        squares = np.square(first.mean(axis=0) - second.mean(axis=0))
        squares += np.square(first.std(axis=0) - second.std(axis=0))
        return float(np.log1p(np.add.reduceat(squares, self._starts)).sum())

    @cached_property
    def before(self) -> float:
        """Distance of the two sides as they are."""
        return self._distance(self._rows["generated"], self._rows["reference"])

    def _changed(self, fault: Fault, side: Side) -> tuple[Rows, Rows]:
        """Rows of both sides after the one that is not `side` was damaged alike."""
        if side == "generated":
            return self._rows["generated"], self._of(fault.apply(self.images["reference"]))
        return self._of(fault.apply(self.images["generated"])), self._rows["reference"]

    def try_out(self, fault: Fault, side: Side) -> _Candidate:
        """A fault of one side with the distance that it leaves."""
        return _Candidate(fault, side, self._distance(*self._changed(fault, side)))

    def chance(self) -> float:
        """The largest of the distances when images change sides at random, again and again."""
        rows = np.concatenate([self._rows["generated"], self._rows["reference"]])
        return max(self._of_splits(rows, len(self._rows["generated"]), PERMUTATIONS))

    def control(self) -> tuple[float, float]:
        """Mean and spread of the distance of random halves of the reference, brought to these counts."""
        rows = self._rows["reference"]
        half = len(rows) // 2
        values = self._of_splits(rows, half, HALVES)
        here = 1 / half + 1 / (len(rows) - half)
        scale = (1 / len(self._rows["generated"]) + 1 / len(rows)) / here
        return float(np.mean(values)) * scale, float(np.std(values, ddof=1)) * scale

    def _of_splits(self, rows: Rows, first: int, repeats: int) -> list[float]:
        """Distances of random parts of `first` rows to the rest, by sums over the parts."""
        generator = np.random.default_rng(self._seed)
        chosen = np.zeros((repeats, len(rows)))
        chosen[:, :first] = 1
        chosen = generator.permuted(chosen, axis=1)
        sums, squares = chosen @ rows, chosen @ np.square(rows)
        rest = len(rows) - first
        means = sums / first, (rows.sum(axis=0) - sums) / rest
        seconds = squares / first, (np.square(rows).sum(axis=0) - squares) / rest
        spreads = [
            np.sqrt(np.maximum(second - np.square(mean), 0))
            for second, mean in zip(seconds, means, strict=True)
        ]
        apart = np.square(means[0] - means[1]) + np.square(spreads[0] - spreads[1])
        distances: list[float] = np.log1p(np.add.reduceat(apart, self._starts, axis=1)).sum(axis=1).tolist()
        return distances


def explain(
    generated: Images,
    reference: Images,
    extractor: Extractor | None,
    budget: int = 2000,
    seed: int = 0,
    suspect: bool = False,
    features: tuple[Rows | None, Rows | None] = (None, None),
) -> tuple[Explanation, ...]:
    """Faults that explain the difference of two sets of images, the most important first; often none.

    Args:
        generated: (count, channels, height, width).
        reference: images of the same shape.
        extractor: decides which candidates hold, and gives contributions in points.
        budget: most images of a side that pass through it at a time.
        seed: of the subsets.
        suspect: the features are known to be off; else only looks beyond chance are followed.
        features: of both sides' images, where they were made already.
    """
    if generated.shape[1:] != reference.shape[1:] or min(len(generated), len(reference)) < LEAST:
        return ()
    chosen = subset(len(generated), budget, seed), subset(len(reference), budget, seed + 1)
    ours, theirs = generated[chosen[0]], reference[chosen[1]]
    known = [None if rows is None else rows[one] for rows, one in zip(features, chosen, strict=True)]
    families = families_for((generated.shape[1], generated.shape[2], generated.shape[3]))
    found: list[Explanation] = []
    excess: float | None = None
    for _ in range(ROUNDS):
        looks = _Looks(ours[:SCREENED], theirs[:SCREENED], seed)
        if not suspect and looks.before <= looks.chance():
            break
        judge = None if extractor is None else _Judge(extractor, ours, theirs, known, seed)
        if judge is not None and excess is None:
            excess = judge.excess
        glance = _Looks(ours[:GLANCED], theirs[:GLANCED], seed)
        ranked = _ranked(glance, looks, families)
        explanation = _best(looks, ranked, judge, excess)
        if explanation is None and judge is not None and suspect:
            explanation = _unseen(looks, families, judge)
        if explanation is None:
            break
        found.append(explanation)
        if explanation.complete:
            break
        if explanation.side == "generated":
            theirs, known[1] = explanation.fault.apply(theirs), None
        else:
            ours, known[0] = explanation.fault.apply(ours), None
        families = [family for family in families if family is not explanation.fault.family]
    return tuple(found)


def _best(
    looks: _Looks,
    ranked: list[_Candidate],
    judge: _Judge | None,
    excess: float | None,
) -> Explanation | None:
    """The fault that explains the looks, or else most of the distance, if any does."""
    normal, spread = looks.control()
    confirmed = []
    chance = SURE * spread
    for candidate in ranked[: CONFIRMED if judge is not None else 1]:
        if looks.before - candidate.look <= chance:
            break
        left = candidate.look - normal
        complete = left <= max(chance, LEFT * (looks.before - normal))
        gain, error = (None, None) if judge is None else judge.gain(candidate.fault, candidate.side)
        explanation = Explanation(
            candidate.fault,
            candidate.side,
            (looks.before, candidate.look, normal),
            complete,
            left <= chance,
            gain,
            error,
            excess,
        )
        if complete:
            return explanation
        if gain is None or error is None or gain > SURE * error:
            confirmed.append(explanation)
    return max(confirmed, key=lambda one: one.contribution or 0.0, default=None)


def _unseen(looks: _Looks, families: list[Family], judge: _Judge) -> Explanation | None:
    """The fault that features tell and statistics of pixels do not, if any explains the distance."""
    faults = [fault for family in families if family.unseen for fault in family.faults()]
    best = max(faults, key=judge.glance, default=None)
    if best is None:
        return None
    gain, error = judge.gain(best, "generated")
    if gain <= SURE * error:
        return None
    look = looks.try_out(best, "generated").look
    left = judge.excess - gain
    exact = left <= SURE * error
    complete = exact or left <= LEFT * judge.excess
    normal, _ = looks.control()
    return Explanation(
        best, "generated", (looks.before, look, normal), complete, exact, gain, error, judge.excess
    )


def _ranked(glance: _Looks, looks: _Looks, families: list[Family]) -> list[_Candidate]:
    """The faults of the families that bring the looks closest, with the strength that fits, best first."""
    best = []
    for family in families:
        sides: tuple[Side, ...] = ("generated", "reference") if family.one_way else ("generated",)
        for side in sides:
            if not family.possible(glance.images[side]):
                continue
            tried = (glance.try_out(fault, side) for fault in family.faults())
            best.append(min(tried, key=lambda one: one.look))
    best.sort(key=lambda one: one.look)
    closer = [looks.try_out(one.fault, one.side) for one in best[: 2 * CONFIRMED]]
    closer.sort(key=lambda one: one.look)
    refined = [_refined(looks, one) for one in closer[:CONFIRMED]]
    return sorted(refined, key=lambda one: one.look)


def _refined(looks: _Looks, candidate: _Candidate) -> _Candidate:
    """The same fault with the strength that fits best, by halving the step to its neighbours."""
    for reach in (0.5, 0.25, 0.125):
        nearby = candidate.fault.family.between(candidate.fault, reach)
        tried = [looks.try_out(fault, candidate.side) for fault in nearby]
        candidate = min([candidate, *tried], key=lambda one: one.look)
    return candidate


class _Judge:
    """Distances in the extractor's features between the same images, changed or not."""

    def __init__(
        self,
        extractor: Extractor,
        ours: Images,
        theirs: Images,
        known: Sequence[Rows | None],
        seed: int,
    ) -> None:
        self._extractor = extractor
        self._images = {"generated": ours, "reference": theirs}
        self._ours, theirs_now = (
            features_of(extractor, images) if rows is None else rows
            for images, rows in zip((ours, theirs), known, strict=True)
        )
        self._theirs = condensed(theirs_now)
        self._seed = seed
        control = real_control(theirs_now, len(ours), len(theirs), seed)
        self.excess = measure(self._ours, self._theirs).value - control.mean

    def glance(self, fault: Fault) -> float:
        """Points less, of few images, when the reference is changed alike."""
        reference = self._images["reference"][:GLANCED_FEATURES]
        ours, theirs = self._ours[:GLANCED_FEATURES], features_of(self._extractor, fault.apply(reference))
        return -measure(ours, theirs).value

    def gain(self, fault: Fault, side: Side) -> tuple[float, float]:
        """Points that vanish when the other side is changed alike, and their standard error."""
        if side == "generated":
            changed = condensed(features_of(self._extractor, fault.apply(self._images["reference"])))
            return self._difference(
                lambda chosen: (
                    measure(self._ours[chosen], self._theirs).value
                    - measure(self._ours[chosen], changed).value
                )
            )
        moved = features_of(self._extractor, fault.apply(self._images["generated"]))
        return self._difference(
            lambda chosen: (
                measure(self._ours[chosen], self._theirs).value - measure(moved[chosen], self._theirs).value
            )
        )

    def _difference(self, statistic: Callable[[NDArray[np.int64]], float]) -> tuple[float, float]:
        whole = np.arange(len(self._ours))
        return statistic(whole), jackknife(statistic, len(whole), self._seed)
