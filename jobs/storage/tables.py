"""Rows of a shard as a Parquet file: row groups of one step each, in the order of step and index.

Images and features are written, read and compared with their markers by it alike. It must not know their
columns, but for `step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bounds import check_row_groups
from jobs.paths import RangeFolder
from jobs.storage.commit import Marker, Rows, check_rows, reading
from jobs.store import Store

ROW_GROUP = 1024  # rows

R = TypeVar("R", bound=Rows)


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of the same columns, each of one step. Raises ValueError when there are none."""
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="NONE",
                    use_dictionary=False,
                    write_statistics=["index", "step"],
                )
            writer.write_table(table, row_group_size=ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ValueError(f"{path}: no rows to write")


def read_tables(file: BinaryIO, step: int | None = None) -> Iterator[tuple[int, pa.Table]]:
    """Step and at most ROW_GROUP rows of it, in the order of the file; only those of one step if given.

    Raises pyarrow.ArrowInvalid or OSError for a damaged file, ValueError for one of another form.
    """
    parquet = pq.ParquetFile(file)
    check_row_groups(parquet.metadata, ROW_GROUP)
    for number in range(parquet.num_row_groups):
        found = set(parquet.read_row_group(number, columns=["step"])["step"].to_pylist())
        if len(found) != 1:
            raise ValueError(f"row group {number} holds rows of {len(found)} steps, not of one")
        if step is None or step in found:
            yield found.pop(), parquet.read_row_group(number)


def committed_blocks(
    store: Store,
    folder: RangeFolder,
    marker: Marker,
    read: Callable[[BinaryIO], Iterable[R]],
    join: Callable[[Sequence[R]], R],
) -> list[R]:
    """All rows of a committed range, one block a step, compared with the marker.

    Raises DamageError when the file cannot be read, or when rows, indices or values are not the marker's.
    """
    with reading(store, folder, marker) as file:
        parts = list(read(file))
        blocks = [join([part for part in parts if part.step == step]) for step in marker.steps]
    for block in blocks:
        check_rows(folder, marker, block)
    return blocks
