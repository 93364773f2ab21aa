"""Random images, encoded and in Parquet files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def images(count: int, channels: int, seed: int = 0, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """An encoded image of pixels (channels, height, width)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, pixels: np.ndarray, labels: list[int] | None, column: str = "image") -> None:
    cells = [{"bytes": png(image), "path": None} for image in pixels]
    columns: dict[str, list[object]] = {column: list(cells)}
    if labels is not None:
        columns["label"] = list(labels)
    pq.write_table(pa.table(columns), path)
