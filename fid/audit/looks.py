"""How two sets of images look: pixel statistics of both on one scale, and what faults do to their distance.

Apart from explanations because a look costs next to nothing and knows no network: it only proposes. It must
not decide which fault it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fid.audit import pixels
from fid.audit.faults import Fault, Images
from fid.control import Rows, subset

LEAST = 16  # images of a side, below which nothing is said
SCREENED = 200  # images of a side whose pixel statistics choose the strength
PERMUTATIONS = 500  # of images between the sides: the largest distance is passed by chance once in 500
HALVES = 20  # of the reference, for the distance of looks that real images have
SCALE_FLOOR = 0.1  # a statistic that hardly varies among real images counts in visible steps
MAIN = 0.5  # share of the distance that the statistics which are named make up

Side = Literal["generated", "reference"]


@dataclass(frozen=True)
class Candidate:
    """A fault of one side, and the distance of looks that is left when the other side is damaged alike."""

    fault: Fault
    side: Side
    look: float


class Looks:
    """Pixel statistics of both sides on one scale, and what faults do to them.

    Distances are those of Gaussians with diagonal covariances, each named statistic for itself; their sum
    counts each by log(1 + distance), so that a fault which explains nine of ten statistics is not outdone by
    the tenth, where its strength is not met exactly.
    """

    def __init__(self, generated: Images, reference: Images, seed: int) -> None:
        self.images: dict[Side, Images] = {"generated": generated, "reference": reference}
        self._seed = seed
        found = pixels.statistics(reference)
        self._names = list(found)
        self._widths = [values.shape[1] for values in found.values()]
        scale = np.concatenate([values.std(axis=0) for values in found.values()])
        self._scale = np.maximum(scale, SCALE_FLOOR) * np.sqrt(np.repeat(self._widths, self._widths))
        self._starts = np.cumsum([0, *self._widths[:-1]])
        self.rows: dict[Side, Rows] = {"generated": self._of(generated), "reference": self._of(reference)}

    def _of(self, images: Images) -> Rows:
        return np.concatenate(list(pixels.statistics(images).values()), axis=1) / self._scale

    def _distance(self, first: Rows, second: Rows) -> float:
        return float(self._distances(first, second).sum())

    def _distances(self, first: Rows, second: Rows) -> Rows:
        """Of each statistic."""
        squares = np.square(first.mean(axis=0) - second.mean(axis=0))
        squares += np.square(first.std(axis=0) - second.std(axis=0))
        return np.log1p(np.add.reduceat(squares, self._starts))

    def most_different(self) -> tuple[str, ...]:
        """The statistics that together make up most of the distance, the most different first."""
        apart = self._distances(self.rows["generated"], self.rows["reference"])
        order = np.argsort(-apart)
        many = int(np.searchsorted(np.cumsum(apart[order]), MAIN * apart.sum())) + 1
        return tuple(self._names[number] for number in order[:many])

    @cached_property
    def before(self) -> float:
        """Distance of the two sides as they are."""
        return self._distance(self.rows["generated"], self.rows["reference"])

    def _changed(self, fault: Fault, side: Side) -> tuple[Rows, Rows]:
        """Rows of both sides after the one that is not `side` was damaged alike."""
        if side == "generated":
            return self.rows["generated"], self._of(fault.apply(self.images["reference"]))
        return self._of(fault.apply(self.images["generated"])), self.rows["reference"]

    def try_out(self, fault: Fault, side: Side) -> Candidate:
        """A fault of one side with the distance that it leaves."""
        return Candidate(fault, side, self._distance(*self._changed(fault, side)))

    def chance(self) -> float:
        """The largest of the distances when images change sides at random, again and again."""
        rows = np.concatenate([self.rows["generated"], self.rows["reference"]])
        return max(self._of_splits(rows, len(self.rows["generated"]), PERMUTATIONS))

    def control(self) -> tuple[float, float]:
        """Mean and spread of the distance of random halves of the reference, brought to these counts."""
        rows = self.rows["reference"]
        half = len(rows) // 2
        values = self._of_splits(rows, half, HALVES)
        here = 1 / half + 1 / (len(rows) - half)
        scale = (1 / len(self.rows["generated"]) + 1 / len(rows)) / here
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


def differing(generated: Images, reference: Images, seed: int) -> tuple[str, ...]:
    """Statistics of pixels in which two sets differ by more than chance, the most different first."""
    if generated.shape[1:] != reference.shape[1:] or min(len(generated), len(reference)) < LEAST:
        return ()
    chosen = (subset(len(images), SCREENED, seed) for images in (generated, reference))
    ours, theirs = (images[rows] for images, rows in zip((generated, reference), chosen, strict=True))
    looks = Looks(ours, theirs, seed)
    return looks.most_different() if looks.before > looks.chance() else ()
