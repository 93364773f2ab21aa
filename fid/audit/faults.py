"""What a fault of stored images is: a map from sound uint8 images to damaged ones, of some strength.

A module of its own because a fault is shown by repeating it: where sound images, damaged in the same way, are
like the ones in question, it has its name. It must not know how likeness is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fid.audit.damage import Images

Hypothesis = Literal["H4", "H5", "H7", "H9"]


@dataclass(frozen=True)
class Fault:
    """One change of images (count, channels, height, width) uint8 that keeps their shape.

    Attributes:
        share: of the images that it happened to, at places drawn at random.
    """

    family: Family
    strength: float
    share: float = 1.0

    @property
    def hypothesis(self) -> Hypothesis:
        """Whose case it is."""
        return self.family.hypothesis

    @property
    def name(self) -> str:
        """What happened, as a report says it."""
        whole = self.family.describe(self.strength)
        return whole if self.share == 1 else f"{whole}, in {100 * self.share:.0f} % of them"

    def apply(self, images: Images) -> Images:
        """Sound images, damaged."""
        if self.share == 1:
            return self.family.change(images, self.strength)
        count = round(self.share * len(images))
        hit = np.random.default_rng(len(images)).choice(len(images), count, replace=False)
        changed = images.copy()
        if count:
            changed[hit] = self.family.change(images[hit], self.strength)
        return changed


@dataclass(frozen=True)
class Family:
    """Faults that differ in strength only.

    Attributes:
        hypothesis: whose case they are.
        name: of the family.
        strengths: to begin with, ascending.
        describe: strength -> what happened.
        change: images and strength -> changed images.
        one_way: they destroy what no inverse change brings back, so each shows on one side only.
        resolution: how finely a strength can be told; 0: strengths are names, nothing lies between them.
        possible: whether images can have such a fault at all, where that is cheaply told.
        unseen: statistics of pixels may be the same before and after, so only features tell.
    """

    hypothesis: Hypothesis
    name: str
    strengths: tuple[float, ...]
    describe: Callable[[float], str]
    change: Callable[[Images, float], Images]
    one_way: bool = False
    resolution: float = 0.0
    possible: Callable[[Images], bool] = lambda images: True
    unseen: bool = False

    def faults(self) -> list[Fault]:
        """One for each strength to begin with."""
        return [Fault(self, strength) for strength in self.strengths]

    def between(self, fault: Fault, reach: float) -> list[Fault]:
        """The two faults whose strengths are `reach` (a fraction) of the way to the neighbouring ones."""
        if not self.resolution:
            return []
        grid = np.array(self.strengths)
        below, above = grid[grid < fault.strength], grid[grid > fault.strength]
        ends = [*below[-1:].tolist(), *above[:1].tolist()]
        steps = [fault.strength + reach * (end - fault.strength) for end in ends]
        rounded = [round(step / self.resolution) * self.resolution for step in steps]
        return [Fault(self, step) for step in rounded if step != fault.strength]
