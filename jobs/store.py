"""Where a run's files are: a small interface, and how a store is opened by its name.

Names are relative, with forward slashes. Every write is atomic: a reader sees all of it or nothing,
also after a power cut. Each kind of store is a module of its own and a line in `_KINDS`. This module knows
nothing of sweeps, shards or markers.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from jobs.paths import StorePaths

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}"
_NAME = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")

#: Beginning of a URL -> class, imported when it is named: each may need a library of its own.
_KINDS = {"file://": "jobs.store_local:LocalStore", "s3://": "jobs.store_s3:S3Store"}


class StoreError(Exception):
    """A name or a file that the store refuses."""


class StoreUnavailableError(OSError):
    """The store does not answer or does not let us in: waiting, or whoever keeps it, may mend that."""


@dataclass(frozen=True)
class Entry:
    """A file of the store and its size in bytes."""

    name: str
    size: int
    modified: float = field(default=0.0, compare=False)  # seconds since 1970, by the store's clock


class Store(ABC):
    """Files by name. Methods raise FileNotFoundError for a missing file and StoreError for a refused name."""

    @property
    @abstractmethod
    def url(self) -> str:
        """How a user names this store."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write atomically, replacing what is there."""

    @abstractmethod
    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write atomically unless the name is taken: of any number of writers exactly one gets True."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write to; becomes `name` atomically at the end, or nothing after an exception."""

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The content of a file."""

    def read_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Many small files with their names, in order; None for those that are missing."""
        for name in names:
            try:
                yield name, self.get(name)
            except FileNotFoundError:
                yield name, None

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read from, seekable."""

    @abstractmethod
    def local(self, name: str) -> AbstractContextManager[Path]:
        """A local path to read a file from while the block lasts."""

    @abstractmethod
    def list(self, folder: str) -> Iterator[Entry]:
        """All files below a folder; none if it does not exist. Linear in their number.

        Files of one folder come in a row, in ascending order, and so do folders beside each other. An empty
        name is the whole store.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size in bytes, or None when there is no such file."""

    @abstractmethod
    def move(self, name: str, target: str) -> None:
        """Rename, replacing the target."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove; a missing file is no error."""

    @abstractmethod
    def leftovers(self, older_than: float) -> Iterator[Entry]:
        """What writers that were killed more than so many seconds ago left behind, beside all named files."""

    @abstractmethod
    def discard_leftovers(self, older_than: float) -> None:
        """Remove it."""


def open_store(url: str | Path) -> Store:
    """The store that a spec or a command line names: a folder, `file:///path`, or `s3://bucket/prefix`.

    Asks the store nothing yet. Raises StoreError for anything else.
    """
    text = str(url)
    check_url(text)
    beginning = next((kind for kind in _KINDS if text.startswith(kind)), "file://")
    module, _, name = _KINDS[beginning].partition(":")
    try:
        store: Store = getattr(import_module(module), name)(text)
    except ImportError as error:
        extra = beginning.removesuffix("://")
        raise StoreError(
            f"the store {text} needs the package {error.name}: pip install 'sdesweep[{extra}]'"
        ) from error
    return store


def check_url(text: str) -> None:
    """Raise StoreError for what names no store of any kind."""
    if not text.strip():
        raise StoreError("a store has a name: a folder such as 'runs', or s3://BUCKET/PREFIX")
    if "://" in text and not text.startswith(tuple(_KINDS)):
        known = ", ".join(["a path", *(f"{kind}..." for kind in _KINDS)])
        raise StoreError(f"the store {text!r} is of no known kind; there are: {known}")
    if text in _KINDS:
        raise StoreError(f"the store {text!r} names no place behind its kind")


def check_store(store: Store) -> None:
    """Raise StoreError unless the store can be written to and lets only the first of two writers win.

    A server that ignores the condition of a PUT would let two attempts commit one shard.
    """
    name = StorePaths().trial(uuid.uuid4().hex)
    first, second = store.put_if_absent(name, b"first"), store.put_if_absent(name, b"second")
    kept = store.get(name)
    store.delete(name)
    if not first or second or kept != b"first":
        raise StoreError(
            f"the store {store.url} writes over what is there, though asked not to (If-None-Match: *): "
            "markers need that; use another server, or a newer version of this one"
        )


def check_name(name: str) -> None:
    """Raise StoreError for a name that no store takes."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"the store refuses the name {name!r}: between slashes must be letters, digits, '.', '_'"
            " and '-', 251 at most, beginning with a letter, a digit or '_'"
        )
