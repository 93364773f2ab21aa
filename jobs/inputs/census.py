"""Every image of a set is decoded once: what is wrong with it, and what the usable ones are together.

Everything wrong is said at once, each image with its place and the remedy; memory does not grow with the
number of images beyond a limit. It must not know where encoded images come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jobs.bounds import SwollenError, check_swelling
from jobs.inputs.imagefiles import DatasetError, decode, shape_text
from jobs.inputs.sources import Content, Shape

HELD = 512 * 2**20  # bytes of pixels up to which a set is kept in memory and not decoded again


class EncodedImages(Protocol):
    """Images in files, in a fixed order."""

    def __len__(self) -> int: ...

    def begin(self, first: int) -> Iterator[tuple[str, bytes | None]]:
        """From that number on: where each image is, in words, and its bytes."""


@dataclass(frozen=True)
class Checked:
    """Encoded images of which each is known to be usable or not."""

    kept: np.ndarray  # (count,) int64: numbers of the usable ones among all
    shape: Shape
    content_hash: str
    skipped: tuple[str, ...]  # where each of the others is, and what is wrong with it
    held: np.ndarray | None  # (count, channels, height, width) uint8: their pixels, where these are few


def check_images(
    name: str,
    encoded: EncodedImages,
    passed_over: Sequence[str] = (),
    *,
    skip: bool = False,
    advance: Callable[[int], None] = lambda more: None,
) -> Checked:
    """Decode every image of a set once, and say all that is wrong with them.

    Args:
        name: of the set.
        encoded: its images.
        passed_over: images that are not among these and should be: where each is, and what to do.
        skip: leave out what cannot be used, and say so, instead of raising.
        advance: told how many more images were looked at.

    Raises:
        DatasetError: some are not readable, not 8-bit grey or RGB, or not of the shape that most have; all of
            them are named. Or there is none.
    """
    census = _Census(name, len(encoded))
    for number, (where, payload) in enumerate(encoded.begin(0)):
        census.add(number, where, payload)
        advance(1)
    usual = Counter(census.shapes.values()).most_common(1)[0][0] if census.shapes else None
    problems = [*passed_over, *census.problems]
    problems += [
        f"{census.places[number]}: is {shape_text(shape)}, and most are {shape_text(usual)}: "
        "make it so, or take it out"
        for number, shape in census.shapes.items()
        if usual is not None and shape != usual
    ]
    if problems and not skip:
        raise DatasetError(
            f"{name}: {len(problems):,} of {len(encoded) + len(passed_over):,} images cannot be used; "
            "mend them, or let --skip-unreadable leave them out and say so:",
            problems,
        )
    if usual is None:
        raise DatasetError(f"{name}: holds no images", problems)
    kept = np.array([number for number, shape in census.shapes.items() if shape == usual], dtype=np.int64)
    held = None
    if census.held is not None:
        held = np.stack([image for image in census.held if image.shape == usual])
    content = census.content
    if content is None or len(kept) < len(encoded):
        content = Content(len(kept), usual)
        for image in held if held is not None else decoded(name, encoded, kept, usual, 0):
            content.update(image)
    return Checked(kept, usual, content.hash, tuple(problems), held)


def decoded(
    name: str, encoded: EncodedImages, kept: np.ndarray, shape: Shape, first: int
) -> Iterator[np.ndarray]:
    """The usable images from the `first` of them on. Raises DatasetError where one has changed."""
    if first >= len(kept):
        return
    usable = set(kept[first:].tolist())
    start = int(kept[first])
    for number, (where, payload) in enumerate(encoded.begin(start), start):
        if number not in usable:
            continue
        try:
            image = decode(payload)
        except ValueError as error:
            raise DatasetError(f"{name}: {where}: changed while the set was read: {error}") from error
        if image.shape != shape:
            now = shape_text(image.shape)
            raise DatasetError(f"{name}: {where}: changed while the set was read: it is {now} now")
        yield image


class _Census:
    """What is seen of a set's images while each is decoded once."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._packed = self._unpacked = 0  # bytes
        self.shapes: dict[int, Shape] = {}  # by number, of those that can be decoded
        self.places: dict[int, str] = {}
        self.problems: list[str] = []
        self.held: list[np.ndarray] | None = []  # None: too large to keep
        self.content: Content | None = None  # of images that are all like the first

    def add(self, number: int, where: str, payload: bytes | None) -> None:
        """Look at the next image. Raises DatasetError for files that unfold without measure."""
        self._packed += len(payload or b"")
        try:
            image = decode(payload)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return
        self._unpacked += image.nbytes
        try:
            check_swelling(self._name, self._packed, self._unpacked)
        except SwollenError as error:
            raise DatasetError(str(error)) from None
        channels, height, width = image.shape
        self.shapes[number] = channels, height, width
        self.places[number] = where
        if self.content is None:
            self.content = Content(self._count, self.shapes[number])
        self.content.update(image)
        if self._unpacked > HELD:
            self.held = None
        if self.held is not None:
            self.held.append(image)
