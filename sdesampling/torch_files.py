"""Reading weight files of unknown origin: as data alone, or an error that says what the file is instead.

Files of `torch.save`, old and new, and safetensors. What the content means is not known here.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sdesampling.configs import ModelError


class CheckpointError(ModelError):
    """A file that is no usable checkpoint; the message says what it is instead."""


def load_weight_file(path: Path) -> Any:
    """The content of a weight file on the CPU: nested dicts and lists of tensors and plain data.

    No code in the file is run. Raises CheckpointError when the file is something else, damaged or cut off;
    OSError when it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] == b"{" and not start.startswith(_ZIP):
        return _load_safetensors(path)
    if not start.startswith((_ZIP, _PICKLE)):
        raise CheckpointError(f"{path} is {_kind(start)}, no file of weights")
    if start.startswith(_ZIP) and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated{_share(path)}: copy or download it again")
    if start.startswith(_ZIP):
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or a pickle of more than tensors and plain data, which is never loaded"
            f"{_foreign_class(path)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, struct.error) as error:
        share = "" if start.startswith(_ZIP) else _share(path)
        if share:
            raise CheckpointError(f"{path} is truncated{share}: copy or download it again") from error
        raise CheckpointError(f"{path} is damaged or truncated: {_first_line(error)}") from error


_scalar = np.float64(0).__reduce__()[0]  # NumPy's own function for reading one
#: Single numbers of NumPy, as training loops keep scores and rates, by the names of NumPy 2 and 1.
_NUMPY_NUMBERS: list[Any] = [
    np.dtype,
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
]
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of torch.save's files, since PyTorch 1.6 and before

#: What files that are taken for weights begin with.
_BEGINNINGS = {
    b"version https://git-lfs": "a git-lfs pointer; `git lfs pull` fetches the file that it stands for",
    b"<!doctype html": "an HTML page, such as a download that needs a click or a login",
    b"<html": "an HTML page, such as a download that needs a click or a login",
    b"<?xml": "an XML document, such as a server's error message",
    b"\x89hdf": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x93numpy": "a NumPy array",
    b"\x89png": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"par1": "a Parquet file",
    b"gguf": "a GGUF file",
    b"{": "a JSON text",
}


def _kind(start: bytes) -> str:
    """What a file is, in words, by its first bytes."""
    beginning = start.lstrip().lower()
    for first, kind in _BEGINNINGS.items():
        if beginning.startswith(first):
            return kind
    if not start:
        return "empty"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    return f"of an unknown kind: it starts with {start[:16]!r}"


def _load_safetensors(path: Path) -> Any:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(length)
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        complete = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError):
        raise CheckpointError(f"{path} is a safetensors file with a damaged or truncated header") from None
    size = path.stat().st_size
    if size < complete:
        raise CheckpointError(f"{path} is truncated at {size / complete:.0%}: copy or download it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged safetensors file: {_first_line(error)}") from error


def _check_archive(path: Path) -> None:
    """Raise CheckpointError for zip archives that torch.save did not write, and for damaged ones."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.rpartition("/")[2] == "data.pkl" for name in names):
            for entry in archive.infolist():
                if entry.CRC:  # torch.save can be told to leave it out
                    _check_sum(path, archive, entry)
            return
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} holds NumPy arrays ({', '.join(names[:3])}), no weights")
    first = ", ".join(names[:3]) or "nothing"
    raise CheckpointError(f"{path} is a zip archive of {first}; unpack it first")


def _check_sum(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read an entry, whose sum the archive has. Raises CheckpointError, as torch.load would not."""
    try:
        with archive.open(entry) as part:
            while part.read(1 << 24):
                pass
    except (zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(
            f"{path} is damaged ({_first_line(error)}): copy or download it again"
        ) from error


def _foreign_class(path: Path) -> str:
    """The first class beyond tensors and plain data that an old pickle names, to be added to an error."""
    try:
        with path.open("rb") as file:
            if file.read(4) == _ZIP:
                return ""
            file.seek(0)
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL" and not str(argument).startswith(
                    ("torch", "collections", "numpy")
                ):
                    return f"; it names {str(argument).replace(' ', '.')}"
    except (ValueError, EOFError):
        return ""
    return ""


def _share(path: Path) -> str:
    """How much of a truncated file is there, in words; nothing where its list of contents is cut off too."""
    try:
        return f" at about {path.stat().st_size / _complete_size(path):.0%}"
    except (ValueError, LookupError, TypeError, struct.error):
        return ""


def _complete_size(path: Path) -> int:
    """Bytes of the whole file that the pickle at its beginning describes, to a percent.

    Raises ValueError, LookupError, TypeError or struct.error where it is cut off or of another layout.
    """
    with path.open("rb") as file:
        if file.read(4) == _ZIP:
            file.seek(0)
            name_length, extra_length = struct.unpack("<26x2H", file.read(30))
            file.seek(30 + name_length + extra_length)
            return sum(size + _ENTRY_SIZE for size in _storages(file).values())
        file.seek(0)
        for _ in range(3):  # magic number, version, system
            for _ in pickletools.genops(file):
                pass
        storages = _storages(file)
        for _ in pickletools.genops(file):  # the keys in the order of the storages
            pass
        return file.tell() + sum(size + 8 for size in storages.values())  # 8 bytes say the number of values


def _storages(file: BinaryIO) -> dict[str, int]:
    """Key and bytes of every storage that a pickle of tensors refers to; the file stands at its end then."""
    storages: dict[str, int] = {}
    for key, kind, count in _references(file):
        storages[key] = count * _ITEM_SIZES[kind]
    if not storages:
        raise ValueError("no storages")
    return storages


def _references(file: BinaryIO) -> Iterator[tuple[str, str, int]]:
    """(key, kind, count) of every reference to a storage: ("storage", kind, key, device, count, ...)."""
    memo: dict[Any, Any] = {}
    stack: list[Any] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "BINPERSID":
            place = max(index for index, item in enumerate(stack) if item == "storage")
            kind, key, _, count = stack[place + 1 : place + 5]
            yield key, kind, count
        elif opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1] if stack else None
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif argument is not None:
            stack.append(argument)


_ENTRY_SIZE = 190  # what a zip archive adds to each storage, about
_ITEM_SIZES = {
    f"torch {kind}Storage": size
    for kind, size in {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4}.items()
}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
