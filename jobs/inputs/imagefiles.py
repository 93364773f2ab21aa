"""Encoded images to pixels, strictly: what is not 8-bit grey or RGB of one size is refused, never converted.

A module of its own because a silent conversion is a fault that no score shows later. Everything that is wrong
with a set is collected and said at once, each image with what to do. It must not know data sets nor splits.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jobs.bounds import SwollenError, check_pixels

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
    except UnidentifiedImageError as error:
        raise ValueError(
            "not a readable image (of no known format, or cut off): fetch it again, or take it out"
        ) from error
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
    """All image files below a folder, sorted; and a line for whatever else should be read and is not.

    Such are images whose names are not those of images, and links to folders.
    """
    there = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    linked = [path for path in there if path.is_symlink() and path.is_dir()]
    files = [path for path in there if path.is_file() or (path.is_symlink() and not path.exists())]
    known = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    disguised = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES and _is_image(path)]
    endings = ", ".join(IMAGE_SUFFIXES)
    passed_over = [f"{path}: an image by its content; save it as one of {endings}" for path in disguised]
    passed_over += [f"{path}: a link to a folder, which is not followed: copy it there" for path in linked]
    return known, passed_over


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except (UnidentifiedImageError, *_UNREADABLE):
        return False


def shape_text(shape: tuple[int, ...]) -> str:
    """`RGB 32x32`, width before height."""
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'RGB'} {width}x{height}"
