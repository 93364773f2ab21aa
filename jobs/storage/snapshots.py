"""State of unfinished groups, so that interrupted work goes on where it stopped, bit for bit.

A snapshot is one group's: the sampler's whole state, or its finished pixels, under a name of the attempt that
wrote it. It is used by any later attempt with the same execution identity, also for a shard cut differently,
and removed when the group's images are committed. This module must not know samplers.
"""

from __future__ import annotations

import bisect
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from jobs.paths import RangeFolder, attempt_range
from jobs.storage.commit import Execution
from jobs.store import Store
from sdesampling.samplers.base import State

_RECORD = "snapshot"
_CHECKSUM = "crc32"  # against accidents, for minutes: six times as fast as a cryptographic digest


@dataclass
class Progress:
    """How far a group has come."""

    group: range
    state: State
    finished: bool = False  # the last step is made and its pixels are there; the tensors are gone
    pixels: dict[int, Tensor] = field(default_factory=dict)  # step -> (batch, channels, height, width) uint8
    clipped: dict[int, float] = field(
        default_factory=dict
    )  # step -> fraction of values that clipping changed
    diagnostics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # of sampling, over all attempts


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    fingerprint: str
    execution: Execution
    first: int
    last: int
    step: int
    evaluations: int
    finished: bool
    clipped: dict[int, float]
    diagnostics: dict[str, float]
    seconds: float


class Snapshots:
    """Snapshots of one configuration as one attempt sees and writes them."""

    def __init__(
        self, store: Store, folder: RangeFolder, fingerprint: str, execution: Execution, attempt: str
    ) -> None:
        self._store = store
        self._folder = folder
        self._fingerprint = fingerprint
        self._execution = execution
        self._attempt = attempt
        self._superseded: dict[range, list[str]] = {}

    def save(self, progress: Progress) -> None:
        """Write a group's progress, replacing this attempt's last snapshot of it and those it continued."""
        record = _Record(
            fingerprint=self._fingerprint,
            execution=self._execution,
            first=progress.group.start,
            last=progress.group.stop,
            step=progress.state.step,
            evaluations=progress.state.evaluations,
            finished=progress.finished,
            clipped=progress.clipped,
            diagnostics=progress.diagnostics,
            seconds=progress.seconds,
        ).model_dump_json()
        tensors = {f"state.{name}": tensor for name, tensor in progress.state.tensors.items()}
        tensors |= {f"pixels.{step}": pixels for step, pixels in progress.pixels.items()}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {_RECORD: record, _CHECKSUM: _checksum(record, tensors)}
        name = self._folder.attempt(progress.group, self._attempt, "safetensors")
        with self._store.writing(name) as path:
            safetensors.torch.save_file(tensors, path, metadata)
        for older in self._superseded.pop(progress.group, []):
            if older != name:
                self._store.delete(older)

    def load(self, groups: Iterable[range]) -> tuple[dict[range, Progress], list[str]]:
        """The furthest whole snapshot of each group, on the CPU, and a note for each that was ignored."""
        wanted = set(groups)
        best: dict[range, Progress] = {}
        notes: list[str] = []
        for name, group in self._names(wanted):
            try:
                progress = self._read(name, group)
            except FileNotFoundError:  # its group was committed since it was listed
                continue
            except (safetensors.SafetensorError, ValidationError, ValueError) as error:
                notes.append(f"ignored the snapshot {name}: {error}")
                continue
            self._superseded.setdefault(group, []).append(name)
            if group not in best or _reached(progress) > _reached(best[group]):
                best[group] = progress
        return best, notes

    def remove(self, groups: Iterable[range]) -> None:
        """Remove all snapshots of these groups, whichever attempt wrote them."""
        for name, _ in self._names(set(groups)):
            self._store.delete(name)

    def _names(self, groups: set[range]) -> list[tuple[str, range]]:
        subfolders = {self._folder.marker(group).rpartition("/")[0] for group in groups}
        entries = (entry for subfolder in subfolders for entry in self._store.list(subfolder))
        parsed = ((entry.name, attempt_range(entry.name)) for entry in entries)
        return sorted((name, found[0]) for name, found in parsed if found and found[0] in groups)

    def _read(self, name: str, group: range) -> Progress:
        data = self._store.get(name)
        tensors = safetensors.torch.load(data)
        metadata = _metadata(data)
        text = metadata.get(_RECORD, "")
        record = _Record.model_validate_json(text)
        if metadata.get(_CHECKSUM) != _checksum(text, tensors):
            raise ValueError("its content does not have its checksum")
        if (record.fingerprint, record.first, record.last) != (self._fingerprint, group.start, group.stop):
            raise ValueError("it is of another group or configuration")
        if record.execution != self._execution:
            raise ValueError(
                f"it was made with {record.execution}, this worker has {self._execution}: bits would be mixed"
            )
        state = {key.removeprefix("state."): t for key, t in tensors.items() if key.startswith("state.")}
        return Progress(
            group=group,
            state=State(record.step, state, record.evaluations),
            finished=record.finished,
            pixels={
                int(key.removeprefix("pixels.")): t for key, t in tensors.items() if key.startswith("pixels.")
            },
            clipped=record.clipped,
            diagnostics=record.diagnostics,
            seconds=record.seconds,
        )


def remove_finished(store: Store, folder: RangeFolder, done: Iterable[range]) -> int:
    """Remove snapshots of groups inside `done` ranges, left by late attempts; returns their number."""
    names = [(entry.name, attempt_range(entry.name)) for entry in store.list(folder.root)]
    if not names:
        return 0
    finished = Finished(done)
    removed = 0
    for name, found in names:
        if found and found[0] in finished:
            store.delete(name)
            removed += 1
    return removed


class Finished:
    """The groups whose images are committed: those inside a range that is done."""

    def __init__(self, done: Iterable[range]) -> None:
        self._done = sorted(done, key=lambda samples: samples.start)

    def __contains__(self, group: range) -> bool:
        position = bisect.bisect_right(self._done, group.start, key=lambda samples: samples.start) - 1
        return position >= 0 and group.stop <= self._done[position].stop


def _reached(progress: Progress) -> tuple[bool, int]:
    return progress.finished, progress.state.step


def _metadata(data: bytes) -> Mapping[str, str]:
    """Metadata of a safetensors file that is in memory: JSON after eight bytes of its length."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _checksum(record: str, tensors: Mapping[str, Tensor]) -> str:
    checksum = zlib.crc32(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum = zlib.crc32(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode(), checksum)
        checksum = zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
