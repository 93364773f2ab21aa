"""Exactly once: how a range of samples becomes done, however many attempts there are.

An attempt writes a file under a name of its own, then publishes a marker under the name of the range, which
succeeds for the first one only. Done means: the marker is there and its file has the size it names.
This module must not know what is in the files, nor how the work was shared out.
"""

from __future__ import annotations

import io
import json
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.digests import add_digests
from jobs.paths import RangeFolder, attempt_range, marker_range, quarantine_record, quarantined
from jobs.specs.sections import Digest
from jobs.store import Store


class OverlapError(Exception):
    """A range shares samples with one that is already done under another name."""


class DamageError(Exception):
    """Storage says that something is done, but it is not whole. `names` are the files to be quarantined."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Execution(_Record):
    """What else than the configuration the bits of floating-point results depend on."""

    device: str  # "cpu AVX2", "NVIDIA H100 80GB HBM3"
    torch: str
    threads: int
    micro_batch: int | None
    precision: str
    sampler_version: str
    plugins: dict[str, str] = {}  # networks and extractors of other packages -> package and version


class GroupRecord(_Record):
    """Samples [first, last) that passed through the sampler as one batch."""

    first: int
    last: int
    evaluations: int = 0  # network evaluations of the batch
    clipped: dict[int, float] = {}  # step -> fraction of values that clipping changed
    diagnostics: dict[str, float] = {}


class Content(_Record):
    """What is in a committed file; `marker` adds where it is."""

    version: Literal[1] = 1
    kind: Literal["images", "features"]
    fingerprint: str  # of the configuration; content hash of the data set for reference features
    first: int
    last: int  # exclusive
    rows: int
    digests: dict[int, Digest]  # step -> digest of decoded pixels or features; see jobs/digests.py
    inputs: dict[str, Digest | Literal[""]]  # of what it was made from
    execution: Execution
    groups: tuple[GroupRecord, ...]
    evaluations: int = 0  # network evaluations x images
    seconds: dict[str, float] = {}  # by phase, all attempts together as far as snapshots know

    @property
    def samples(self) -> range:
        return range(self.first, self.last)

    @property
    def steps(self) -> tuple[int, ...]:
        """In the order of the file."""
        return tuple(self.digests)

    @property
    def digest(self) -> str:
        """Of all steps."""
        return add_digests(self.digests.values())


class Marker(Content):
    """Content and the file that holds it."""

    file: str  # beside the marker
    size: int  # bytes
    attempt: str
    host: str
    committed: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Commit:
    """The marker that stands, and whether this attempt's own."""

    marker: Marker
    won: bool


