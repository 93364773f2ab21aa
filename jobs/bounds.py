"""What a file may unfold to: a few bytes that stand for gigabytes are refused before memory is taken.

For files of others, which may be damaged or made to do harm. Real images shrink to a tenth, hardly ever to a
two-hundredth. It must not know what the files are for.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet

FREE = 256 * 2**20  # bytes that anything may unfold to
MOST = 200  # times its own size, beyond that
MAX_PIXELS = 4096 * 4096  # of one image


class SwollenError(ValueError):
    """A file would unfold to far more than it holds."""


def check_swelling(what: str, packed: int, unpacked: int) -> None:
    """Raise SwollenError where so many bytes would become so many more."""
    if unpacked > FREE and unpacked > MOST * packed:
        raise SwollenError(
            f"{what}: {packed:,} bytes would unfold to {unpacked:,}, over {MOST} times as many; "
            "no real images do that, so it is damaged or made to fill the memory"
        )


def check_npz(path: Path) -> None:
    """Raise SwollenError, before any array is read, for an archive of arrays that unfolds without measure.

    Raises OSError, ValueError or zipfile.BadZipFile for what is no archive of arrays.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_swelling(str(path), path.stat().st_size, sum(member.file_size for member in members))
        for member in members:
            with archive.open(member) as file:
                shape, _, dtype = npy_header(file)
            claimed = int(np.prod([float(length) for length in shape])) * dtype.itemsize
            if claimed > member.file_size:
                raise SwollenError(
                    f"{path}: {member.filename} is said to hold {claimed:,} bytes, and has "
                    f"{member.file_size:,}"
                )


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis varies fastest, and type of the array that a file holds from here on."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    found: tuple[tuple[int, ...], bool, np.dtype] = read(file)
    return found


def check_parquet(path: Path) -> None:
    """Raise SwollenError where the footer of a Parquet file tells of more than the file can hold."""
    packed = path.stat().st_size
    footer = pyarrow.parquet.read_metadata(path)
    check_swelling(str(path), packed, max(_unpacked(footer), footer.num_rows))


def check_row_groups(footer: pyarrow.parquet.FileMetaData, most: int) -> None:
    """Raise SwollenError for a shard's file with larger groups of rows than are ever written."""
    for number in range(footer.num_row_groups):
        rows = footer.row_group(number).num_rows
        if rows > most:
            raise SwollenError(
                f"row group {number} is said to hold {rows:,} rows, and none has over {most:,}"
            )


def _unpacked(footer: pyarrow.parquet.FileMetaData) -> int:
    """Bytes of all columns as they are before compression."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return sum(
        group.column(number).total_uncompressed_size
        for group in groups
        for number in range(group.num_columns)
    )


def check_pixels(width: int, height: int) -> None:
    """Raise SwollenError for an image of more pixels than any is allowed."""
    if width * height > MAX_PIXELS:
        raise SwollenError(f"has {width} x {height} pixels; at most {MAX_PIXELS:,}")
