"""Reading data sets: the digits that scikit-learn carries, image folders, npz archives, Hugging Face Parquet.

Whatever the source, a data set is uint8 images (count, channels, height, width) with or without labels, and a
content hash that names it in references and training records. Knows nothing of models, features or the store.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
BUILT_IN = ("digits", "digits-train", "digits-heldout")


class DatasetError(ValueError):
    """A data set cannot be read; the message names the file, what was found and what would be right."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels in a fixed order."""

    name: str
    images: np.ndarray  # (count, channels, height, width) uint8
    labels: np.ndarray | None = None  # (count,) int64

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DatasetError(
                f"{self.name}: images must be uint8 (count, channels, height, width), "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if len(self.images) == 0:
            raise DatasetError(f"{self.name}: holds no images")
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise DatasetError(
                f"{self.name}: {len(self.images)} images need as many labels, got shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def content_hash(self) -> str:
        """sha256 of the images' shape and bytes; labels are no part of it: features do not see them."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()


def read_dataset(name: str, path: Path | None = None) -> Dataset:
    """Read a built-in data set by its name, or any other from a path.

    Args:
        name: `digits`, `digits-train` or `digits-heldout` when there is no path; otherwise a name to go by.
        path: a Parquet file or folder of them, with a column `image` or `img` (struct<bytes, path> or bytes)
            and perhaps `label` or `labels`; an npz archive with `images` (or `arr_0`) and perhaps `labels`;
            or a folder of image files, where sorted subfolders are the labels.

    Raises:
        DatasetError: unknown name, missing path, no images, or images of different shapes.
    """
    if path is None:
        if name not in BUILT_IN:
            raise DatasetError(
                f"unknown data set {name!r}: built in are {', '.join(BUILT_IN)}; for any other give a path"
            )
        return read_digits(None if name == "digits" else name.removeprefix("digits-"))
    if path.is_dir():
        shards = sorted(path.glob("*.parquet"))
        return _read_parquet(name, shards) if shards else _read_folder(name, path)
    if not path.exists():
        raise DatasetError(f"{name}: no such file or folder: {path}")
    if path.suffix == ".parquet":
        return _read_parquet(name, [path])
    if path.suffix == ".npz":
        return _read_npz(name, path)
    raise DatasetError(f"{name}: {path} is neither a folder nor a .parquet or .npz file")


def read_digits(split: str | None = None) -> Dataset:
    """The UCI optical digits of scikit-learn: 1,797 grey images of 8x8.

    Their values 0 to 16 become round(value * 255 / 16). Of every ten consecutive images of a class the first
    three are held out, so both splits have the same mixture of classes: `heldout` has 549 images, `train`
    1,248, None all of them in order.
    """
    from sklearn.datasets import load_digits  # imported here: it takes a second, and workers do not need it

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rank = np.zeros(len(labels), dtype=np.int64)  # of an image among those of its class
    for label in range(10):
        rank[labels == label] = np.arange((labels == label).sum())
    held_out = rank % 10 < 3
    chosen = {None: np.ones_like(held_out), "train": ~held_out, "heldout": held_out}
    if split not in chosen:
        raise DatasetError(f"digits: unknown split {split!r}, expected 'train', 'heldout' or none")
    name = "digits" if split is None else f"digits-{split}"
    return Dataset(name, images[chosen[split]], labels[chosen[split]])


def _read_folder(name: str, folder: Path) -> Dataset:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(f"{name}: no image files ({', '.join(IMAGE_SUFFIXES)}) under {folder}")
    images = _stack(name, ((str(path), _decode(str(path), path.read_bytes())) for path in files))
    parents = [path.parent.relative_to(folder).as_posix() for path in files]
    if "." in parents:
        return Dataset(name, images)
    classes = {parent: number for number, parent in enumerate(sorted(set(parents)))}
    return Dataset(name, images, np.array([classes[parent] for parent in parents], dtype=np.int64))


def _read_npz(name: str, path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as archive:
        key = next((key for key in ("images", "arr_0") if key in archive), None)
        if key is None:
            raise DatasetError(f"{name}: {path} has no array 'images' or 'arr_0', only {sorted(archive)}")
        images = archive[key]
        labels = archive["labels"].astype(np.int64) if "labels" in archive else None
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return Dataset(name, images, labels)


def _read_parquet(name: str, paths: list[Path]) -> Dataset:
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for path in paths:
        columns = pyarrow.parquet.read_schema(path).names
        image_column = next((key for key in ("image", "img") if key in columns), None)
        if image_column is None:
            raise DatasetError(f"{name}: {path} has no column 'image' or 'img', only {columns}")
        label_column = next((key for key in ("label", "labels") if key in columns), None)
        wanted = [image_column] + ([label_column] if label_column else [])
        table = pyarrow.parquet.read_table(path, columns=wanted)
        cells = (cell.as_py() for cell in table[image_column])
        payloads = (cell["bytes"] if isinstance(cell, dict) else cell for cell in cells)
        rows = ((f"{path}, row {row}", payload) for row, payload in enumerate(payloads))
        images.append(_stack(name, ((where, _decode(where, payload)) for where, payload in rows)))
        if label_column:
            labels.append(table[label_column].to_numpy().astype(np.int64))
    shapes = sorted({block.shape[1:] for block in images})
    if len(shapes) > 1:
        raise DatasetError(f"{name}: files hold images of different shapes: {shapes}")
    return Dataset(
        name, np.concatenate(images), np.concatenate(labels) if len(labels) == len(paths) else None
    )


def _decode(where: str, payload: bytes | None) -> np.ndarray:
    """Pixels (channels, height, width) uint8 of an encoded image: one channel if it is grey, else RGB."""
    if not payload:
        raise DatasetError(f"{where}: the image has no bytes")
    try:
        with Image.open(io.BytesIO(payload)) as image:
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{where}: not a readable image: {error}") from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _stack(name: str, images: Iterable[tuple[str, np.ndarray]]) -> np.ndarray:
    """One array (count, channels, height, width) of images that must share a shape."""
    blocks: list[np.ndarray] = []
    for where, image in images:
        if blocks and image.shape != blocks[0].shape:
            raise DatasetError(
                f"{name}: images must share one shape (channels, height, width), but {where} is "
                f"{image.shape} and the first image {blocks[0].shape}"
            )
        blocks.append(image)
    if not blocks:
        raise DatasetError(f"{name}: holds no images")
    return np.stack(blocks)
