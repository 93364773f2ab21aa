"""Where a run's files are: a small interface, and the local folder that satisfies it.

Names are relative, with forward slashes. Every write is atomic: a reader sees all of it or nothing,
also after a power cut. Another kind of store is a module of its own and a line in `_KINDS`. This module knows
nothing of sweeps, shards or markers.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from jobs.paths import StorePaths

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}"
_NAME = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")
_TEMPORARY = ".temporary"

#: Beginning of a URL -> class, imported when it is named: each may need a library of its own.
_KINDS = {"s3://": "jobs.store_s3:S3Store"}


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


class LocalStore(Store):
    """A folder on this machine or on a shared file system that knows hard links.

    Symbolic links below the root are refused, so that no name reaches outside it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.realpath(root))
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"the store {root} is a file; give a folder")
        self._checked: set[str] = set()  # folders known to exist and to be no links

    @property
    def url(self) -> str:
        return str(self.root)

    def put(self, name: str, data: bytes) -> None:
        with self.writing(name) as path:
            path.write_bytes(data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        target = self._path(name)
        if os.path.lexists(target):
            return False
        temporary = self._temporary()
        try:
            temporary.write_bytes(data)
            _sync(temporary)
            self._make_folder(target.parent)
            try:
                os.link(temporary, target)
            except FileExistsError:
                # NFS may answer so to the retransmission of a request that succeeded.
                return os.path.samefile(temporary, target)
            _sync(target.parent)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        target = self._path(name)
        temporary = self._temporary()
        try:
            yield temporary
            _sync(temporary)
            self._make_folder(target.parent)
            os.replace(temporary, target)
            _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def get(self, name: str) -> bytes:
        with open(self._checked_path(name), "rb") as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        return self._path(name).open("rb")

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self._path(name)
        if not path.exists():
            raise FileNotFoundError(f"{name} is not in the store {self.url}")
        yield path

    def list(self, folder: str) -> Iterator[Entry]:
        pending = [folder]
        while pending:
            parent = pending.pop()
            try:
                with os.scandir(self._checked_path(parent) if parent else self.root) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            folders = []
            for entry in entries:
                name = f"{parent}/{entry.name}" if parent else entry.name
                if name == _TEMPORARY:
                    continue
                if entry.is_symlink():
                    raise StoreError(_link_message(entry.path))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                    yield Entry(name, status.st_size, status.st_mtime)
                except FileNotFoundError:  # removed since it was listed
                    continue
            pending += reversed(folders)

    def size(self, name: str) -> int | None:
        try:
            return os.stat(self._checked_path(name)).st_size
        except FileNotFoundError:
            return None

    def move(self, name: str, target: str) -> None:
        destination = self._path(target)
        self._make_folder(destination.parent)
        source = self._path(name)
        os.replace(source, destination)
        _sync(destination.parent)
        _sync(source.parent)

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def leftovers(self, older_than: float) -> Iterator[Entry]:
        folder = self.root / _TEMPORARY
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                found = path.stat()
            except FileNotFoundError:  # its writer has just finished
                continue
            if time.time() - found.st_mtime > older_than:
                yield Entry(f"{_TEMPORARY}/{path.name}", found.st_size, found.st_mtime)

    def discard_leftovers(self, older_than: float) -> None:
        for entry in self.leftovers(older_than):
            (self.root / entry.name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return Path(self._checked_path(name))

    def _checked_path(self, name: str) -> str:
        """The path of a name, after checking that it stays inside the root."""
        check_name(name)
        path = f"{self.root}/{name}"
        parent = path.rpartition("/")[0]
        if parent not in self._checked:
            if os.path.realpath(parent) != parent:
                raise StoreError(_link_message(parent))
            if os.path.isdir(parent):
                self._checked.add(parent)
        if os.path.islink(path):
            raise StoreError(_link_message(path))
        return path

    def _temporary(self) -> Path:
        """A new name outside every listed folder, on the same file system."""
        folder = self.root / _TEMPORARY
        self._make_folder(folder)
        return folder / uuid.uuid4().hex

    def _make_folder(self, path: Path) -> None:
        """Make a folder and its parents, durably."""
        missing = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)


def open_store(url: str | Path) -> Store:
    """The store that a spec or a command line names: a folder, `file:///path`, or `s3://bucket/prefix`.

    Asks the store nothing yet. Raises StoreError for anything else.
    """
    text = str(url)
    check_url(text)
    for beginning, kind in _KINDS.items():
        if text.startswith(beginning):
            module, _, name = kind.partition(":")
            try:
                return getattr(import_module(module), name)(text)
            except ImportError as error:
                extra = beginning.removesuffix("://")
                raise StoreError(
                    f"the store {text} needs the package {error.name}: pip install 'sdesweep[{extra}]'"
                ) from error
    return LocalStore(text.removeprefix("file://"))


def check_url(text: str) -> None:
    """Raise StoreError for what names no store of any kind."""
    if not text.strip():
        raise StoreError("a store has a name: a folder such as 'runs', or s3://BUCKET/PREFIX")
    if "://" in text and not text.startswith(("file://", *_KINDS)):
        known = ", ".join(["a path", "file:///path", *(f"{kind}..." for kind in _KINDS)])
        raise StoreError(f"the store {text!r} is of no known kind; there are: {known}")
    if text in ("file://", *_KINDS):
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
            " and '-', beginning with a letter, a digit or '_'"
        )


def _link_message(path: str) -> str:
    return f"{path} is or leads through a symbolic link, which a store refuses below its root: move the data"


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
