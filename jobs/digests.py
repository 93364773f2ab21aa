"""Digests of decoded rows: pixels and features, whatever file they are in and however it was cut.

A row's digest is the sha256 of its sample index, step and values; the digest of a set of rows is the sum of
theirs modulo 2^256. So digests of ranges add up, and runs with other shard sizes compare by markers alone.
It guards against accidents, not against an adversary. This module knows neither Parquet nor PNG.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

DIGEST_BYTES = 32


def rows_digest(kind: str, step: int, index: np.ndarray, values: np.ndarray) -> str:
    """Digest of rows, 64 hexadecimal digits.

    kind: what the values are (`pixels`, `features`, `logits`): equal numbers of other kinds differ.
    index: (rows,) sample indices; values: (rows, ...), little-endian or single bytes.
    """
    head = f"{kind}|{values.dtype.newbyteorder('<').str}|{values.shape[1:]}|{step}|".encode()
    total = 0
    for number, row in zip(index.tolist(), np.ascontiguousarray(values), strict=True):
        total += int.from_bytes(hashlib.sha256(head + b"%d|" % number + row.tobytes()).digest())
    return _hexadecimal(total)


def add_digests(digests: Iterable[str]) -> str:
    """Digest of the union of disjoint sets of rows."""
    return _hexadecimal(sum(int(digest, 16) for digest in digests))


def add_packed(digests: np.ndarray) -> str:
    """The same of digests (count, 32) uint8, count below 2^32."""
    total = 0
    for part in np.ascontiguousarray(digests).view(">u4").sum(axis=0, dtype=np.uint64).tolist():
        total = (total << 32) + part
    return _hexadecimal(total)


def _hexadecimal(total: int) -> str:
    return f"{total % (1 << 256):064x}"
