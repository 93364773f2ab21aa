"""Images of a set in a fixed order: in memory, or read anew each time they are wanted.

Whoever works on images takes them from here, whatever they were read from. It must not know files nor how
images are encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import numpy as np

from jobs.inputs.imagefiles import DatasetError

ROWS = 256  # images that are read at a time
Shape = tuple[int, int, int]  # channels, height, width


class ImageSource(Protocol):
    """Images in a fixed order; in memory or not."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""

    @property
    def content_hash(self) -> str:
        """sha256 of shape and pixels of all images."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Images that were left out: where each is, and what is wrong with it."""

    def __len__(self) -> int: ...

    def blocks(self, part: range, size: int) -> Iterator[np.ndarray]:
        """The images of a part, (at most size, channels, height, width) uint8 at a time."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels in a fixed order."""

    name: str
    images: np.ndarray  # (count, channels, height, width) uint8
    labels: np.ndarray | None = None  # (count,) int64
    skipped: tuple[str, ...] = ()  # images that were left out: where each is, and what is wrong with it

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DatasetError(
                f"{self.name}: images must be uint8 (count, channels, height, width), "
                f"got {self.images.dtype} {self.images.shape}: save bytes, as floor(255 x) of x in [0, 1]"
            )
        if len(self.images) == 0:
            raise DatasetError(f"{self.name}: holds no images")
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise DatasetError(
                f"{self.name}: {len(self.images)} images need as many labels, got shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def blocks(self, part: range, size: int) -> Iterator[np.ndarray]:
        """The images of a part, (at most size, channels, height, width) uint8 at a time."""
        for first in range(part.start, part.stop, size):
            yield self.images[first : min(first + size, part.stop)]

    @cached_property
    def content_hash(self) -> str:
        """sha256 of the images' shape and bytes; labels are no part of it: features do not see them."""
        content = Content(len(self), self.shape)
        content.update(self.images)
        return content.hash


@dataclass(frozen=True)
class StreamedImages:
    """Images that are read anew each time.

    rows: from that number on, one image (channels, height, width) uint8 after the other.
    """

    name: str
    count: int
    shape: Shape
    content_hash: str
    rows: Callable[[int], Iterator[np.ndarray]]
    labels: np.ndarray | None = None  # (count,) int64
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def blocks(self, part: range, size: int) -> Iterator[np.ndarray]:
        """See `ImageSource`. Raises DatasetError where images have changed since they were looked at."""
        whole = Content(self.count, self.shape) if len(part) == self.count else None
        for rows in _batches(islice(self.rows(part.start), len(part)), size):
            if whole is not None:
                whole.update(rows)
            yield rows
        if whole is not None and whole.hash != self.content_hash:
            raise DatasetError(f"{self.name}: the images changed while the set was read")


def in_memory(found: Dataset | StreamedImages) -> Dataset:
    """The same, with all pixels in memory."""
    if isinstance(found, Dataset):
        return found
    images = np.empty((len(found), *found.shape), np.uint8)
    first = 0
    for block in found.blocks(range(len(found)), ROWS):
        images[first : first + len(block)] = block
        first += len(block)
    return Dataset(found.name, images, found.labels, found.skipped)


class Content:
    """The content hash of images that come one after the other."""

    def __init__(self, count: int, shape: Shape) -> None:
        self._digest = hashlib.sha256(repr((count, *shape)).encode())

    def update(self, images: np.ndarray) -> None:
        """Take in the next image, or images."""
        self._digest.update(np.ascontiguousarray(images).data)

    @property
    def hash(self) -> str:
        """sha256 of shape and bytes of all that came."""
        return self._digest.hexdigest()


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    while rows := list(islice(images, size)):
        yield np.stack(rows)
