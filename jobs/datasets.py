"""Reading data sets: the digits that scikit-learn carries, folders, npz, Hugging Face Parquet, archives.

Whatever the source, a data set is uint8 images (count, channels, height, width) with or without labels, and a
content hash that names it in references and training records. Knows nothing of models, features or the store.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from jobs.archives import is_cifar, is_idx, read_cifar, read_idx
from jobs.bounds import SwollenError, check_npz, check_parquet, check_swelling
from jobs.imagefiles import IMAGE_SUFFIXES, DatasetError, decode_all, image_paths

__all__ = ["BUILT_IN", "HUB", "Dataset", "DatasetError", "read_dataset", "read_digits"]

HUB = "datasets:"  # begins the path of a data set that the library `datasets` loads
BATCH = 256  # rows of a Parquet file that are unfolded at a time
BUILT_IN = ("digits", "digits-train", "digits-heldout")


@dataclass(frozen=True)
class Dataset:
    """Images and labels in a fixed order."""

    name: str
    images: np.ndarray  # (count, channels, height, width) uint8
    labels: np.ndarray | None = None  # (count,) int64
    skipped: tuple[str, ...] = ()  # images that were left out: where each is, and what is wrong with it

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


def read_dataset(
    name: str, path: str | Path | None = None, split: str | None = None, *, skip_unreadable: bool = False
) -> Dataset:
    """Read a built-in data set by its name, or any other from a path.

    Args:
        name: `digits`, `digits-train` or `digits-heldout` when there is no path; otherwise a name to go by.
        path: a Parquet file or folder of them, with a column `image` or `img` (struct<bytes, path> or bytes)
            and perhaps `label` or `labels`; an npz archive with `images` (or `arr_0`) and perhaps `labels`;
            a CIFAR archive (python or binary), packed or not; an idx file of images, zipped or not; or a
            folder of image files, where sorted subfolders are the labels. `datasets:NAME` is a data set of
            the Hugging Face hub, or a folder that its library knows how to load.
        split: `train` or `test` of a CIFAR archive; of a folder of Parquet files, and of a single file,
            how the name begins; of a data set of the hub, as it is called there.
        skip_unreadable: leave out images in files that cannot be used, and name them in `skipped`.

    Raises:
        DatasetError: unknown name, missing path, no images, or images that cannot be used, all of them named.
    """
    if path is None:
        if name not in BUILT_IN:
            raise DatasetError(
                f"unknown data set {name!r}: built in are {', '.join(BUILT_IN)}; for any other give a path"
            )
        return read_digits(None if name == "digits" else name.removeprefix("digits-"))
    if str(path).startswith(HUB):
        return _read_hub(name, str(path).removeprefix(HUB), split, skip_unreadable)
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{name}: no such file or folder: {path}")
    if is_cifar(path):
        return Dataset(name, *read_cifar(name, path, split))
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if shards:
        return _read_parquet(name, _of_split(name, shards, split), skip_unreadable)
    if split is not None and not _is_of_split(path, split):
        raise DatasetError(f"{name}: {path} has no splits to choose {split!r} from")
    if path.is_dir():
        return _read_folder(name, path, skip_unreadable)
    if path.suffix == ".parquet":
        return _read_parquet(name, [path], skip_unreadable)
    if path.suffix == ".npz" or zipfile.is_zipfile(path):
        return _read_npz(name, path)
    if is_idx(path):
        return Dataset(name, read_idx(name, path))
    raise DatasetError(
        f"{name}: {path} is neither a folder nor a .parquet, .npz or idx file, nor an archive of CIFAR"
    )


def _is_of_split(path: Path, split: str) -> bool:
    """Whether a file's own name says that it is of a split; the test images of MNIST are called t10k."""
    return path.is_file() and path.name.startswith((split, "t10k") if split == "test" else split)


def _of_split(name: str, shards: list[Path], split: str | None) -> list[Path]:
    found = [path for path in shards if split is None or path.name.startswith(split)]
    if not found:
        raise DatasetError(
            f"{name}: no file begins with {split!r}: {', '.join(path.name for path in shards)}"
        )
    return found


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


