"""Features of a shard: rows of a Parquet file, and back, in index order across files.

The file has the columns index int64, step int32, feature fixed_size_list<float32>, and logits likewise where
the extractor has them; its rows are ordered by step, then by index. This module knows no
extractor and no score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from fid.moments import BLOCK
from jobs.digests import add_digests, rows_digest
from jobs.paths import RangeFolder
from jobs.storage.commit import DamageError, Marker, check_rows, reading
from jobs.storage.tables import committed_blocks, read_tables, write_tables
from jobs.store import Store


@dataclass(frozen=True)
class FeatureRows:
    """Features of one step, in ascending order of their indices."""

    step: int
    index: np.ndarray  # (rows,) int64
    features: np.ndarray  # (rows, dimension) float32
    logits: np.ndarray | None = None  # (rows, classes) float32

    @property
    def digest(self) -> str:
        """Of features and logits, whatever the file."""
        digests = [rows_digest("features", self.step, self.index, self.features)]
        if self.logits is not None:
            digests.append(rows_digest("logits", self.step, self.index, self.logits))
        return add_digests(digests)

    def __getitem__(self, rows: slice) -> FeatureRows:
        logits = None if self.logits is None else self.logits[rows]
        return FeatureRows(self.step, self.index[rows], self.features[rows], logits)


class FeatureSource(ABC):
    """Features of one set of images at one step, readable as often as wanted, in the same blocks every time.

    Attributes:
        step: of the sampler; 0 for images that no sampler made.
        samples: number of rows in all.
    """

    step: int
    samples: int

    @abstractmethod
    def __iter__(self) -> Iterator[FeatureRows]:
        """Blocks of 1,024 rows in index order; the last may be shorter."""

    def features(self) -> Iterator[np.ndarray]:
        """The blocks without indices and logits."""
        return (rows.features for rows in self)

    def everything(self) -> np.ndarray:
        """(samples, dimension) float32: for metrics that compare all with all."""
        return np.concatenate(list(self.features()))

    def some(self, numbers: np.ndarray) -> np.ndarray:
        """(len(numbers), dimension) float32: the rows with these numbers, which ascend from 0."""
        found, first = [], 0
        for block in self.features():
            inside = (first <= numbers) & (numbers < first + len(block))
            found.append(block[numbers[inside] - first])
            first += len(block)
        return np.concatenate(found)

    def digest(self) -> str:
        """Of all rows."""
        return add_digests(rows.digest for rows in self)


class HeldFeatures(FeatureSource):
    """Features in memory."""

    def __init__(self, rows: FeatureRows) -> None:
        self.step = rows.step
        self.samples = len(rows.index)
        self._rows = rows

    def __iter__(self) -> Iterator[FeatureRows]:
        for first in range(0, self.samples, BLOCK):
            yield self._rows[first : first + BLOCK]


@dataclass(frozen=True)
class StoredFeatures(FeatureSource):
    """Features that were committed; reading raises DamageError where they are not what markers say."""

    store: Store
    folder: RangeFolder
    markers: Sequence[Marker]
    step: int
    samples: int

    def __iter__(self) -> Iterator[FeatureRows]:
        return features_in_order(self.store, self.folder, self.markers, self.step, self.samples, BLOCK)


def join_rows(parts: Sequence[FeatureRows]) -> FeatureRows:
    """Rows of one step, one part after the other. Raises ValueError when there is no part."""
    if not parts:
        raise ValueError("there are no rows of a step")
    logits = [part.logits for part in parts if part.logits is not None]
    return FeatureRows(
        parts[0].step,
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate(logits) if logits else None,
    )


def write_features(path: Path, blocks: Iterable[FeatureRows]) -> None:
    """Write blocks, ordered by step and index, as one Parquet file. Raises ValueError when there are none."""
    write_tables(path, map(_table, blocks))


def read_features(file: BinaryIO, step: int | None = None) -> Iterator[FeatureRows]:
    """Read blocks, one a row group, in the order of the file; only those of one step if given.

    Raises pyarrow.ArrowInvalid or OSError for a damaged file, ValueError for one of another form.
    """
    for found, table in read_tables(file, step):
        yield FeatureRows(
            step=found,
            index=table["index"].to_numpy(),
            features=_matrix(table["feature"]),
            logits=_matrix(table["logits"]) if "logits" in table.column_names else None,
        )


def committed_features(store: Store, folder: RangeFolder, marker: Marker) -> list[FeatureRows]:
    """All features of a committed range, one block a step. Raises DamageError."""
    return committed_blocks(store, folder, marker, read_features, join_rows)


def features_in_order(
    store: Store, folder: RangeFolder, markers: Sequence[Marker], step: int, samples: int, block: int
) -> Iterator[FeatureRows]:
    """Features of the samples 0 .. samples - 1 at one step, in index order, in blocks of `block` rows.

    markers: what the ledger found, in index order; files beyond `samples` are not read. Only the last block
    may be shorter. The blocks are the same however the samples were cut into shards. Memory: one block, one
    file.

    Raises DamageError when samples are missing or double, or when a file does not hold what its marker says.
    """
    pending: list[FeatureRows] = []
    held = 0
    for rows in _files_in_order(store, folder, markers, step, samples):
        pending.append(rows)
        held += len(rows.index)
        if held >= block:
            joined = join_rows(pending)
            whole = held - held % block
            for start in range(0, whole, block):
                yield joined[start : start + block]
            pending, held = [joined[whole:]], held - whole
    if held:
        yield join_rows(pending)


def _files_in_order(
    store: Store, folder: RangeFolder, markers: Sequence[Marker], step: int, samples: int
) -> Iterator[FeatureRows]:
    expected = 0
    for marker in markers:
        if marker.first >= samples:
            break
        if marker.first != expected:
            raise DamageError(f"{marker.file} begins at sample {marker.first}, expected was {expected}")
        if step not in marker.digests:
            raise DamageError(f"{marker.file} has the steps {marker.steps}, not {step}")
        with reading(store, folder, marker) as file:
            rows = join_rows(list(read_features(file, step)))
        check_rows(folder, marker, rows)
        yield rows[: samples - expected]
        expected = marker.last
    if expected < samples:
        raise DamageError(f"{folder.root}: ends at {expected} of {samples} samples; run the sweep again")


def _table(block: FeatureRows) -> pa.Table:
    columns = {
        "index": pa.array(block.index, pa.int64()),
        "step": pa.array(np.full(len(block.index), block.step), pa.int32()),
        "feature": _fixed_size_list(block.features),
    }
    if block.logits is not None:
        columns["logits"] = _fixed_size_list(block.logits)
    return pa.table(columns)


def _fixed_size_list(matrix: np.ndarray) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """(rows, width) float32 of a column of fixed-size lists."""
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), array.type.list_size)
