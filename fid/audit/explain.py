"""Which fault of stored images explains how they differ from the reference: sound images, damaged alike.

If the reference's own images, put through a fault, become like the generated ones, that fault has its name
and its contribution: the distance that vanishes. Statistics of pixels choose the candidates, features decide.
It must not know what a verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fid.audit.families import families_for
from fid.audit.faults import Family, Fault, Images
from fid.audit.looks import LEAST, SCREENED, Candidate, Looks, Side
from fid.audit.sampling import SIGNIFICANT, condensed, jackknife
from fid.control import Rows, measure, real_control, subset
from fid.extractors import Extractor

GLANCED = 32  # images of a side whose pixel statistics choose families of faults
WEIGHED = 1000  # images of a side whose pixel statistics choose between the last candidates
GLANCED_FEATURES = 256  # images of a side whose features choose among faults that pixels do not show
REFINED = 6  # families of candidates whose strength is sought,
NEAR = 4  # if they leave at most so many times what the best leaves
CONFIRMED = 3  # families of candidates whose features are computed, best first
ROUNDS = 3  # faults that may lie on top of each other
BATCH = 256
LEFT = 0.1  # share of the distance of looks that a fault may leave when its strength is not met exactly
MOST = 2 / 3  # share of the distance of looks that faults must take away to be named
HALF = 0.5  # share of the points, beyond chance, that a fault must explain which is taken for the whole


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
        alike: other faults that would look the same, to within chance.
        trait: most of the difference stays, whatever else was found: this is a trait of some other fault.
        numbers: of the samples that it happened to, where it did not happen to all.
    """

    fault: Fault
    side: Side
    look: tuple[float, float, float]
    complete: bool
    exact: bool
    contribution: float | None = None
    error: float | None = None
    excess: float | None = None
    alike: tuple[str, ...] = ()
    trait: bool = False
    numbers: tuple[int, ...] = ()


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