def _read_folder(name: str, folder: Path, skip: bool) -> Dataset:
    files, disguised = image_paths(folder)
    if not files and not disguised:
        raise DatasetError(f"{name}: no image files ({', '.join(IMAGE_SUFFIXES)}) under {folder}")
    found = decode_all(name, ((str(path), path.read_bytes()) for path in files), disguised, skip=skip)
    parents = [files[number].parent.relative_to(folder).as_posix() for number in found.kept]
    labels = None
    if "." not in parents:
        classes = {parent: number for number, parent in enumerate(sorted(set(parents)))}
        labels = np.array([classes[parent] for parent in parents], dtype=np.int64)
    return Dataset(name, found.images, labels, found.skipped)


def _read_npz(name: str, path: Path) -> Dataset:
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as archive:
            key = next((key for key in ("images", "arr_0") if key in archive), None)
            if key is None:
                raise DatasetError(f"{name}: {path} has no array 'images' or 'arr_0', only {sorted(archive)}")
            images = archive[key]
            labels = archive["labels"].astype(np.int64) if "labels" in archive else None
    except DatasetError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{name}: {path} is no readable npz archive: {error}") from error
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return Dataset(name, images, labels)


def _read_parquet(name: str, paths: list[Path], skip: bool) -> Dataset:
    payloads: list[tuple[str, bytes | None]] = []
    labels: list[np.ndarray] = []
    for path in paths:
        try:
            check_parquet(path)
            columns = pyarrow.parquet.read_schema(path).names
            image_column = next((key for key in ("image", "img") if key in columns), None)
            if image_column is None:
                raise DatasetError(f"{name}: {path} has no column 'image' or 'img', only {columns}")
            label_column = next((key for key in ("label", "labels") if key in columns), None)
            cells, found_labels = _columns(path, image_column, label_column)
        except (pyarrow.ArrowInvalid, SwollenError) as error:
            raise DatasetError(f"{name}: {path} is no readable Parquet file: {error}") from error
        payloads += [
            (f"{path}, row {row}", cell["bytes"] if isinstance(cell, dict) else cell)
            for row, cell in enumerate(cells)
        ]
        if found_labels is not None:
            labels.append(found_labels.astype(np.int64))
    found = decode_all(name, payloads, skip=skip)
    known = np.concatenate(labels)[list(found.kept)] if len(labels) == len(paths) else None
    return Dataset(name, found.images, known, found.skipped)


def _columns(path: Path, image: str, label: str | None) -> tuple[list[Any], np.ndarray | None]:
    """Cells of the image column, and the labels where there is a column of them.

    Read in small pieces: a value that all rows share is stored once, and unfolds row by row.
    """
    cells: list[Any] = []
    labels: list[np.ndarray] = []
    packed, unpacked = path.stat().st_size, 0
    wanted = [image] if label is None else [image, label]
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(BATCH, columns=wanted):
        unpacked += batch.nbytes
        check_swelling(str(path), packed, unpacked)
        cells += batch.column(image).to_pylist()
        if label is not None:
            labels.append(batch.column(label).to_numpy(zero_copy_only=False))
    return cells, np.concatenate(labels) if labels else None


def _read_hub(name: str, data_set: str, split: str | None, skip: bool) -> Dataset:
    """A data set by the library `datasets`; its images as they are encoded there."""
    try:
        import datasets  # an optional extra
    except ImportError:
        raise DatasetError(
            f"{name}: {HUB}{data_set} needs the library `datasets`: pip install 'sdesweep[datasets]'"
        ) from None
    if split is None:
        raise DatasetError(f"{name}: {HUB}{data_set} has splits: choose one with --split, for example train")
    try:
        rows = datasets.load_dataset(data_set, split=split)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DatasetError(f"{name}: {HUB}{data_set}, split {split}, cannot be loaded: {error}") from error
    column = next((key for key in ("image", "img") if key in rows.column_names), None)
    if column is None:
        raise DatasetError(
            f"{name}: {HUB}{data_set} has no column 'image' or 'img', only {rows.column_names}"
        )
    encoded = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    payloads = (
        (f"{HUB}{data_set}, row {number}", row[column]["bytes"] or Path(row[column]["path"]).read_bytes())
        for number, row in enumerate(encoded)
    )
    found = decode_all(name, payloads, skip=skip)
    return Dataset(name, found.images, None, found.skipped)
