"""Files that a spec names: finding them, hashing them, reading what a safetensors file says of itself.

Reads headers with the standard library alone, so that planning needs no tensors. Knows no names of models.
"""

from __future__ import annotations

import functools
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

from jobs.fingerprint import file_sha256

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class UnresolvedError(ValueError):
    """A name or a path that leads nowhere; `key` is the part of its section to blame."""

    def __init__(self, message: str, *key: str | int) -> None:
        self.key = key
        super().__init__(message)


def unset_variable(path: str) -> str | None:
    """Return the first `${VARIABLE}` of a path that the environment does not have."""
    return next((name for name in _VARIABLE.findall(path) if name not in os.environ), None)


def locate(path: str, folder: Path, *key: str | int) -> Path:
    """Return the absolute path of a file or folder that a spec names, `${VARIABLES}` filled in.

    Relative ones start at `folder`. Raises UnresolvedError when a variable is not set or nothing is there.
    """
    unset = unset_variable(path)
    if unset is not None:
        raise UnresolvedError(f"{path!r}: the environment variable {unset} is not set", *key)
    filled = _VARIABLE.sub(lambda match: os.environ[match[1]], path)
    found = (folder / os.path.expanduser(filled)).resolve()
    if not found.exists():
        raise UnresolvedError(f"{path!r}: nothing is at {found}", *key)
    return found


def weights_file(path: str, folder: Path, *key: str | int) -> Path:
    """Return the absolute path of a file of weights. Raises UnresolvedError also when it is a folder."""
    found = locate(path, folder, *key)
    if not found.is_file():
        raise UnresolvedError(f"{path!r}: {found} is a folder, and weights are one file", *key)
    return found


def sha256(path: Path) -> str:
    """sha256 of a file, computed once as long as its size and time of change stay."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the description in a safetensors file of the project. Raises UnresolvedError for other files."""
    metadata = safetensors_metadata(path)
    if "config" not in metadata:
        raise UnresolvedError(
            f"{path} does not say which model it holds: was it written by sdesweep?", "weights"
        )
    try:
        config = json.loads(metadata["config"])
    except json.JSONDecodeError as error:
        raise UnresolvedError(f"{path} has a damaged description: {error}", "weights") from None
    if not isinstance(config, dict):
        raise UnresolvedError(f"{path} has a damaged description: no mapping", "weights")
    return config


def is_safetensors(path: Path) -> bool:
    """True when a file begins like one, whatever its name is."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the text metadata of a safetensors file, reading its header alone.

    Raises UnresolvedError when the file is of another kind or cut off.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        header = file.read(length) if 0 < length <= 100_000_000 else b""
    if not header.startswith(b"{") or len(header) != length:
        raise UnresolvedError(f"{path} is no safetensors file, or only the beginning of one", "weights")
    try:
        metadata: dict[str, str] = json.loads(header).get("__metadata__", {})
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnresolvedError(f"{path} has a damaged header: {error}", "weights") from None
    return metadata