def commit(store: Store, folder: RangeFolder, content: Content, write: Callable[[Path], None]) -> Commit:
    """Write a file and publish its marker; the first attempt of a range wins, the others delete their file.

    write: fills the local path that it is given.
    Raises OverlapError when another range that is done shares samples with this one.
    """
    attempt = uuid.uuid4().hex
    name = folder.attempt(content.samples, attempt, "parquet")
    with store.writing(name) as path:
        write(path)
        size = path.stat().st_size
    try:
        refuse_overlap(store, folder, content.samples)
    except OverlapError:
        store.delete(name)
        raise
    marker = Marker(
        **dict(content),
        file=name.rpartition("/")[2],
        size=size,
        attempt=attempt,
        host=socket.gethostname(),
        committed=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if store.put_if_absent(folder.marker(content.samples), marker.model_dump_json().encode()):
        return Commit(marker, True)
    store.delete(name)
    return Commit(load_marker(store, folder.marker(content.samples), content.samples), False)


def refuse_overlap(store: Store, folder: RangeFolder, samples: range) -> None:
    """Raise OverlapError when a marker of another range shares samples with this one."""
    for subfolder in folder.neighbours(samples):
        for entry in store.list(subfolder):
            other = marker_range(entry.name)
            if other and other != samples and other.start < samples.stop and samples.start < other.stop:
                raise OverlapError(
                    f"[{samples.start}, {samples.stop}) overlaps what is done already, {entry.name}; "
                    "run again, so that only the gaps are planned"
                )


def load_marker(store: Store, name: str, samples: range) -> Marker:
    """The marker of a range. Raises FileNotFoundError, or DamageError when it cannot be what it should be."""
    return read_marker(name, samples, store.get(name))


def read_marker(name: str, samples: range, content: bytes) -> Marker:
    """The marker of a range from its content. Raises DamageError when it cannot be what it should be."""
    try:
        marker = Marker.model_validate_json(content)
    except ValidationError as error:
        raise DamageError(f"{name} is no marker: {error.errors()[0]['msg']}", [name]) from error
    if marker.samples != samples:
        raise DamageError(f"{name} speaks of [{marker.first}, {marker.last})", [name])
    if marker.rows != len(samples) * len(marker.digests):
        raise DamageError(f"{name} says {marker.rows:,} rows, of {len(marker.digests)} steps", [name])
    file = attempt_range(marker.file)
    if "/" in marker.file or file is None or file[0] != samples:
        raise DamageError(f"{name} names the file {marker.file!r}, which is not of its range", [name])
    return marker


def check_size(marker: Marker, names: Sequence[str], size: int | None) -> None:
    """Raise DamageError unless the marker's file has its size (None: it is missing). names: of both."""
    if size != marker.size:
        found = "is missing" if size is None else f"has {size} bytes, its marker says {marker.size}"
        raise DamageError(f"{marker.file} {found}", names)


@contextmanager
def reading(store: Store, folder: RangeFolder, marker: Marker) -> Iterator[BinaryIO]:
    """The content of a committed file; whatever goes wrong with it inside the block is damage.

    Storage that cannot be reached raises OSError before that, and is no damage.
    Raises DamageError.
    """
    names = committed_names(folder, marker)
    try:
        file = io.BytesIO(store.get(names[1]))
    except FileNotFoundError as error:
        raise DamageError(f"{marker.file} is missing", names) from error
    try:
        yield file
    except Exception as error:  # readers of Parquet and PNG raise dozens of types for damaged files
        raise DamageError(f"{marker.file} cannot be read: {error!r}", names) from error


class Rows(Protocol):
    """Rows of one step, images or features."""

    @property
    def step(self) -> int: ...

    @property
    def index(self) -> np.ndarray:
        """(rows,) int64."""

    @property
    def digest(self) -> str: ...


def check_rows(folder: RangeFolder, marker: Marker, rows: Rows) -> None:
    """Raise DamageError unless the rows of a step are the marker's samples in order and have its digest."""
    if not np.array_equal(rows.index, np.arange(marker.first, marker.last)):
        problem = f"does not hold just the samples [{marker.first}, {marker.last})"
    elif rows.digest != marker.digests.get(rows.step):
        problem = "does not have the digest that its marker says"
    else:
        return
    raise DamageError(f"{marker.file} {problem} at step {rows.step}", committed_names(folder, marker))


def load_committed(store: Store, folder: RangeFolder, samples: range) -> Marker | None:
    """The marker of a range that is done, or None. Raises DamageError when marker or file is not whole."""
    try:
        marker = load_marker(store, folder.marker(samples), samples)
    except FileNotFoundError:
        return None
    names = committed_names(folder, marker)
    check_size(marker, names, store.size(names[1]))
    return marker


def data_name(folder: RangeFolder, marker: Marker) -> str:
    """Full name of the file that a marker names."""
    return folder.beside(folder.marker(marker.samples), marker.file)


def committed_names(folder: RangeFolder, marker: Marker) -> tuple[str, str]:
    """Full names of a marker and its file."""
    return folder.marker(marker.samples), data_name(folder, marker)


def quarantine(store: Store, root: str, names: Sequence[str], reason: str) -> str:
    """Move files to the quarantine folder below `root`, and say why; returns the incident's name.

    Markers go first, so that they no longer count. A name that is gone is no error: somebody else moved it.
    """
    incident = uuid.uuid4().hex
    record = {
        "reason": reason,
        "files": list(names),
        "found": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.put(quarantine_record(root, incident), json.dumps(record, indent=1).encode())
    for name in sorted(names, key=lambda name: marker_range(name) is None):
        try:
            store.move(name, quarantined(root, name, incident))
        except FileNotFoundError:
            continue
    return incident
