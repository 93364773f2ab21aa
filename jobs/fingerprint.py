"""Canonical JSON and its sha256: how a configuration gets the name of its output directory.

A module of its own because one byte more or less here renames every result that was ever stored.
It must not know what it is hashing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def canonical_json(data: Mapping[str, object]) -> str:
    """Return JSON with sorted keys, no white space, ASCII only, floats in their shortest exact form (`repr`).

    Raises ValueError for NaN and infinity, which JSON cannot hold, and TypeError for what is no plain data.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(data: Mapping[str, object]) -> str:
    """Return the sha256 of the canonical JSON as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(data).encode("ascii")).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
