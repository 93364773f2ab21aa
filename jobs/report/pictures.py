"""Pictures of the report: grids of samples as PNG, curves over steps as SVG, both as text to embed.

Apart from the page so that what is drawn is separate from how it is laid out. It must not know HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from PIL import Image

from jobs.paths import SweepPaths
from jobs.scores.results import MetricSummary, Result
from jobs.storage.commit import reading
from jobs.storage.images import read_images
from jobs.storage.ledger import scan
from jobs.store import Store

#: Stands for the page's text colour, so that curves fit light and dark pages.
_INK = "#010203"
_STYLE: dict[Any, Any] = {  # matplotlib types the keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "sdesweep",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_COLOURS = ("#3b6fb6", "#c0622f", "#4a8a57", "#8a5aa3", "#a8862c", "#5a8f9c")


@dataclass(frozen=True)
class Grid:
    """A picture of sample images side by side."""

    data: str  # data URI of a PNG at one pixel a pixel
    width: int
    height: int
    count: int
    step: int


def sample_grid(
    store: Store, sweep: str, result: Result, step: int, rows: int = 4, columns: int = 8
) -> Grid | None:
    """The first images of a configuration at one step; None when there are none in the store any more."""
    images = first_images(store, sweep, result, step, rows * columns)
    if images is None:
        return None
    return tiled(images, columns, step)


def tiled(images: np.ndarray, columns: int, step: int) -> Grid:
    """Images (count, channels, height, width) uint8 of one step side by side, row by row."""
    tiles = _tiles(images, columns)
    return Grid(_png(tiles), tiles.shape[1], tiles.shape[0], len(images), step)


def first_images(store: Store, sweep: str, result: Result, step: int, count: int) -> np.ndarray | None:
    """(at most count, channels, height, width) uint8 in index order; None where there are none.

    Raises DamageError where a file cannot be read.
    """
    paths = SweepPaths(sweep).configuration(result.fingerprint)
    found: list[np.ndarray] = []
    have = 0
    for marker in scan(store, paths, []).images:
        with reading(store, paths.images, marker) as file:
            for block in read_images(file, step):
                found.append(block.images)
                have += len(block.images)
                if have >= count:
                    return np.concatenate(found)[:count]
    return np.concatenate(found) if found else None


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """One image (height, width, 3 or 4) uint8 of all, with a transparent line between them."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    gap = 1 if height < 64 else 2
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        canvas[top : top + height, left : left + width, :3] = image.transpose(1, 2, 0)  # grey: to all three
        canvas[top : top + height, left : left + width, 3] = 255
    return canvas


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of one cell's sampler."""

    name: str
    summary: MetricSummary


def curves_svg(curves: Sequence[Curve], label: str) -> str:
    """SVG of curves over steps, error bars where they are known; text in the page's colour and font."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        for curve, colour in zip(curves, cycle(_COLOURS)):
            _draw(axes, curve, colour)
        means = [stage.mean for curve in curves for stage in curve.summary.stages]
        if min(means) > 0 and max(means) > 20 * min(means):
            axes.set_yscale("log")
        axes.set_xlabel("steps of the sampler")
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


def _draw(axes: Any, curve: Curve, colour: str) -> None:
    stages = curve.summary.stages
    errors = [stage.std if stage.std is not None else stage.standard_error or 0.0 for stage in stages]
    axes.errorbar(
        [stage.step for stage in stages],
        [stage.mean for stage in stages],
        yerr=errors,
        label=curve.name,
        color=colour,
        marker="o",
        markersize=3.5,
        linewidth=1.4,
        capsize=2,
    )
