"""A configuration's images for other tools: PNG files, an npz archive, a Hugging Face data set.

Apart from the store's own files because those carry stages, groups and more samples than were asked for. A
target appears whole or not at all, and the same export again does what is left. It must not know scores.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.inputs.datasets import DatasetError, open_dataset
from jobs.paths import SweepPaths
from jobs.planning.plan import groups
from jobs.references.imagesets import refuse_missing
from jobs.specs.configuration import Configuration
from jobs.storage.images import ImageRows, committed_images, encode_png
from jobs.storage.ledger import scan
from jobs.store import Store

Format = Literal["png", "npz", "huggingface"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILE_ROWS = 20_000  # images of one Parquet file
ROW_GROUP = 1000  # images; what readers of the hub take at a time
SPLIT = "train"  # what `datasets` calls a set without splits


class TargetError(ValueError):
    """The target is something else, or another export is writing it; the message names it and the remedy."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    configuration: str  # <sweep>/<fingerprint>
    name: str
    step: int
    images: int
    shape: tuple[int, ...]  # (channels, height, width)
    format: Format
    path: str
    found: bool  # it was there, and held these images already


def export_images(
    store: Store,
    configuration: Configuration,
    target: Path,
    format: Format,
    step: int | None = None,
    advance: Callable[[int], None] = lambda more: None,
) -> Exported:
    """Write the samples of a configuration, in the order of their indices, unless the target holds them.

    What a killed export left half-written is done again, to the same bytes.

    Args:
        target: a folder (png, huggingface) or an npz file; nothing else may be there.
        step: a kept stage; None: the last.
        advance: told how many more images are written.

    Raises:
        TargetError: the target is something else, or another export is writing it.
        NotFoundError: images are missing, or the stage was not kept.
        DamageError: a file does not hold what its marker says.
    """
    chosen = configuration.stages[-1] if step is None else step
    blocks = _blocks(store, configuration, chosen, advance)
    first = next(blocks)
    shape = first.images.shape[1:]

    images = chain([first], blocks)
    with _whole(target) as partial:
        found = target.exists()
        if found:
            _compare(target, format, images, configuration.samples)
        elif format == "png":
            _write_png(partial, images)
        elif format == "npz":
            _write_npz(partial, images, (configuration.samples, *shape[1:], shape[0]))
        else:
            _write_huggingface(partial, images, configuration, chosen)
    place = f"{configuration.sweep}/{configuration.fingerprint}"
    path = str(target.resolve())
    return Exported(place, configuration.name, chosen, configuration.samples, shape, format, path, found)


