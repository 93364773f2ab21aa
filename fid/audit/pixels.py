"""Statistics of single images, without a network: brightness, colour, sharpness, noise, blocks, layout.

A module of its own because they are the cheap look at stored images that comes before any network: a fault of
storage or of preparation moves some of them far, and names itself by which. It must not know any fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Array = NDArray[np.float64]

SPECK = 0.2  # by which a single pixel stands out from its four neighbours
LEAST = 0.5 / 255  # added before logarithms: half a grey level
BLOCK = 8  # of JPEG
AT_ONCE = 2**22  # values of pixels that are looked at together: some 150 MiB
NOISE_STEPS = [1, 2, 4, 8, 16, 32, 64]  # of |a - b - c + d|: pure noise of deviation s has mostly 2 s


def statistics(images: Images) -> dict[str, Array]:
    """Named statistics of images (count, channels, height, width), each (count, width of the statistic).

    All are fractions or natural logarithms, so that a change by 0.1 is visible and by 1 is gross.
    """
    many = max(1, AT_ONCE // images[0].size)
    blocks = [_of_block(images[first : first + many]) for first in range(0, len(images), many)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _of_block(images: Images) -> dict[str, Array]:
    """The statistics of images that are looked at together."""
    x = images.astype(np.float32) / 255
    histogram = _histogram(images, 256)
    shares = histogram / histogram[0].sum()
    found = {
        "channel mean": x.mean(axis=(2, 3)),
        "channel spread": x.std(axis=(2, 3)),
        "share of black": shares[:, :1],
        "share of white": shares[:, -1:],
        "quantiles": _quantiles(histogram, (0.02, 0.25, 0.5, 0.75, 0.98)) / 255,
        "noise": _noise_shares(images),
        "specks": _specks(x),
        "sharpness": np.log(_gradients(x) + LEAST),
        "borders": np.log(_borders(x) + LEAST),
        "layout": _thumbnail(x),
        "levels": np.log((histogram > 0).sum(axis=1, keepdims=True)),
    }
    if images.shape[1] > 1:
        colour = x - x.mean(axis=1, keepdims=True)
        apart = np.abs(colour).mean(axis=(1, 2, 3))
        detail = np.sqrt(np.square(np.diff(colour, axis=3)).mean(axis=(1, 2, 3)))
        found["colour"] = np.log(np.stack([apart, detail], axis=1) + LEAST)
    if min(images.shape[2:]) > BLOCK:
        found["block edges"] = block_edges(images)[:, None]
    return {name: values.astype(np.float64) for name, values in found.items()}


def noise_floor(images: Images) -> Array:
    """(count,) tenth of the |a - b - c + d| / 2 over 2x2 blocks that is smallest, its upper end, in [0, 1].

    It comes from the smoothest parts of an image, where nothing but noise is left.
    """
    return _quantiles(_diagonals(images), (0.1,))[:, 0] / 510


def _noise_shares(images: Images) -> Array:
    """(count, levels) shares of 2x2 blocks whose |a - b - c + d| / 2 is at most 1/2, 1, 2, ... of 255."""
    below = np.cumsum(_diagonals(images), axis=1)
    return below[:, NOISE_STEPS] / below[:, -1:]


def _specks(x: Array) -> Array:
    """(count, 2) square roots of the shares of pixels much brighter, or darker, than all four neighbours."""
    middle = x[..., 1:-1, 1:-1]
    around = np.stack([x[..., :-2, 1:-1], x[..., 2:, 1:-1], x[..., 1:-1, :-2], x[..., 1:-1, 2:]])
    brighter = middle > around.max(axis=0) + SPECK
    darker = middle < around.min(axis=0) - SPECK
    found: Array = np.sqrt(np.stack([brighter.mean(axis=(1, 2, 3)), darker.mean(axis=(1, 2, 3))], axis=1))
    return found


def _diagonals(images: Images) -> NDArray[np.int64]:
    """(count, 511) histogram of |a - b - c + d| over 2x2 blocks, in grey levels."""
    x = images.astype(np.int16)
    height, width = (side - side % 2 for side in x.shape[2:])
    a, b = x[..., 0:height:2, 0:width:2], x[..., 0:height:2, 1:width:2]
    c, d = x[..., 1:height:2, 0:width:2], x[..., 1:height:2, 1:width:2]
    return _histogram(np.abs(a - b - c + d), 511)


def _histogram(values: NDArray[np.integer], bins: int) -> NDArray[np.int64]:
    """(count, bins): how often each of the numbers 0 to bins - 1 occurs in each image."""
    rows = values.reshape(len(values), -1).astype(np.int64) + bins * np.arange(len(values))[:, None]
    counts: NDArray[np.int64] = np.bincount(rows.ravel(), minlength=bins * len(values))
    return counts.reshape(len(values), bins)


def _quantiles(histogram: NDArray[np.int64], shares: tuple[float, ...]) -> Array:
    """(count, shares): the smallest number that at least a share of each image's values does not exceed."""
    below = np.cumsum(histogram, axis=1)
    found = [(below >= share * below[:, -1:]).argmax(axis=1) for share in shares]
    return np.stack(found, axis=1).astype(np.float64)


