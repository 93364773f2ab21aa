"""The markers of a folder of ranges, held as numbers: fifty bytes each, where whole ones take kilobytes.

A module of its own because a million of them are looked at in one process: what is asked of all (ranges,
digests) is kept, and a whole marker is read again by whoever wants it. It must not know configurations.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import overload

import numpy as np

from jobs.digests import DIGEST_BYTES, add_packed
from jobs.paths import RangeFolder, attempt_range, marker_range
from jobs.storage.commit import DamageError, Marker, check_size, committed_names, load_marker, read_marker
from jobs.store import Store


@dataclass(frozen=True)
class Damage:
    """A range that storage wrongly calls done: the files to be moved away, and why."""

    samples: range
    names: tuple[str, ...]
    reason: str


class Markers(Sequence[Marker]):
    """Whole markers of a folder, in index order. Going through them reads each again, one at a time.

    Reading raises DamageError where one is not there any more, or is not what it was.

    Attributes:
        first, last: (markers,) int64: the ranges; last is exclusive.
        digests: (markers, 32) uint8: of all steps of each.
    """

    def __init__(
        self, store: Store, folder: RangeFolder, first: np.ndarray, last: np.ndarray, digests: np.ndarray
    ) -> None:
        self.first, self.last, self.digests = first, last, digests
        self._store = store
        self._folder = folder

    @property
    def ranges(self) -> list[range]:
        return list(map(range, self.first.tolist(), self.last.tolist()))

    @property
    def samples(self) -> int:
        """How many samples all have together."""
        return int((self.last - self.first).sum())

    @property
    def digest(self) -> str:
        """Of the rows of all."""
        return add_packed(self.digests)

    def before(self, samples: int) -> Markers:
        """Those that begin before a sample."""
        return self.where(self.first < samples)

    def where(self, chosen: np.ndarray) -> Markers:
        """Some of them; chosen: (markers,) bool, or their numbers in ascending order."""
        return Markers(self._store, self._folder, self.first[chosen], self.last[chosen], self.digests[chosen])

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[Marker]:
        ranges = self.ranges
        contents = self._store.read_all(map(self._folder.marker, ranges))
        for samples, (name, content) in zip(ranges, contents, strict=True):
            if content is None:
                raise DamageError(f"{name} is not there any more", [name])
            yield read_marker(name, samples, content)

    @overload
    def __getitem__(self, number: int) -> Marker: ...

    @overload
    def __getitem__(self, number: slice) -> Markers: ...

    def __getitem__(self, number: int | slice) -> Marker | Markers:
        if isinstance(number, slice):
            return self.where(np.arange(len(self))[number])
        samples = range(int(self.first[number]), int(self.last[number]))
        name = self._folder.marker(samples)
        try:
            return load_marker(self._store, name, samples)
        except FileNotFoundError as error:
            raise DamageError(f"{name} is not there any more", [name]) from error


class Committed:
    """What a folder of ranges holds, taken in one subfolder after the other, in ascending order."""

    def __init__(self, store: Store, folder: RangeFolder) -> None:
        self.damaged: list[Damage] = []
        self.orphans: list[str] = []  # data files that no marker names
        self._store = store
        self._folder = folder
        self._first, self._last = array("q"), array("q")
        self._digests, self._made_of = bytearray(), bytearray()

    @classmethod
    def of(cls, store: Store, folder: RangeFolder) -> Committed:
        """All that is in a folder now."""
        return committed(store, folder.root).get(folder.root, cls(store, folder))

    @property
    def markers(self) -> Markers:
        """The whole ones."""
        first, last = (np.array(numbers, dtype=np.int64) for numbers in (self._first, self._last))
        return Markers(self._store, self._folder, first, last, _rows(self._digests))

    def add(self, sizes: Mapping[str, int]) -> None:
        """Take in a subfolder: name -> bytes of its files."""
        found = ((marker_range(name), name) for name in sizes)
        listed = sorted(
            ((samples, name) for samples, name in found if samples),
            key=lambda item: (item[0].start, -item[0].stop),
        )
        unnamed = {name for name in sizes if attempt_range(name)}
        contents = self._store.read_all(name for _, name in listed)
        for (samples, _), (name, content) in zip(listed, contents, strict=True):
            if content is None:  # moved away since it was listed
                continue
            try:
                marker = self._whole(name, samples, content, sizes)
            except DamageError as error:
                self.damaged.append(Damage(samples, error.names, str(error)))
                unnamed.difference_update(error.names)
            else:
                self._keep(marker)
                unnamed.discard(self._folder.beside(name, marker.file))
        self.orphans += sorted(unnamed)

    def of_images(self, images: Markers) -> Markers:
        """Whole markers of features that were made from these images; the others become damage."""
        markers, made_of = self.markers, _rows(self._made_of)
        same = np.zeros(len(markers), dtype=bool)
        if len(images):
            place = np.searchsorted(images.first, markers.first).clip(max=len(images) - 1)
            same = (images.first[place] == markers.first) & (images.last[place] == markers.last)
            same &= (images.digests[place] == made_of).all(axis=1)
        for marker in markers.where(~same):
            names = committed_names(self._folder, marker)
            self.damaged.append(Damage(marker.samples, names, "made from images that are not there any more"))
        return markers.where(same)

    def _whole(self, name: str, samples: range, content: bytes, sizes: Mapping[str, int]) -> Marker:
        """Raise DamageError unless all that can be told without reading the file is as it should be."""
        marker = read_marker(name, samples, content)
        try:
            in_place = self._folder.marker(samples) == name
        except ValueError as error:
            raise DamageError(f"{name} is no marker: {error}", [name]) from error
        if not in_place:
            raise DamageError(f"{name} is in the wrong folder", [name])
        file = self._folder.beside(name, marker.file)
        size = sizes.get(file)
        if size != marker.size:
            size = self._store.size(file)  # it may have been written since it was listed
        check_size(marker, (name, file), size)
        if self._last and samples.start < self._last[-1]:
            before = self._folder.marker(range(self._first[-1], self._last[-1]))
            raise DamageError(f"overlaps {before}", (name, file))
        return marker

    def _keep(self, marker: Marker) -> None:
        self._first.append(marker.first)
        self._last.append(marker.last)
        self._digests += bytes.fromhex(marker.digest)
        self._made_of += bytes.fromhex(marker.inputs.get("images", "")).rjust(DIGEST_BYTES, b"\0")


def _rows(digests: bytearray) -> np.ndarray:
    """(digests, 32) uint8."""
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def subfolders(store: Store, root: str) -> Iterator[tuple[str, dict[str, int]]]:
    """The files below a folder, subfolder by subfolder: the folder of ranges it is of, name -> bytes."""
    for parent, entries in groupby(store.list(root), key=lambda entry: entry.name.rpartition("/")[0]):
        yield parent.rpartition("/")[0], {entry.name: entry.size for entry in entries}


def committed(store: Store, root: str) -> dict[str, Committed]:
    """All folders of ranges below a folder, or it itself, by their names."""
    found: dict[str, Committed] = {}
    for folder, sizes in subfolders(store, root):
        found.setdefault(folder, Committed(store, RangeFolder(folder))).add(sizes)
    return found