def _blocks(
    store: Store, configuration: Configuration, step: int, advance: Callable[[int], None]
) -> Iterator[ImageRows]:
    """Rows of one stage, a committed file at a time, cut to the samples that are asked for."""
    if step not in configuration.stages:
        kept = ", ".join(map(str, configuration.stages))
        raise TargetError(f"{configuration.name} has no images after {step} steps; kept are {kept}")
    paths = SweepPaths(configuration.sweep).configuration(configuration.fingerprint)
    ledger = scan(store, paths, [])
    refuse_missing(configuration, ledger.done)
    for marker in ledger.images.before(configuration.samples):
        rows = next(block for block in committed_images(store, paths.images, marker) if block.step == step)
        keep = rows.index < configuration.samples
        label = None if rows.label is None else rows.label[keep]
        yield ImageRows(step, rows.index[keep], rows.group[keep], rows.images[keep], label=label)
        advance(int(keep.sum()))


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A path that becomes the target at the end, in a folder beside it that nobody else has.

    The folder is locked while the process lives, so what a killed one left in it is known to be left.
    """
    folder = target.with_name(f"{target.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetError(f"{folder}: another export is writing it: let it end") from None
        partial = folder / "images"
        try:
            _remove(partial)
            yield partial
            if partial.exists():
                partial.rename(target)
        finally:
            _remove(folder)
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _compare(target: Path, format: Format, blocks: Iterator[ImageRows], count: int) -> None:
    """Raise TargetError unless the target is what this export would write: its format and its pixels."""
    other = TargetError(f"{target} is there already and is something else: remove it, or choose another --to")
    form = "npz" if target.is_file() else "huggingface" if (target / "data").is_dir() else "png"
    if form != format:
        raise other
    try:
        there = open_dataset(str(target), target / "data" if form == "huggingface" else target)
        if len(there) != count:
            raise other
        read = (image for block in there.blocks(range(count), ROW_GROUP) for image in block)
        for block in blocks:
            for image in block.images:
                if not np.array_equal(next(read), image):
                    raise other
    except DatasetError as error:
        raise other from error


def _write_png(folder: Path, blocks: Iterator[ImageRows]) -> None:
    folder.mkdir()
    for block in blocks:
        for index, image in zip(block.index.tolist(), block.images, strict=True):
            (folder / f"{index:06d}.png").write_bytes(encode_png(image))


def _write_npz(path: Path, blocks: Iterator[ImageRows], shape: tuple[int, ...]) -> None:
    """`arr_0`, uint8 (count, height, width, channels), and classes as `arr_1`: guided-diffusion's layout.

    Written block by block, in memory independent of the number of images.
    """
    labels = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            head = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            for block in blocks:
                file.write(np.ascontiguousarray(block.images.transpose(0, 2, 3, 1)).tobytes())
                if block.label is not None:
                    labels.append(block.label)
        if labels:
            with archive.open("arr_1.npy", "w") as file:
                np.lib.format.write_array(file, np.concatenate(labels))


def _write_huggingface(
    folder: Path, blocks: Iterator[ImageRows], configuration: Configuration, step: int
) -> None:
    """Parquet files with an image column and a card, as `datasets.load_dataset(FOLDER)` reads them."""
    (folder / "data").mkdir(parents=True)
    parts = list(groups(range(configuration.samples), FILE_ROWS))
    first = next(blocks)
    schema = _schema(first.label is not None)
    rows = _rows(chain([first], blocks))
    size = 0
    for number, part in enumerate(parts):
        path = folder / "data" / f"{SPLIT}-{number:05d}-of-{len(parts):05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            for group in groups(range(len(part)), ROW_GROUP):
                table = pa.Table.from_pylist([next(rows) for _ in group], schema=schema)
                size += table.nbytes
                writer.write_table(table)
    (folder / "README.md").write_text(_card(configuration, schema, step, size), encoding="utf-8")


def _rows(blocks: Iterator[ImageRows]) -> Iterator[dict[str, Any]]:
    """Image by image, as rows of the data set."""
    for block in blocks:
        labels = [None] * len(block.index) if block.label is None else block.label.tolist()
        for index, image, label in zip(block.index.tolist(), block.images, labels, strict=True):
            encoded = {"bytes": encode_png(image), "path": f"{index:06d}.png"}
            yield {"image": encoded, "index": index, "label": label}


def _schema(labelled: bool) -> pa.Schema:
    """Column types in the words of Arrow, and of `datasets`, by which it shows the images as images."""
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    numbers = ["index", "label"] if labelled else ["index"]
    features = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": "int64", "_type": "Value"} for name in numbers}
    return pa.schema(
        {"image": image, **dict.fromkeys(numbers, pa.int64())},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _card(configuration: Configuration, schema: pa.Schema, step: int, size: int) -> str:
    """The card that opens a data set of the hub: what is in it, then what made it."""
    numbers = "".join(f"  - name: {name}\n    dtype: int64\n" for name in schema.names if name != "image")
    return f"""---
dataset_info:
  features:
  - name: image
    dtype: image
{numbers}  splits:
  - name: {SPLIT}
    num_bytes: {size}
    num_examples: {configuration.samples}
configs:
- config_name: default
  data_files:
  - split: {SPLIT}
    path: data/{SPLIT}-*
---

{configuration.samples:,} samples of {configuration.model.name}, made by sdesweep.

    configuration: {configuration.sweep}/{configuration.fingerprint}
    cell: {configuration.name}
    sampler: {configuration.sampler.model_dump_json()}
    step: {step}
    seed: {configuration.seed}, replicate {configuration.replicate}
"""