def block_edges(images: Images) -> Array:
    """(count,) log of the mean step across edges of 8x8 blocks over that beside them: 0 without blocks."""
    x = images.astype(np.float32) / 255
    steps = []
    for axis in (2, 3):
        size = np.abs(np.diff(x, axis=axis)).mean(axis=tuple({1, 2, 3} - {axis}))  # (count, side - 1)
        edges = np.arange(BLOCK - 1, size.shape[1], BLOCK)
        beside = np.concatenate([edges - 2, edges - 1, edges + 1, edges + 2])
        beside = beside[beside < size.shape[1]]
        steps.append((size[:, edges].mean(axis=1), size[:, beside].mean(axis=1)))
    (across_rows, beside_rows), (across_columns, beside_columns) = steps
    ratio: Array = np.log((across_rows + across_columns + LEAST) / (beside_rows + beside_columns + LEAST))
    return ratio


def _gradients(x: Array) -> Array:
    """(count, 4) root mean square difference to the next pixel and the next but one, down and across."""
    return np.stack(
        [
            np.sqrt(np.square(x[..., step:, :] - x[..., :-step, :]).mean(axis=(1, 2, 3)))
            if axis == 2
            else np.sqrt(np.square(x[..., step:] - x[..., :-step]).mean(axis=(1, 2, 3)))
            for axis in (2, 3)
            for step in (1, 2)
        ],
        axis=1,
    )


def _borders(x: Array) -> Array:
    """(count, 6) steps at the four borders, and from the last row and column to the first."""
    pairs = [
        (x[..., 0, :], x[..., 1, :]),
        (x[..., -1, :], x[..., -2, :]),
        (x[..., 0], x[..., 1]),
        (x[..., -1], x[..., -2]),
        (x[..., 0, :], x[..., -1, :]),
        (x[..., 0], x[..., -1]),
    ]
    return np.stack([np.abs(one - other).mean(axis=(1, 2)) for one, other in pairs], axis=1)


def _thumbnail(x: Array) -> Array:
    """(count, at most 16) brightness in a grid of 4x4."""
    brightness = x.mean(axis=1)
    for axis in (1, 2):
        side = brightness.shape[axis]
        starts = np.arange(min(4, side)) * side // min(4, side)
        sizes = np.diff([*starts, side]).reshape((-1, 1) if axis == 1 else (1, -1))
        brightness = np.add.reduceat(brightness, starts, axis=axis) / sizes
    return brightness.reshape(len(x), -1)


def colours_used(images: Images) -> float:
    """How many different colours an image has: the median of at most 64 images."""
    some = images[:64].astype(np.int64)
    codes = sum(channel << (8 * place) for place, channel in enumerate(np.moveaxis(some, 1, 0)))
    return float(np.median([len(np.unique(image)) for image in np.asarray(codes)]))
