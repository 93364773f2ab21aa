"""Images of one side that lie apart from its others: faults that happened to some of the images only.

Apart from explanations of whole sides because first it must be seen that there are two kinds of images at
all. Pixel statistics tell that; it must not know any network but to weigh what was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fid.audit.explain import Explanation, Judge, explain
from fid.audit.faults import Images
from fid.audit.imageset import ImageSet
from fid.audit.looks import LEAST, Looks, Side
from fid.control import Rows, subset
from fid.extractors import Extractor

SHARE = 0.03  # of the images, or 16 of them, that a part must have at least
RIDGE = 0.1  # of the mean variance of a statistic, added to each
APART = 4.0  # pooled deviations between the two kinds; halves of any one bell are 2.7 apart
BETWEEN = 0.3  # of the part's size that may lie in the middle third between the two
LIKE = (0.5, 2.0)  # deviations of the other side by which the rest may be off, and times as wide it may be
TAIL = 0.1  # of the part's share that may lie as far out on the other side
EDGE = 0.98  # quantile of the other side where the search begins
SHOWN = 5  # numbers of images that are told

_OTHER: dict[Side, Side] = {"generated": "reference", "reference": "generated"}


@dataclass(frozen=True)
class Part:
    """Images of one side that lie apart from its others, which are like the other side.

    Attributes:
        side: whose images.
        share: of the images that were looked at.
        numbers: of the samples that it consists of, among those that were looked at, ascending.
        differing: statistics of pixels in which it differs from the other side, most first.
        explanation: the fault that happened to it, where it is a known one.
    """

    side: Side
    share: float
    numbers: tuple[int, ...]
    differing: tuple[str, ...]
    explanation: Explanation | None

    @property
    def told(self) -> str:
        """How many and which, in words."""
        some = ", ".join(f"{number:,}" for number in self.numbers[:SHOWN])
        return f"{100 * self.share:.0f} % of the {self.side} images (numbers {some}, ...)"


def part_apart(rows: Rows, others: Rows, seed: int) -> NDArray[np.int64] | None:
    """Numbers of the rows that lie apart from the rest, while the rest is like the others; None mostly.

    Both are projected on the direction that tells them best (Fisher 1936), which is found from the other half
    of the rows, so that it owes nothing to those it is applied to. A part is the cut of this line that leaves
    the two sides of it furthest apart for their widths (Ashman 1994).

    rows: (count, statistics) of the side in question; others: of the other side.
    """
    least = max(LEAST, round(SHARE * len(rows)))
    if min(len(rows), len(others)) < 4 * LEAST:
        return None
    places, normal = _projected(rows, others, seed)
    order = np.argsort(places)
    sorted_places = places[order]
    cuts = np.arange(int(np.searchsorted(sorted_places, np.quantile(normal, EDGE))), len(rows) - least + 1)
    cuts = cuts[cuts >= LEAST]
    if not len(cuts):
        return None
    cut = int(cuts[np.argmax(_separation(sorted_places, cuts))])
    return np.sort(order[cut:]) if _two_kinds(sorted_places[:cut], sorted_places[cut:], normal) else None


def _projected(rows: Rows, others: Rows, seed: int) -> tuple[Rows, Rows]:
    """Places of rows and others on the line between them, in deviations of the others."""
    generator = np.random.default_rng(seed)
    halves = generator.permutation(len(rows)) % 2, generator.permutation(len(others)) % 2
    places, normal = np.empty(len(rows)), np.empty(len(others))
    for half in (0, 1):
        known = others[halves[1] != half]
        covariance = np.cov(known.T)
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        mean = known.mean(axis=0)
        direction = np.linalg.solve(covariance, rows[halves[0] != half].mean(axis=0) - mean)
        spread = max(float((known @ direction).std()), 1e-12)
        places[halves[0] == half] = (rows[halves[0] == half] - mean) @ direction / spread
        normal[halves[1] == half] = (others[halves[1] == half] - mean) @ direction / spread
    return places, normal


def _separation(places: Rows, cuts: NDArray[np.int64]) -> Rows:
    """Distance of the means below and above each cut of ascending places, in pooled deviations."""
    sums, squares = np.cumsum(places), np.cumsum(np.square(places))
    below, above = cuts, len(places) - cuts
    low, high = sums[cuts - 1] / below, (sums[-1] - sums[cuts - 1]) / above
    low_square = squares[cuts - 1] / below - np.square(low)
    high_square = (squares[-1] - squares[cuts - 1]) / above - np.square(high)
    found: Rows = (high - low) / np.sqrt(np.maximum((low_square + high_square) / 2, 1e-12))
    return found


def _two_kinds(rest: Rows, part: Rows, normal: Rows) -> bool:
    """The part is far from the rest, little lies between, and the rest is as the other side is."""
    gap = part.mean() - rest.mean()
    if gap <= APART * np.sqrt((rest.var() + part.var()) / 2):
        return False
    low, high = rest.mean() + gap / 3, rest.mean() + 2 * gap / 3

    def between(places: Rows) -> int:
        return int(((places > low) & (places < high)).sum())

    usual = between(normal) * len(rest) / len(normal)
    share = len(part) / (len(part) + len(rest))
    (left, middle, right), (least, usual_middle, most) = (
        np.quantile(places, (0.16, 0.5, 0.84)) for places in (rest, normal)
    )
    width = (most - least) / 2
    return bool(
        between(np.concatenate([rest, part])) - usual <= BETWEEN * len(part)
        and abs(middle - usual_middle) <= LIKE[0] * width
        and (right - left) / 2 <= LIKE[1] * width
        and (normal > part.min()).mean() <= TAIL * share
    )


def find_part(
    generated: ImageSet, reference: ImageSet, extractor: Extractor | None, budget: int, seed: int
) -> Part | None:
    """The part of either side, and the fault that made it; None where all images of a side are of one kind.

    budget: images of a side that are looked at. Constant images and pure noise are left out: they are no
    pictures, and are counted by themselves.
    """
    sides: dict[Side, ImageSet] = {"generated": generated, "reference": reference}
    chosen = {side: _pictures(held, budget, seed) for side, held in sides.items()}
    images = {side: held.images[chosen[side]] for side, held in sides.items() if held.images is not None}
    if len(images) < 2 or images["generated"].shape[1:] != images["reference"].shape[1:]:
        return None
    if min(map(len, images.values())) < 4 * LEAST:
        return None
    for side, other in _OTHER.items():
        looks = Looks(images[side], images[other], seed)  # on the scale of the other side
        part = part_apart(looks.rows["generated"], looks.rows["reference"], seed)
        if part is not None:
            differing = Looks(images[side][part], images[other], seed).most_different()
            found = _explain(images, side, part, extractor, seed)
            numbers = tuple(sides[side].numbers(chosen[side][part]).tolist())
            explanation = None if found is None else replace(found, numbers=numbers)
            return Part(side, len(part) / len(images[side]), numbers, differing, explanation)
    return None


def _pictures(held: ImageSet, budget: int, seed: int) -> NDArray[np.int64]:
    """Which of the images that are held to look at."""
    if held.images is None or held.tally is None:
        return np.empty(0, np.int64)
    rows = np.arange(len(held.images)) if held.rows is None else held.rows
    pictures = np.flatnonzero(~(held.tally.constant | held.tally.static)[rows])
    return pictures[subset(len(pictures), budget, seed)]


def _explain(
    sides: dict[Side, Images], side: Side, part: NDArray[np.int64], extractor: Extractor | None, seed: int
) -> Explanation | None:
    """The one fault that happened to a part: what `explain` would find were it a side of its own.

    Its contribution is that of the share: what vanishes when as many images of the other side are damaged.
    """
    other = sides[_OTHER[side]]
    found = explain(sides[side][part], other, extractor, len(other), seed, suspect=True, rounds=1)
    if not found or not found[0].complete or found[0].side != "generated":
        return None
    fault = replace(found[0].fault, share=len(part) / len(sides[side]))
    explanation = replace(found[0], fault=fault, side=side)
    if extractor is None:
        return explanation
    judge = Judge(extractor, sides["generated"], sides["reference"], (None, None), seed)
    gain, error = judge.gain(explanation.fault, side)
    return replace(explanation, contribution=gain, error=error, excess=judge.excess)
