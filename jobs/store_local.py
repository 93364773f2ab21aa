"""A store in a folder: of this machine, or of a file system that several machines share.

Every write goes to a file beside all named ones and is then renamed or linked, and made to survive a power
cut. It must not know markers or sweeps.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jobs.store import Entry, Store, StoreError, check_name

_TEMPORARY = ".temporary"


class LocalStore(Store):
    """A folder on this machine or on a shared file system that knows hard links.

    Symbolic links below the root are refused, so that no name reaches outside it.
    """

    def __init__(self, root: str | Path) -> None:
        """root: a path, `~` for the user's own folder, or `file:///path`."""
        named = os.path.expanduser(str(root).removeprefix("file://"))
        self.root = Path(os.path.realpath(named))
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


def _link_message(path: str) -> str:
    return f"{path} is or leads through a symbolic link, which a store refuses below its root: move the data"


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
