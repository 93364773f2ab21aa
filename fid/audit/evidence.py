"""What an audit looks at: two image sets, how their features were made, and what was expected of the score.

A module of its own because every test reads it, and numbers that several tests need are computed here once.
It must not know any hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from fid.audit.apart import Part, find_part
from fid.audit.explain import Explanation, explain, features_of, outputs_of
from fid.audit.imageset import ImageSet
from fid.audit.looks import differing
from fid.audit.provenance import Provenance, provenance
from fid.audit.sampling import SIGNIFICANT, condensed, jackknife
from fid.control import Control, dimension_of, measure, real_control, subset
from fid.extractors import Extractor
from fid.frechet import Frechet
from fid.moments import Moments

Input = Literal[
    "generated images",
    "reference images",
    "generated features",
    "reference features",
    "reference statistics",
    "an extractor",
    "the sampler's settings",
    "the expected value",
    "values of other cells",
    "what the value was measured against",
]


@dataclass(frozen=True)
class Expectation:
    """The value that was expected, and how it was obtained.

    Attributes:
        value: points; None: the real control at the same numbers takes its place.
        samples: generated images behind it.
        reference_samples: reference images behind it; None: as many as here.
        weights: beginning of the sha256 that the extractor's weights should have.
        dimension: of its features.
        reference: name of the data set that it was measured against.
        real: that data set.
        settings: of the sampler, by name.
        cells: other values of the same table, with their standard deviations.
    """

    value: float | None = None
    samples: int = 50_000
    reference_samples: int | None = None
    weights: str | None = None
    dimension: int | None = None
    reference: str | None = None
    real: ImageSet | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    cells: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that an audit may look at.

    Attributes:
        generated, reference: the two sides.
        extractor: makes features of stored images, to be compared with those that entered the score.
        variants: the same weights with another resize, normalisation or layer, by what is other.
        reported: the value in question as it was printed; None: what the features give.
        settings: of the sampler, by name.
        alternatives: images of the same configuration but for one setting, by what was changed.
        expectation: see `Expectation`.
        budget: most images of a side that pass through the extractor for one comparison.
        seed: of subsets and splits.
    """

    generated: ImageSet
    reference: ImageSet
    extractor: Extractor | None = None
    variants: Mapping[str, Extractor] = field(default_factory=dict)
    reported: float | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    alternatives: Mapping[str, ImageSet] = field(default_factory=dict)
    expectation: Expectation = field(default_factory=Expectation)
    budget: int = 2000
    seed: int = 0

    @property
    def available(self) -> Set[Input]:
        """Names of the inputs that are there."""
        there: dict[Input, bool] = {
            "generated images": self.generated.images is not None,
            "reference images": self.reference.images is not None,
            "generated features": self.generated.features is not None,
            "reference features": self.reference.features is not None,
            "reference statistics": self.reference.dimension is not None,
            "an extractor": self.extractor is not None,
            "the sampler's settings": bool(self.settings or self.alternatives),
            "the expected value": self.expectation.value is not None,
            "values of other cells": bool(self.expectation.cells),
            "what the value was measured against": self.expectation.real is not None
            or self.expectation.reference is not None,
        }
        return {name for name, found in there.items() if found}

    @cached_property
    def frechet(self) -> Frechet | None:
        """Of the features as they are, computed anew; None where they cannot be compared."""
        widths = {self.generated.dimension, self.reference.dimension}
        if len(widths) != 1 or None in widths or min(self.generated.count, self.reference.count) < 2:
            return None
        return measure(self.generated.statistics, self.reference.statistics)

    @cached_property
    def standard_error(self) -> float:
        """Of the distance over other draws of the generated samples; 0 where only statistics are there."""
        rows = self.generated.finite_features
        if self.frechet is None or rows is None:
            return 0.0
        reference = self.reference.statistics
        condensed_reference = reference if isinstance(reference, Moments) else condensed(reference)
        return jackknife(
            lambda chosen: measure(rows[chosen], condensed_reference).distance, len(rows), self.seed
        )

    @property
    def measured(self) -> float | None:
        """The value in question: as reported, or as computed anew."""
        if self.reported is not None:
            return self.reported
        return None if self.frechet is None else self.frechet.distance

    @cached_property
    def control(self) -> Control | None:
        """Real against real at these numbers; None without features of the reference, or with too few."""
        rows = self.reference.finite_features
        if rows is None or len(rows) < 4 or self.generated.count < 2:
            return None
        return real_control(rows, self.generated.count, self.reference.count, self.seed)

    @property
    def excess(self) -> float | None:
        """Points that want a reason: measured less expected, or less the real control."""
        if self.measured is None:
            return None
        if self.expectation.value is not None:
            return self.measured - self.expectation.value
        return None if self.control is None else self.measured - self.control.mean

    @cached_property
    def part(self) -> Part | None:
        """Images of one side that lie apart from the rest of it."""
        if self.generated.images is None or self.reference.images is None:
            return None
        return find_part(self.generated, self.reference, self.extractor, self.budget, self.seed)

    @cached_property
    def image_faults(self) -> tuple[Explanation, ...]:
        """Faults of stored images that explain how the two sides differ."""
        if self.generated.images is None or self.reference.images is None:
            return ()
        if self.part is not None and self.part.explanation is not None:
            return (self.part.explanation,)
        sound = {side for side, made in self.provenances.items() if made.match == "as stored"}
        features = (
            self.generated.pictured if "generated" in sound else None,
            self.reference.pictured if "reference" in sound else None,
        )
        suspect = self.off and len(sound) == len(self.provenances)
        return explain(
            self.generated.images,
            self.reference.images,
            self.extractor,
            self.budget,
            self.seed,
            suspect,
            features if self.generated.finite_features is self.generated.features else (None, None),
        )

    @cached_property
    def unnamed(self) -> tuple[str, ...]:
        """Statistics of pixels that differ, most first, where no known fault explains the images."""
        if self.generated.images is None or self.reference.images is None:
            return ()
        if any(found.complete for found in self.image_faults) or not (self.off or self.extractor is None):
            return ()
        return differing(self.generated.images, self.reference.images, self.seed)

    @cached_property
    def levelled(self) -> tuple[ImageSet, ImageSet]:
        """Both sides after what happened to the images of one was done to the other too.

        What still differs then is no fault of the images. The sides as they are where none was found, or
        where no extractor can make features anew.
        """
        if not self.image_faults or self.extractor is None:
            return self.generated, self.reference
        sides = {"generated": self.generated, "reference": self.reference}
        found = []
        for side, held in sides.items():
            if held.images is None:
                return self.generated, self.reference
            images = held.images[subset(len(held.images), self.budget, self.seed)]
            for explanation in self.image_faults:
                if explanation.side != side:
                    images = explanation.fault.apply(images)
            features, logits = outputs_of(self.extractor, images)
            found.append(ImageSet(held.name, images, features, logits))
        return found[0], found[1]

    @property
    def off(self) -> bool:
        """The features are further from the reference than real ones ever are."""
        if self.frechet is None or self.control is None:
            return False
        return self.frechet.distance > self.control.mean + SIGNIFICANT * self.control.spread

    @cached_property
    def provenances(self) -> Mapping[str, Provenance]:
        """What made the features of each side that has images and features too, by the side's name."""
        if self.extractor is None:
            return {}
        return {
            side: provenance(found.images, found.pictured, self.extractor, self.variants, self.seed)
            for side, found in (("generated", self.generated), ("reference", self.reference))
            if found.images is not None and found.pictured is not None
        }

    @cached_property
    def repaired_gain(self) -> float | None:
        """Points that vanish when features are made anew from the stored images, of the same images.

        A side without images keeps its features or statistics. None where either distance does not exist.
        """
        if self.extractor is None or not self.provenances:
            return None
        stored, anew = [], []
        for side, found in (("generated", self.generated), ("reference", self.reference)):
            if side not in self.provenances or found.images is None or found.pictured is None:
                stored.append(found.statistics)
                anew.append(found.statistics)
                continue
            chosen = subset(len(found.images), self.budget, self.seed)
            chosen = chosen[np.isfinite(found.pictured[chosen]).all(axis=1)]
            stored.append(found.pictured[chosen])
            anew.append(features_of(self.extractor, found.images[chosen]))
        if any(dimension_of(one) != dimension_of(other) for one, other in (stored, anew)):
            return None
        return measure(*stored).distance - measure(*anew).distance
