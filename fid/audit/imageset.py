"""One side of an audit: images, features, and what is kept of images whose pixels are not held.

Apart from the evidence because large sets are read in blocks: the pixels of a fixed sample are held, and of
every image a digest and two facts. It must not know any hypothesis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fid.audit.pixels import Images
from fid.control import subset
from fid.moments import Moments

LOSSY_FORMATS = ("JPEG", "WEBP")
HELD = 5000  # images of a side whose pixels are held,
HELD_BYTES = 64 * 2**20  # or fewer, where they are large
STATIC = 0.25  # correlation of neighbouring pixels below which an image may be noise


def held_rows(count: int, image_bytes: int) -> NDArray[np.int64]:
    """Which of `count` images an audit holds, ascending: the same ones every time."""
    return subset(count, min(HELD, max(2, HELD_BYTES // image_bytes)), seed=0)


@dataclass(frozen=True)
class Tally:
    """What is known of every image of a set.

    Attributes:
        digests: of the pixels of each.
        constant: (count,) all its pixels have the same values.
        static: (count,) its pixels do not depend on their neighbours.
    """

    digests: list[bytes]
    constant: NDArray[np.bool_]
    static: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Images) -> Tally:
        """Of images (count, channels, height, width)."""
        digests = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
        constant: NDArray[np.bool_] = (images == images[:, :, :1, :1]).all(axis=(1, 2, 3))
        return cls(digests, constant, ~constant & (_neighbours(images) < STATIC))

    @classmethod
    def joined(cls, parts: Iterable[Tally]) -> Tally:
        """Of sets one after the other."""
        found = list(parts)
        return cls(
            [digest for part in found for digest in part.digests],
            np.concatenate([part.constant for part in found]),
            np.concatenate([part.static for part in found]),
        )


def _neighbours(images: Images) -> NDArray[np.floating]:
    """(count,) correlation of a pixel with the next one, mean of down and across; 1 for constant images."""
    found = []
    for image in images:
        x = image - image.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
        variance = float(np.square(x).mean())
        pairs = (x[:, 1:] * x[:, :-1]).mean() + (x[..., 1:] * x[..., :-1]).mean()
        found.append(1.0 if variance == 0 else float(pairs) / (2 * variance))
    return np.array(found)


@dataclass(frozen=True)
class ImageSet:
    """One side of the comparison: as much of it as there is.

    Attributes:
        name: of the data set or configuration.
        images: (count, channels, height, width) uint8, as stored: all, or those of `rows`.
        features: (count, dimension), as they entered the score.
        logits: (count, classes), by the same extractor.
        moments: where only published statistics are there.
        index: (count,) the sample number of each row.
        samples: how many samples there should be.
        encodings: file format and pixel mode ("JPEG RGB", "PNG P") -> number of files.
        rows: (len(images),) ascending, the rows of features that images belong to; None: image i to row i.
        whole: what is known of all images, where `images` are some of them.
    """

    name: str
    images: Images | None = None
    features: NDArray[np.floating] | None = None
    logits: NDArray[np.floating] | None = None
    moments: Moments | None = None
    index: NDArray[np.int64] | None = None
    samples: int | None = None
    encodings: Mapping[str, int] = field(default_factory=dict)
    rows: NDArray[np.int64] | None = None
    whole: Tally | None = None

    def __post_init__(self) -> None:
        if self.images is not None and (self.images.dtype != np.uint8 or self.images.ndim != 4):
            raise ValueError(
                f"{self.name}: images must be uint8 (count, channels, height, width), "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.features is not None and self.features.ndim != 2:
            raise ValueError(f"{self.name}: features must be (count, dimension), got {self.features.shape}")
        counts = {
            key: len(rows)
            for key in ("images", "features", "logits", "index")
            if (rows := getattr(self, key)) is not None
        }
        if self.whole is not None:
            counts["images"] = len(self.whole.digests)
        if len(set(counts.values())) > 1:
            raise ValueError(f"{self.name}: row i of each must be sample i, but the counts are {counts}")
        if not counts and self.moments is None:
            raise ValueError(f"{self.name}: neither images nor features nor statistics")

    @property
    def lossy(self) -> bool:
        """Some of its files are of a format that changes pixels, or have a palette."""
        return any(name.startswith(LOSSY_FORMATS) or name.endswith(" P") for name in self.encodings)

    @property
    def count(self) -> int:
        """Number of samples, or the count behind the statistics."""
        for rows in (self.features, None if self.whole is None else self.whole.digests, self.images):
            if rows is not None:
                return len(rows)
        return 0 if self.moments is None else self.moments.count

    @cached_property
    def finite_features(self) -> NDArray[np.floating] | None:
        """The features without rows that hold NaN or infinity."""
        if self.features is None:
            return None
        finite = np.isfinite(self.features).all(axis=1)
        return self.features if finite.all() else self.features[finite]

    @property
    def statistics(self) -> NDArray[np.floating] | Moments:
        """What a distance is measured from: features where there are any, else moments."""
        found = self.moments if self.finite_features is None else self.finite_features
        if found is None:
            raise ValueError(f"{self.name}: neither features nor statistics")
        return found

    @property
    def dimension(self) -> int | None:
        """Of the features, None where there are none."""
        if self.features is not None:
            return self.features.shape[1]
        return None if self.moments is None else self.moments.dimension

    @cached_property
    def tally(self) -> Tally | None:
        """What is known of all images; None where there are none."""
        if self.whole is not None or self.images is None:
            return self.whole
        return Tally.of(self.images)

    @cached_property
    def pictured(self) -> NDArray[np.floating] | None:
        """The features of the images that are held, row for row; None where either is missing."""
        if self.images is None or self.features is None:
            return None
        return self.features if self.rows is None else self.features[self.rows]

    def numbers(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sample numbers of some of the images that are held."""
        rows = images if self.rows is None else self.rows[images]
        return rows if self.index is None else self.index[rows]
