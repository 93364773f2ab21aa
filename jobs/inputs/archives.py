"""Archives in which data sets are published: CIFAR-10 and CIFAR-100 (python and binary), and idx files.

Apart from images in files because these hold raw pixels and splits of their own. Pickles are read with a
reader that knows arrays and nothing else, so that no archive can run code. It must not know what for.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from jobs.inputs.imagefiles import DatasetError

_SHAPE = (3, 32, 32)  # of CIFAR
_TRAIN = re.compile(r"data_batch_\d+(\.bin)?|train(\.bin)?")
_TEST = re.compile(r"test_batch(\.bin)?|test(\.bin)?")
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}

Pixels = tuple[np.ndarray, np.ndarray | None]  # images (count, channels, height, width) uint8, labels int64


def is_cifar(path: Path) -> bool:
    """Whether a path is a CIFAR archive or the folder that it unpacks to."""
    if path.is_dir():
        return any(_TRAIN.fullmatch(item.name) or _TEST.fullmatch(item.name) for item in path.iterdir())
    return path.name.startswith("cifar-") and path.name.endswith((".tar.gz", ".tgz", ".tar"))


def is_idx(path: Path) -> bool:
    """Whether a file's name is that of an idx file of bytes, zipped or not."""
    return path.name.removesuffix(".gz").endswith(("-ubyte", ".idx")) or "idx3" in path.name


def read_cifar(name: str, path: Path, split: str | None) -> Pixels:
    """Images and (fine) labels of one split of CIFAR, in the order of its batches.

    Raises DatasetError when no split was chosen, or for anything else than such an archive.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"{name}: {path} holds the splits train and test: choose one with --split")
    pattern = _TRAIN if split == "train" else _TEST
    batches = sorted(_batches(name, path, pattern))
    if not batches:
        raise DatasetError(f"{name}: {path} holds no batch of the split {split}")
    parts = [(_binary if file.endswith(".bin") else _pickled)(name, file, data) for file, data in batches]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def read_idx(name: str, path: Path) -> np.ndarray:
    """Images (count, 1, height, width) of an idx file of bytes. Raises DatasetError for another file."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DatasetError(f"{name}: {path} cannot be read: {error}") from error
    if data[:4] != b"\x00\x00\x08\x03":
        raise DatasetError(
            f"{name}: {path} begins with {data[:4].hex()}, and images of bytes with 00000803; "
            "labels are in another file"
        )
    count, height, width = (int.from_bytes(data[at : at + 4]) for at in (4, 8, 12))
    if len(data) - 16 != count * height * width:
        raise DatasetError(
            f"{name}: {path} says {count} images of {width}x{height}, and has {len(data) - 16} bytes of them"
        )
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, 1, height, width).copy()


def _batches(name: str, path: Path, pattern: re.Pattern[str]) -> list[tuple[str, bytes]]:
    """Names and contents of the files of an archive that fit a pattern."""
    if path.is_dir():
        return [(item.name, item.read_bytes()) for item in path.iterdir() if pattern.fullmatch(item.name)]
    found = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = member.name.rpartition("/")[2]
                content = archive.extractfile(member) if pattern.fullmatch(file) else None
                if content is not None:
                    found.append((file, content.read()))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DatasetError(f"{name}: {path} cannot be read: {error}") from error
    return found


def _binary(name: str, file: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a label (CIFAR-100: coarse and fine) and 3,072 bytes."""
    data = np.frombuffer(content, np.uint8)
    pixels = int(np.prod(_SHAPE))
    labels = 2 if file in ("train.bin", "test.bin") else 1
    if len(data) == 0 or len(data) % (pixels + labels):
        raise DatasetError(f"{name}: {file} has {len(data)} bytes, no multiple of {pixels + labels}")
    rows = data.reshape(-1, pixels + labels)
    return rows[:, labels:].reshape(-1, *_SHAPE), rows[:, labels - 1].astype(np.int64)


def _pickled(name: str, file: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch: Any = _Arrays(io.BytesIO(content), encoding="bytes").load()
        images = np.asarray(batch[b"data"]).reshape(-1, *_SHAPE)
        labels = batch[b"labels"] if b"labels" in batch else batch[b"fine_labels"]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{name}: {file} is no batch of CIFAR: {error}") from error
    return images, np.array(labels, dtype=np.int64)


class _Arrays(pickle.Unpickler):
    """Reads plain values and numpy arrays; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are read")
        return super().find_class(module, name)
