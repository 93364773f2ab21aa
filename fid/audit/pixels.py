"""Statistics of single images, without a network: brightness, colour, sharpness, noise, blocks, layout.

A module of its own because they are the cheap look at stored images that comes before any network: a fault of
storage or of preparation moves some of them far, and names itself by which. It must not know any fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Array = NDArray[np.float64]

LEAST = 0.25 / 255  # added before logarithms: a quarter of a grey level
BLOCK = 8  # of JPEG
NOISE_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.95)


def statistics(images: Images) -> dict[str, Array]:
    """Named statistics of images (count, channels, height, width), each (count, width of the statistic).

    All are fractions or natural logarithms, so that a change by 0.1 is visible and by 1 is gross.
    """
    x = images.astype(np.float32) / 255
    found = {
        "channel mean": x.mean(axis=(2, 3)),
        "channel spread": x.std(axis=(2, 3)),
        "share of black": (images == 0).mean(axis=(1, 2, 3))[:, None],
        "share of white": (images == 255).mean(axis=(1, 2, 3))[:, None],
        "quantiles": np.quantile(x.reshape(len(x), -1), (0.02, 0.25, 0.5, 0.75, 0.98), axis=1).T,
        "noise": np.log(noise_quantiles(images) + LEAST),
        "sharpness": np.log(_gradients(x) + LEAST),
        "borders": np.log(_borders(x) + LEAST),
        "layout": _thumbnail(x),
        "levels": np.log(_levels(images))[:, None],
        "even values": ((images & 1) == 0).mean(axis=(1, 2, 3))[:, None],
    }
    if images.shape[1] > 1:
        apart = np.abs(x - x.mean(axis=1, keepdims=True)).mean(axis=(1, 2, 3))
        detail = np.sqrt(np.square(np.diff(x - x.mean(axis=1, keepdims=True), axis=3)).mean(axis=(1, 2, 3)))
        found["colour"] = np.log(np.stack([apart, detail], axis=1) + LEAST)
    if min(images.shape[2:]) > BLOCK:
        found["block edges"] = block_edges(images)[:, None]
    return {name: values.astype(np.float64) for name, values in found.items()}


def noise_quantiles(images: Images) -> Array:
    """(count, quantiles) of |a - b - c + d| / 2 over 2x2 blocks, in [0, 1]: pure noise gives its deviation.

    The low quantiles come from the smoothest parts of an image, where nothing but noise is left.
    """
    x = images.astype(np.float32) / 255
    height, width = (side - side % 2 for side in x.shape[2:])
    a, b = x[..., 0:height:2, 0:width:2], x[..., 0:height:2, 1:width:2]
    c, d = x[..., 1:height:2, 0:width:2], x[..., 1:height:2, 1:width:2]
    diagonal = np.abs(a - b - c + d).reshape(len(x), -1) / 2
    quantiles: Array = np.quantile(diagonal, NOISE_QUANTILES, axis=1).T
    return quantiles


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
    rows = np.array_split(x.mean(axis=1), min(4, x.shape[2]), axis=1)
    cells = [cell for row in rows for cell in np.array_split(row, min(4, x.shape[3]), axis=2)]
    return np.stack([cell.mean(axis=(1, 2)) for cell in cells], axis=1)


def _levels(images: Images) -> Array:
    """(count,) number of different values in each image, over all channels."""
    ordered = np.sort(images.reshape(len(images), -1), axis=1)
    return 1.0 + (np.diff(ordered, axis=1) > 0).sum(axis=1)
