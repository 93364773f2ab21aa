"""Images of a shard: from floats to uint8, to rows of a Parquet file, and back.

The file has the columns index int64, step int32, image struct<bytes, path> (PNG, as Hugging Face `datasets`
reads it), group int32, chain int32 where several images come from one Markov chain, and label int64 where the
model is class-conditional; its rows are ordered by step, then by index. This module knows no sampler.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from jobs.bounds import check_pixels
from jobs.digests import rows_digest
from jobs.paths import RangeFolder
from jobs.specs.sections import Quantisation
from jobs.storage.commit import Marker
from jobs.storage.tables import committed_blocks, read_tables, write_tables
from jobs.store import Store

LIMIT = 10.0  # images are nominally in [0, 1]; beyond this a sampler has diverged

_MODES = {1: "L", 3: "RGB"}


class BadImagesError(ValueError):
    """A sampler gave images that must not enter a score; the message names configuration, group and step."""


@dataclass(frozen=True)
class ImageRows:
    """Images of one step, in ascending order of their indices."""

    step: int
    index: np.ndarray  # (rows,) int64
    group: np.ndarray  # (rows,) int32: index // group_size; exact boundaries are in the marker
    images: np.ndarray  # (rows, channels, height, width) uint8
    chain: np.ndarray | None = None  # (rows,) int32: number of the chain within the group
    label: np.ndarray | None = None  # (rows,) int64: class of a class-conditional model

    @property
    def digest(self) -> str:
        """Of the pixels, whatever the encoding."""
        return rows_digest("pixels", self.step, self.index, self.images)


def quantise(images: Tensor, rule: Quantisation, where: str, *, final: bool) -> tuple[Tensor, float]:
    """Turn images (batch, channels, height, width), nominally in [0, 1], into uint8.

    `floor` clips and floors 255 x, as score_sde does; `round` floors 255 x + 1/2, as EDM does.
    final: these are the sampler's last images, so they must lie within LIMIT and must not all be constant.
    Images of earlier steps may still be mostly noise.

    Returns the uint8 images and the fraction of values that clipping changed.
    Raises BadImagesError, which names `where`, for values that are not finite or that fail these checks.
    """
    if not bool(torch.isfinite(images).all()):
        count = int((~torch.isfinite(images)).sum())
        raise BadImagesError(f"{where}: {count} of {images.numel()} values are not finite")
    largest = float(images.abs().max())
    if final and largest > LIMIT:
        raise BadImagesError(
            f"{where}: values reach {largest:.4g} where [0, 1] is meant and {LIMIT:g} is the limit: "
            "the sampler has diverged; take a smaller step size or signal-to-noise ratio, or more steps"
        )
    levels = (images * 255 if rule == "floor" else images * 255 + 0.5).floor()
    pixels = levels.clamp(0, 255).to(torch.uint8)
    flat = pixels.flatten(1)
    if final and bool((flat == flat[:, :1]).all()):
        raise BadImagesError(f"{where}: every image of the group is constant")
    return pixels, float(((levels < 0) | (levels > 255)).double().mean())


def write_images(path: Path, blocks: Iterable[ImageRows]) -> None:
    """Write blocks, ordered by step and index, as one Parquet file. Raises ValueError when there are none."""
    write_tables(path, map(_table, blocks))


def read_images(file: BinaryIO, step: int | None = None) -> Iterator[ImageRows]:
    """Read blocks, one a row group, in the order of the file; only those of one step if given.

    Raises pyarrow.ArrowInvalid or OSError for a damaged file, ValueError for images that cannot be stacked.
    """
    for found, table in read_tables(file, step):
        payloads = table["image"].combine_chunks().field("bytes").to_pylist()
        yield ImageRows(
            step=found,
            index=table["index"].to_numpy(),
            group=table["group"].to_numpy(),
            images=np.stack([decode_png(payload) for payload in payloads]),
            chain=table["chain"].to_numpy() if "chain" in table.column_names else None,
            label=table["label"].to_numpy() if "label" in table.column_names else None,
        )


def committed_images(store: Store, folder: RangeFolder, marker: Marker) -> list[ImageRows]:
    """All images of a committed range, one block a step. Raises DamageError."""
    return committed_blocks(store, folder, marker, read_images, _join)


def _join(parts: Sequence[ImageRows]) -> ImageRows:
    """Blocks of one step as one. Raises ValueError when there is none."""
    if not parts:
        raise ValueError("there are no rows of a step")
    chains = [part.chain for part in parts if part.chain is not None]
    labels = [part.label for part in parts if part.label is not None]
    return ImageRows(
        parts[0].step,
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.images for part in parts]),
        np.concatenate(chains) if chains else None,
        np.concatenate(labels) if labels else None,
    )


def encode_png(image: np.ndarray) -> bytes:
    """PNG of an image (1 or 3 channels, height, width) uint8."""
    channels = image.shape[0]
    if channels not in _MODES:
        raise ValueError(f"images of {channels} channels cannot be stored; 1 and 3 can")
    pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Pixels (channels, height, width) uint8 of a PNG that `encode_png` wrote."""
    with Image.open(io.BytesIO(data)) as image:
        check_pixels(*image.size)
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _table(block: ImageRows) -> pa.Table:
    names = [f"{index:012d}-{block.step:06d}.png" for index in block.index.tolist()]
    image = pa.StructArray.from_arrays(
        [pa.array([encode_png(image) for image in block.images], pa.binary()), pa.array(names, pa.string())],
        names=["bytes", "path"],
    )
    columns = {
        "index": pa.array(block.index, pa.int64()),
        "step": pa.array(np.full(len(block.index), block.step), pa.int32()),
        "image": image,
        "group": pa.array(block.group, pa.int32()),
    }
    if block.chain is not None:
        columns["chain"] = pa.array(block.chain, pa.int32())
    if block.label is not None:
        columns["label"] = pa.array(block.label, pa.int64())
    table = pa.table(columns)
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": _features(table)}})}
    )


def _features(table: pa.Table) -> dict[str, dict[str, str]]:
    """Column types in the words of `datasets`, by which it shows the images as images."""
    return {
        field.name: {"_type": "Image"}
        if field.name == "image"
        else {"dtype": str(field.type), "_type": "Value"}
        for field in table.schema
    }