def explain(
    generated: Images,
    reference: Images,
    extractor: Extractor | None,
    budget: int = 2000,
    seed: int = 0,
    suspect: bool = False,
    features: tuple[Rows | None, Rows | None] = (None, None),
    rounds: int = ROUNDS,
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
        rounds: most faults that are taken off one by one.
    """
    if generated.shape[1:] != reference.shape[1:] or min(len(generated), len(reference)) < LEAST:
        return ()
    chosen = subset(len(generated), budget, seed), subset(len(reference), budget, seed + 1)
    ours, theirs = generated[chosen[0]], reference[chosen[1]]
    known = [None if rows is None else rows[one] for rows, one in zip(features, chosen, strict=True)]
    families = families_for((generated.shape[1], generated.shape[2], generated.shape[3]))
    found: list[Explanation] = []
    excess: float | None = None
    for _ in range(rounds):
        looks = Looks(ours[:SCREENED], theirs[:SCREENED], seed)
        if not suspect and looks.before <= looks.chance():
            break
        judge = None if extractor is None else Judge(extractor, ours, theirs, known, seed)
        if judge is not None and excess is None:
            excess = judge.excess
        glance = Looks(ours[:GLANCED], theirs[:GLANCED], seed)
        ranked = _ranked(glance, looks, Looks(ours[:WEIGHED], theirs[:WEIGHED], seed), families)
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
    whole = any(one.complete for one in found)
    return tuple(replace(one, trait=not whole and _left(one) > 1 - MOST) for one in found)


def _left(explanation: Explanation) -> float:
    """Share of the distance of looks, beyond that of real images, that a fault leaves."""
    before, after, normal = explanation.look
    return (after - normal) / max(before - normal, 1e-9)


def _best(
    looks: Looks,
    ranked: list[Candidate],
    judge: Judge | None,
    excess: float | None,
) -> Explanation | None:
    """The fault that explains the looks, or else most of the distance, if any does.

    One that leaves the looks of real images but most of the points explains a part only.
    """
    normal, spread = looks.control()
    confirmed = []
    chance = SIGNIFICANT * spread
    for candidate in ranked[: CONFIRMED if judge is not None else 1]:
        if looks.before - candidate.look <= chance:
            break
        left = candidate.look - normal
        complete = left <= max(chance, LEFT * (looks.before - normal))
        gain, error = (None, None) if judge is None else judge.gain(candidate.fault, candidate.side)
        if judge is not None and gain is not None and judge.excess - gain > SIGNIFICANT * (error or 0.0):
            complete &= gain >= HALF * judge.excess
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
            others = [
                one for one in ranked[:CONFIRMED] if one is not candidate and one.look - normal <= chance
            ]
            return replace(explanation, alike=tuple(one.fault.name for one in others))
        if gain is None or error is None or gain > SIGNIFICANT * error:
            confirmed.append(explanation)
    return max(confirmed, key=lambda one: one.contribution or 0.0, default=None)


def _unseen(looks: Looks, families: list[Family], judge: Judge) -> Explanation | None:
    """The fault that features tell and statistics of pixels do not, if any explains the distance."""
    faults = [fault for family in families if family.unseen for fault in family.faults()]
    best = max(faults, key=judge.glance, default=None)
    if best is None:
        return None
    gain, error = judge.gain(best, "generated")
    if gain <= SIGNIFICANT * error:
        return None
    look = looks.try_out(best, "generated").look
    left = judge.excess - gain
    exact = left <= SIGNIFICANT * error
    complete = exact or left <= LEFT * judge.excess
    normal, _ = looks.control()
    return Explanation(
        best, "generated", (looks.before, look, normal), complete, exact, gain, error, judge.excess
    )


def _ranked(glance: Looks, looks: Looks, many: Looks, families: list[Family]) -> list[Candidate]:
    """The faults of the families that bring the looks closest, with the strength that fits, best first.

    Families are chosen by few images, strengths by more, the order by many.
    """
    best = []
    for family in families:
        sides: tuple[Side, ...] = ("generated", "reference") if family.one_way else ("generated",)
        for side in sides:
            if not family.possible(glance.images[side]):
                continue
            tried = (glance.try_out(fault, side) for fault in family.faults())
            best.append(min(tried, key=lambda one: one.look))
    best.sort(key=lambda one: one.look)
    closer = [looks.try_out(one.fault, one.side) for one in best[:REFINED]]
    closest = min((one.look for one in closer), default=0.0)
    refined = [_refined(looks, one) if one.look <= NEAR * (closest + 0.1) else one for one in closer]
    return sorted(refined, key=lambda one: many.try_out(one.fault, one.side).look)


def _refined(looks: Looks, candidate: Candidate) -> Candidate:
    """The same fault with the strength that fits best, by halving the step to its neighbours."""
    for reach in (0.5, 0.25, 0.125):
        nearby = candidate.fault.family.between(candidate.fault, reach)
        tried = [looks.try_out(fault, candidate.side) for fault in nearby]
        candidate = min([candidate, *tried], key=lambda one: one.look)
    return candidate


class Judge:
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
        self.excess = measure(self._ours, self._theirs).distance - control.mean

    def glance(self, fault: Fault) -> float:
        """Points less, of few images, when the reference is changed alike."""
        reference = self._images["reference"][:GLANCED_FEATURES]
        ours, theirs = self._ours[:GLANCED_FEATURES], features_of(self._extractor, fault.apply(reference))
        return -measure(ours, theirs).distance

    def gain(self, fault: Fault, side: Side) -> tuple[float, float]:
        """Points that vanish when the other side is changed alike, and their standard error."""
        if side == "generated":
            changed = condensed(features_of(self._extractor, fault.apply(self._images["reference"])))
            return self._difference(
                lambda chosen: (
                    measure(self._ours[chosen], self._theirs).distance
                    - measure(self._ours[chosen], changed).distance
                )
            )
        moved = features_of(self._extractor, fault.apply(self._images["generated"]))
        return self._difference(
            lambda chosen: (
                measure(self._ours[chosen], self._theirs).distance
                - measure(moved[chosen], self._theirs).distance
            )
        )

    def _difference(self, statistic: Callable[[NDArray[np.int64]], float]) -> tuple[float, float]:
        whole = np.arange(len(self._ours))
        return statistic(whole), jackknife(statistic, len(whole), self._seed)
