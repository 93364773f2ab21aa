"""Where encoded images of data sets lie: folders, Parquet files, the Hugging Face hub.

Apart from data sets because these know files and no pixels. Each gives its images in order from any number
on, in memory independent of how many there are. It must not decode any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bounds import SwollenError, check_parquet, check_swelling
from jobs.inputs.imagefiles import DatasetError

BATCH = 256  # rows of a Parquet file that are unfolded at a time
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels")


@dataclass(frozen=True)
class FolderImages:
    """Image files."""

    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def begin(self, first: int) -> Iterator[tuple[str, bytes | None]]:
        """See `EncodedImages`."""
        for path in self.paths[first:]:
            try:
                payload = path.read_bytes()
            except OSError as error:
                yield f"{path} ({error.strerror})", None
            else:
                yield str(path), payload


class ParquetImages:
    """Rows of Parquet files with a column of images: struct<bytes, path> or bytes.

    Raises DatasetError for files without such a column, or that are none.
    """

    def __init__(self, name: str, paths: list[Path]) -> None:
        self._name = name
        self._paths = paths
        self._columns: list[str] = []
        self._labels: list[str | None] = []
        self._rows: list[int] = []
        for path in paths:
            try:
                check_parquet(path)
                footer = pq.read_metadata(path)
                columns = pq.read_schema(path).names
            except (pa.ArrowInvalid, SwollenError) as error:
                raise self._unreadable(path, error) from error
            self._columns.append(image_column(name, str(path), columns))
            self._labels.append(next((key for key in LABEL_COLUMNS if key in columns), None))
            self._rows.append(footer.num_rows)

    def __len__(self) -> int:
        return sum(self._rows)

    def begin(self, first: int) -> Iterator[tuple[str, bytes | None]]:
        """See `EncodedImages`."""
        for path, column, rows in zip(self._paths, self._columns, self._rows, strict=True):
            if first < rows:
                for row, cell in self._cells(path, column, first):
                    yield f"{path}, row {row}", cell["bytes"] if isinstance(cell, dict) else cell
            first = max(0, first - rows)

    def labels(self) -> np.ndarray | None:
        """(rows,) int64; None where some file has no column of them."""
        found = []
        for path, column in zip(self._paths, self._labels, strict=True):
            if column is None:
                return None
            blocks = [values.to_numpy(zero_copy_only=False) for _, values in self._batches(path, column, 0)]
            found += [block.astype(np.int64) for block in blocks]
        return np.concatenate(found) if found else None

    def _cells(self, path: Path, column: str, first: int) -> Iterator[tuple[int, Any]]:
        """Rows of a file from a number on, with their numbers."""
        for start, values in self._batches(path, column, first):
            skipped = max(0, first - start)
            yield from enumerate(values.slice(skipped).to_pylist(), start + skipped)

    def _batches(self, path: Path, column: str, first: int) -> Iterator[tuple[int, pa.Array]]:
        """Pieces of a column with the number of their first row, from the group of rows that holds `first`.

        Small, as a value that all rows share is stored once and unfolds row by row.
        """
        packed, unpacked = path.stat().st_size, 0
        try:
            with pq.ParquetFile(path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                starts = np.cumsum([0, *sizes])
                groups = [number for number in range(len(sizes)) if starts[number + 1] > first]
                start = int(starts[groups[0]]) if groups else 0
                for batch in file.iter_batches(BATCH, row_groups=groups, columns=[column]):
                    unpacked += batch.nbytes
                    check_swelling(str(path), packed, unpacked)
                    yield start, batch.column(0)
                    start += batch.num_rows
        except (pa.ArrowInvalid, OSError, SwollenError) as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: Exception) -> DatasetError:
        return DatasetError(f"{self._name}: {path} is no readable Parquet file: {error}")


class HubImages:
    """A data set by the library `datasets`; its images as they are encoded there."""

    def __init__(self, name: str, where: str, rows: Any) -> None:
        """where: what begins the place of each row. rows: a `datasets.Dataset`."""
        import datasets  # an optional extra, with which the rows were loaded

        column = image_column(name, where, rows.column_names)
        self._rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        self._column = column
        self._where = where

    def __len__(self) -> int:
        return len(self._rows)

    def begin(self, first: int) -> Iterator[tuple[str, bytes | None]]:
        """See `EncodedImages`."""
        for number in range(first, len(self._rows)):
            cell = self._rows[number][self._column]
            yield f"{self._where}, row {number}", cell["bytes"] or Path(cell["path"]).read_bytes()


def image_column(name: str, where: str, columns: list[str]) -> str:
    """Which column holds the images. Raises DatasetError where none does."""
    found = next((key for key in IMAGE_COLUMNS if key in columns), None)
    if found is None:
        raise DatasetError(f"{name}: {where} has no column 'image' or 'img', only {columns}")
    return found
