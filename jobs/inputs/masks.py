"""Masks of what is known of an image: halves by name, files, and the text in which configurations keep them.

A configuration holds the mask itself, so that no worker needs its file. Knows neither samplers nor models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from jobs.inputs.modelfiles import UnresolvedError, locate
from jobs.problems import suggestion

Shape = tuple[int, int, int]  # (channels, height, width)

HALVES = ("left", "right", "top", "bottom")


def read_mask(known: str, shape: Shape, folder: Path) -> np.ndarray:
    """The mask that a spec names, bool (channels or 1, height, width), True where an image is known.

    known: a half, or the path of an image (white is known, black is not) or of an npy file of 0 and 1, from
        `folder` on.
    shape: of the images.

    Raises UnresolvedError for a name that is neither, a file that is no mask, or one of another shape.
    """
    _, height, width = shape
    if known in HALVES:
        mask = np.zeros((1, height, width), dtype=bool)
        rows = {"top": slice(0, height // 2), "bottom": slice(height // 2, None)}.get(known, slice(None))
        columns = {"left": slice(0, width // 2), "right": slice(width // 2, None)}.get(known, slice(None))
        mask[:, rows, columns] = True
        return mask
    try:
        path = locate(known, folder)
    except UnresolvedError as error:
        halves = f"{', '.join(HALVES)}{suggestion(known, HALVES)}"
        raise UnresolvedError(f"{error}; a mask is a file or one of {halves}") from None
    return _checked(known, _values(known, path), shape)


def mask_text(mask: np.ndarray) -> str:
    """A mask as text: its shape, and its bits in hexadecimal."""
    return f"{'x'.join(map(str, mask.shape))}:{np.packbits(mask).tobytes().hex()}"


def mask_of(text: str) -> np.ndarray:
    """The mask of a text, bool."""
    shape_text, _, digits = text.partition(":")
    shape = tuple(map(int, shape_text.split("x")))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8), count=int(np.prod(shape)))
    return bits.reshape(shape).astype(bool)


def _values(known: str, path: Path) -> np.ndarray:
    """What a file holds, (height, width) or (channels, height, width)."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as image:
            values = np.asarray(image.convert("L") if image.mode in ("1", "P", "LA") else image)
    except (OSError, ValueError) as error:
        raise UnresolvedError(f"{known!r}: {path} is neither an image nor an npy file: {error}") from None
    return values if values.ndim == 2 else values[..., :3].transpose(2, 0, 1)


def _checked(known: str, values: np.ndarray, shape: Shape) -> np.ndarray:
    planes = values[None] if values.ndim == 2 else values
    if planes.shape not in (shape, (1, *shape[1:])):
        raise UnresolvedError(
            f"{known!r}: the mask is {planes.shape}, and the images are {shape}: one plane, or one a channel"
        )
    found = set(np.unique(planes).tolist())
    if not (found <= {0, 1} or found <= {0, 255}):
        others = ", ".join(f"{value:g}" for value in sorted(found - {0, 1, 255})[:3])
        raise UnresolvedError(
            f"{known!r}: a mask holds 0 and 1, or 0 and 255, and this one {others or 'both 1 and 255'} too"
        )
    mask = planes > 0
    if mask.all() or not mask.any():
        raise UnresolvedError(f"{known!r}: the mask says that {'all' if mask.all() else 'nothing'} is known")
    return mask
