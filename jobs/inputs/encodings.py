"""Which file formats the images of a set are encoded in, such as `JPEG RGB`.

Apart from reading them because pixels do not tell how they were stored, and an audit wants to know. It must
not decode any.
"""

from __future__ import annotations

import io
from collections import Counter
from itertools import islice
from pathlib import Path

from PIL import Image

from jobs.inputs.census import EncodedImages
from jobs.inputs.encoded import FolderImages, ParquetImages
from jobs.inputs.imagefiles import IMAGE_SUFFIXES

LOOKED_AT = 1000  # images of a set


def encodings_of(path: Path | None) -> dict[str, int]:
    """File format and pixel mode -> number, of the first 1,000 images of a folder or of Parquet files."""
    if path is None or not (path.is_dir() or path.suffix == ".parquet"):
        return {}
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if shards:
        images: EncodedImages = ParquetImages(path.name, shards)
    else:
        files = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        images = FolderImages(sorted(files))
    return dict(Counter(_encoding(payload) for _, payload in islice(images.begin(0), LOOKED_AT)))


def _encoding(payload: bytes | None) -> str:
    try:
        with Image.open(io.BytesIO(payload or b"")) as image:
            return f"{image.format} {image.mode}"
    except OSError:  # of images that were left out on purpose: reading the others has succeeded
        return "unreadable"
