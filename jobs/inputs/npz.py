"""Images in an array of an npz archive, read whole or row by row.

Apart from encoded images because these are pixels as they are. It must not know other sources.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from jobs.bounds import check_npz, npy_header
from jobs.inputs.census import HELD
from jobs.inputs.imagefiles import DatasetError
from jobs.inputs.sources import Content, Dataset, StreamedImages


def open_npz(name: str, path: Path) -> Dataset | StreamedImages:
    """The images of `images` or `arr_0`, and `labels` where they are there: in memory where they are few.

    Raises DatasetError for a file that is no such archive, or that unfolds without measure.
    """
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as archive:
            key = next((key for key in ("images", "arr_0") if key in archive), None)
            if key is None:
                raise DatasetError(f"{name}: {path} has no array 'images' or 'arr_0', only {sorted(archive)}")
            rows = _Rows(path, key)
            shape, by_columns, dtype = rows.header
            labels = archive["labels"].astype(np.int64) if "labels" in archive else None
            large = len(shape) == 4 and dtype == np.uint8 and not by_columns and prod(shape) > HELD
            if not large:
                return Dataset(name, _channels_first(archive[key]), labels)
        return _streamed(name, rows, shape, labels)
    except DatasetError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{name}: {path} is no readable npz archive: {error}") from error


def _streamed(name: str, rows: _Rows, shape: tuple[int, ...], labels: np.ndarray | None) -> StreamedImages:
    """Images of an array that is too large to be held."""

    def begin(first: int) -> Iterator[np.ndarray]:
        return (_channels_first(row[None])[0] for row in rows.begin(first))

    channels, height, width = _channels_first(np.empty((1, *shape[1:]), np.uint8)).shape[1:]
    content = Content(shape[0], (channels, height, width))
    for image in begin(0):
        content.update(image)
    return StreamedImages(name, shape[0], (channels, height, width), content.hash, begin, labels)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """(count, channels, height, width) of arrays without channels, or with channels last."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images


@dataclass(frozen=True)
class _Rows:
    """An array of an npz archive, row by row: its header is read, and what is asked for."""

    path: Path
    key: str

    @property
    def header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        """Shape, whether the first axis varies fastest, and type."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as file:
            return npy_header(file)

    def begin(self, first: int) -> Iterator[np.ndarray]:
        """Rows from that number on, of an array in C order."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as file:
            shape, _, dtype = npy_header(file)
            size = int(np.prod(shape[1:])) * dtype.itemsize
            file.seek(file.tell() + first * size)
            for _ in range(first, shape[0]):
                yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])
