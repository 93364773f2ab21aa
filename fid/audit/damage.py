"""Damage to images: functions from uint8 images (count, channels, height, width) to damaged ones.

Apart from the faults so that what may happen to pixels is separate from what it is called and whose case it
is. It must not know any hypothesis.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample, interpolate

from fid.audit.pixels import Array, Images

_BLOCK = 16  # pixels of a side of JPEG's unit in colour
_SHEET = 4096  # pixels of a side of many images that are coded as one


def as_uint8(values: NDArray[np.floating]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def change_values(images: Images, function: Callable[[Array], Array]) -> Images:
    """Images whose values, on a scale of [0, 1], a function has changed."""
    return as_uint8(255 * function(np.arange(256) / 255))[images]


def grey(images: Images, weights: tuple[float, float, float] = (0.299, 0.587, 0.114)) -> Images:
    """A mixture of the channels in all three of them; by default brightness (ITU-R 601)."""
    brightness = np.einsum("nchw,c->nhw", images.astype(np.float64), np.array(weights))
    return np.repeat(as_uint8(brightness)[:, None], 3, axis=1)


def add_noise(images: Images, level: float) -> Images:
    """Gaussian noise of a standard deviation in grey levels, the same for the same number of images."""
    noise = np.random.default_rng(len(images)).normal(0, level, images.shape)
    return as_uint8(images + noise)


def jpeg(images: Images, quality: float) -> Images:
    """Images as JPEG (4:2:0 where they have colour) and back.

    Many small images are coded as tiles of one, which is quicker by far and gives nearly what each alone
    would: the coder works in blocks of 16 pixels, so tiles begin and end with such blocks, and the decoder
    smooths colours, which are stored for 2x2 pixels, across blocks, so tiles in colour have a block around
    them that repeats their outermost two rows and columns.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        return images
    around = _BLOCK if channels == 3 else 0
    rows = _continued(height, around, fill=2 if height % 8 == 0 else 1)  # as libjpeg fills its units
    columns = _continued(width, around, fill=1)
    in_a_row = min(count, max(1, _SHEET // len(columns)))
    at_once = in_a_row * max(1, _SHEET // len(rows))
    changed = []
    for first in range(0, count, at_once):
        part = images[first : first + at_once]
        filled = np.pad(part, ((0, -len(part) % in_a_row), (0, 0), (0, 0), (0, 0)), "edge")
        tiles = filled[:, :, rows[:, None], columns].reshape(-1, in_a_row, channels, len(rows), len(columns))
        sheet = tiles.transpose(0, 3, 1, 4, 2).reshape(-1, in_a_row * len(columns), channels)
        coded = _coded(sheet, quality).reshape(-1, len(rows), in_a_row, len(columns), channels)
        back = coded.transpose(0, 2, 4, 1, 3).reshape(-1, channels, len(rows), len(columns))[: len(part)]
        changed.append(back[..., around : around + height, around : around + width])
    return np.concatenate(changed)


def _continued(side: int, around: int, fill: int) -> NDArray[np.int64]:
    """Which rows of an image make its tile: all, to the end of a block the last `fill`, pairs around."""
    fill, pair = min(fill, side), min(2, side)
    inner = np.arange(side + (-side) % _BLOCK)
    inner[side:] = side - fill + (inner[side:] - side) % fill
    before = np.arange(-around, 0) % pair
    after = side - pair + np.arange(around) % pair
    return np.concatenate([before, inner, after])


def _coded(sheet: Images, quality: float) -> Images:
    """(height, width, channels) as JPEG and back."""
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(2) if sheet.shape[2] == 1 else sheet).save(
        buffer, "JPEG", quality=round(quality)
    )
    return np.asarray(Image.open(buffer, formats=["JPEG"]))


def webp(images: Images, quality: float) -> Images:
    """Images as lossy WEBP and back, one by one: its blocks are predicted from their neighbours."""
    if images.shape[1] not in (1, 3):
        return images
    changed = []
    for pixels in np.repeat(images, 3 // images.shape[1], axis=1).transpose(0, 2, 3, 1):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "WEBP", quality=round(quality))
        back = Image.open(buffer, formats=["WEBP"]).convert("RGB" if images.shape[1] == 3 else "L")
        changed.append(np.atleast_3d(np.asarray(back)).transpose(2, 0, 1))
    return np.stack(changed)


def impulses(images: Images, share: float, values: tuple[int, ...]) -> Images:
    """A share of the pixels, at random places, have one of the values in all channels."""
    generator = np.random.default_rng(len(images))
    place = (len(images), 1, *images.shape[2:])
    hit = generator.random(place) < share
    return np.where(hit, generator.choice(np.array(values, np.uint8), place), images)


def blurred(images: Images, deviation: float) -> Images:
    """Images smoothed by a Gaussian of a standard deviation in pixels; borders are continued."""
    reach = max(1, round(4 * deviation))
    weights = torch.exp(-torch.arange(-reach, reach + 1).double().square() / (2 * deviation**2))
    weights /= weights.sum()
    x = torch.from_numpy(np.ascontiguousarray(images)).double()
    for axis in (2, 3):
        side = images.shape[axis]
        padded = x.index_select(axis, torch.arange(-reach, side + reach).clamp(0, side - 1))
        parts = (weight * padded.narrow(axis, at, side) for at, weight in enumerate(weights))
        x = torch.stack(list(parts)).sum(dim=0)
    return as_uint8(x.numpy())


def palette(images: Images, colours: float) -> Images:
    """Images with an adaptive palette each (octree, no dithering), and back."""
    if images.shape[1] not in (1, 3):
        return images
    single = images.shape[1] == 1
    changed = []
    for pixels in images:
        image = Image.fromarray(pixels[0] if single else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        few = image.quantize(
            round(colours), method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        ).convert(image.mode)
        back = np.asarray(few)
        changed.append(back[None] if single else back.transpose(2, 0, 1))
    return np.stack(changed)


def zoomed(images: Images, factor: float) -> Images:
    """Images enlarged about their middle and cut to their size, or shrunk and filled up with black."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    height, width = images.shape[2:]
    scale = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).expand(len(x), 2, 3)
    grid = affine_grid(scale, [len(x), 1, height, width], align_corners=False)
    source = x
    if factor < 1:  # as many pixels of the source as one of the result takes up are averaged first
        smaller = [max(1, round(side * factor)) for side in (height, width)]
        source = interpolate(x, smaller, mode="bilinear", antialias=True)
    fill = "border" if factor > 1 else "zeros"
    found = grid_sample(source, grid, mode="bilinear", padding_mode=fill, align_corners=False)
    return as_uint8(found.numpy())


def shifted(images: Images, by: int, axis: int, wrap: bool) -> Images:
    """Images moved by whole pixels along an axis; what comes in is black, or what went out."""
    moved = np.roll(images, by, axis)
    if not wrap:
        edge = [slice(None)] * 4
        edge[axis] = slice(0, by) if by > 0 else slice(by, None)
        moved[tuple(edge)] = 0
    return moved


def resized(images: Images, factor: float, mode: str) -> Images:
    """Images reduced by a factor and brought back to their size."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    smaller = [max(1, round(side / factor)) for side in images.shape[2:]]
    if mode == "nearest":
        small = interpolate(x, smaller, mode="nearest-exact")
        back = interpolate(small, images.shape[2:], mode="nearest-exact")
    else:
        small = interpolate(x, smaller, mode="bilinear", antialias=True)
        back = interpolate(small, images.shape[2:], mode="bilinear")
    return as_uint8(back.numpy())
