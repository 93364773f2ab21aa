"""Encoded images to pixels, strictly: what is not 8-bit grey or RGB of one size is refused, never converted.

A module of its own because a silent conversion is a fault that no score shows later. Everything that is wrong
with a set is collected and said at once, each image with what to do. It must not know data sets nor splits.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jobs.bounds import SwollenError, check_pixels, check_swelling

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
SHOWN = 50  # problems in a message; the error has all

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH = 24  # offset of the bit depth in a PNG, whose first chunk is IHDR
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_REMEDIES = {
    "RGBA": "has transparency (RGBA), and how it looks depends on the ground behind it: flatten it to RGB",
    "LA": "has transparency (LA), and how it looks depends on the ground behind it: flatten it to grey",
    "PA": "has transparency (PA), and how it looks depends on the ground behind it: flatten it to RGB",
    "P": "has a palette: save it as RGB, or as grey",
    "1": "has one bit a pixel: save it as 8-bit grey",
    "CMYK": "is CMYK: save it as RGB, with the profile that is meant",
}
_WIDE = "has more than 8 bits a channel: reduce it to 8 bits, and say by which rule"


class DatasetError(ValueError):
    """A data set cannot be read; the message names the file, what was found and what would be right."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        more = f"\nand {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        super().__init__("\n".join([message, *problems[:SHOWN]]) + more)
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Decoded:
    """Images of a set, and what was left out of it."""

    images: np.ndarray  # (count, channels, height, width) uint8, in their order
    kept: tuple[int, ...]  # numbers of these among all that were given
    skipped: tuple[str, ...]  # where each of the others is, and what is wrong with it


def decode_all(
    name: str,
    payloads: Iterable[tuple[str, bytes | None]],
    passed_over: Sequence[str] = (),
    *,
    skip: bool = False,
) -> Decoded:
    """Decode the images of a set.

    Args:
        name: of the set.
        payloads: where each image is, in words, and its bytes.
        passed_over: images that are not among these and should be: where each is, and what to do.
        skip: leave out what cannot be used, and say so, instead of raising.

    Raises:
        DatasetError: some are not readable, not 8-bit grey or RGB, or not of the shape that most have; all of
            them are named. Or there is none.
    """
    images: list[tuple[int, str, np.ndarray]] = []
    problems = list(passed_over)
    count = len(problems)
    packed = unpacked = 0  # bytes
    for number, (where, payload) in enumerate(payloads):
        count += 1
        packed += len(payload or b"")
        try:
            image = decode(payload)
            unpacked += image.nbytes
            images.append((number, where, image))
        except ValueError as error:
            problems.append(f"{where}: {error}")
        try:
            check_swelling(name, packed, unpacked)
        except SwollenError as error:
            raise DatasetError(str(error)) from None
    usual = Counter(image.shape for _, _, image in images).most_common(1)[0][0] if images else ()
    problems += [
        f"{where}: is {_shape(image.shape)}, and most are {_shape(usual)}: make it so, or take it out"
        for _, where, image in images
        if image.shape != usual
    ]
    if problems and not skip:
        raise DatasetError(
            f"{name}: {len(problems):,} of {count:,} images cannot be used; "
            "mend them, or let --skip-unreadable leave them out and say so:",
            problems,
        )
    good = [(number, image) for number, _, image in images if image.shape == usual]
    if not good:
        raise DatasetError(f"{name}: holds no images", problems)
    kept = tuple(number for number, _ in good)
    return Decoded(np.stack([image for _, image in good]), kept, tuple(problems))


def decode(payload: bytes | None) -> np.ndarray:
    """Pixels (1 or 3 channels, height, width) uint8 of an encoded image. Raises ValueError, with a remedy."""
    if not payload:
        raise ValueError("the image has no bytes")
    if payload.startswith(_PNG) and len(payload) > _DEPTH and payload[_DEPTH] > 8:
        raise ValueError(_WIDE)  # which Pillow would cut to 8 bits without a word
    try:
        with Image.open(io.BytesIO(payload)) as image:
            check_pixels(*image.size)
            mode, frames = image.mode, getattr(image, "n_frames", 1)
            transparent = "transparency" in image.info
            pixels = np.asarray(image) if mode in ("L", "RGB") else None
    except SwollenError:
        raise
    except _UNREADABLE as error:
        raise ValueError(f"not a readable image ({error}): fetch it again, or take it out") from error
    if frames > 1:
        raise ValueError(f"has {frames} frames: save the one that is meant")
    if pixels is None:
        raise ValueError(_REMEDIES.get(mode, _WIDE if mode[0] in "IF" else f"is {mode}: save it as RGB"))
    if transparent:
        raise ValueError(_REMEDIES["RGBA"])
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def image_paths(folder: Path) -> tuple[list[Path], list[str]]:
    """All image files below a folder, sorted; and a line for each image whose name is not that of one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    known = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    disguised = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES and _is_image(path)]
    endings = ", ".join(IMAGE_SUFFIXES)
    return known, [f"{path}: an image by its content; save it as one of {endings}" for path in disguised]


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except (UnidentifiedImageError, *_UNREADABLE):
        return False


def _shape(shape: tuple[int, ...]) -> str:
    """`RGB 32x32`, width before height."""
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'RGB'} {width}x{height}"
