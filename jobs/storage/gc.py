"""Finds what killed attempts and finished work left in a store, and removes it.

Nothing here counts for any run: data files that no marker names, snapshots of groups that are done, leases of
drivers that are gone, files that were being written, on request what was quarantined. Only what is older than
a limit, so that what is being written now stays. It must not judge whether committed files are whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jobs.paths import SweepPaths, attempt_range, lease_epoch, marker_range
from jobs.storage import lease
from jobs.storage.commit import DamageError, load_marker
from jobs.storage.snapshots import Finished
from jobs.store import PROBES, Entry, Store

DAY = 24 * 3600.0  # seconds
SAFE = 3600.0  # seconds that an attempt may take at most between its file and its marker

Kind = Literal["orphan", "snapshot", "lease", "temporary", "probe", "quarantine"]
KINDS: dict[Kind, str] = {
    "orphan": "data files that no marker names",
    "snapshot": "snapshots of groups that are done",
    "lease": "leases of drivers that are gone",
    "temporary": "files whose writers were killed",
    "probe": "files of checks of the store",
    "quarantine": "quarantined files",
}


@dataclass(frozen=True)
class Garbage:
    """A file that is of no use to any run."""

    kind: Kind
    name: str
    size: int  # bytes


@dataclass
class GcReport:
    """What was found, and removed unless it was a dry run; `dataclasses.asdict` makes it JSON."""

    store: str
    older_than: float  # seconds
    removed: bool
    found: list[Garbage] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)  # folders that a driver is at work in

    @property
    def bytes(self) -> int:
        return sum(item.size for item in self.found)

    def count(self) -> dict[Kind, tuple[int, int]]:
        """Files and bytes by kind, in the order of KINDS."""
        files = Counter(item.kind for item in self.found)
        return {
            kind: (files[kind], sum(item.size for item in self.found if item.kind == kind))
            for kind in KINDS
            if files[kind]
        }


def collect_garbage(
    store: Store,
    older_than: float = DAY,
    *,
    dry_run: bool = False,
    quarantine: bool = False,
    removing: Callable[[int], Callable[[int], None]] = lambda total: lambda more: None,
) -> GcReport:
    """Remove what no run needs and what is older than so many seconds, by the store's clock.

    quarantine: also remove quarantined files, which are kept for people to look at.
    removing: told how many files are to be removed; the function that it gives is told of each.

    With a limit below one hour, a sweep at which a driver is at work is left alone, with all that sweeps
    share: attempts could be between their file and their marker. Raises OSError.
    """
    report = GcReport(store.url, older_than, not dry_run)
    entries: dict[str, list[Entry]] = {}  # by the first folder: sweeps, references, ...
    for entry in store.list(""):
        entries.setdefault(entry.name.partition("/")[0], []).append(entry)
    states = {root: lease.inspect(store, SweepPaths(root)) for root in sorted(entries)}
    alive = {root for root, state in states.items() if state is not None and state.alive}
    if alive and older_than < SAFE:
        report.left_alone = [root for root, state in states.items() if root in alive or state is None]
    old = _Old(time.time() - older_than)
    for root, state in states.items():
        below = entries[root]
        if root in report.left_alone:
            continue
        report.found += _orphans(store, below, old)
        report.found += _snapshots(below, old)
        report.found += _leases(below, old, state)
        if root == PROBES:
            report.found += [Garbage("probe", entry.name, entry.size) for entry in filter(old, below)]
        if quarantine:
            moved = (entry for entry in below if "/quarantine/" in entry.name)
            report.found += [Garbage("quarantine", entry.name, entry.size) for entry in filter(old, moved)]
    advance = removing(len(report.found))
    for item in report.found if not dry_run else ():
        store.delete(item.name)
        advance(1)
    if not report.left_alone:
        left = store.leftovers(older_than)
        report.found += [Garbage("temporary", entry.name, entry.size) for entry in left]
        if not dry_run:
            store.discard_leftovers(older_than)
    return report


@dataclass(frozen=True)
class _Old:
    """Whether a file was last written before a moment."""

    moment: float  # seconds since 1970

    def __call__(self, entry: Entry) -> bool:
        return entry.modified < self.moment


def _orphans(store: Store, entries: Iterable[Entry], old: _Old) -> Iterator[Garbage]:
    """Data files of images and features that are not the ones that won."""
    attempts: dict[str, list[Entry]] = {}  # by the name of their marker
    markers = set()
    for entry in entries:
        if "/quarantine/" in entry.name or not ("/images/" in entry.name or "/features/" in entry.name):
            continue
        if marker_range(entry.name):
            markers.add(entry.name)
        elif attempt_range(entry.name):
            attempts.setdefault(f"{entry.name.rpartition('-')[0]}.json", []).append(entry)
    for marker, found in attempts.items():
        if marker in markers:
            if len(found) == 1:  # its own; were it another's, the marker would be damaged, which runs mend
                continue
            named = _named(store, marker)
            found = [entry for entry in found if named is not None and entry.name != named]
        yield from (Garbage("orphan", entry.name, entry.size) for entry in found if old(entry))


def _named(store: Store, marker: str) -> str | None:
    """The file that a marker names; None where it cannot be told."""
    samples = marker_range(marker)
    assert samples is not None  # the caller has looked
    try:
        return f"{marker.rpartition('/')[0]}/{load_marker(store, marker, samples).file}"
    except (DamageError, FileNotFoundError):
        return None


def _snapshots(entries: Sequence[Entry], old: _Old) -> Iterator[Garbage]:
    """Snapshots of groups whose images are committed."""
    done: dict[str, list[range]] = {}  # by configuration
    for entry in entries:
        root, separator, _ = entry.name.partition("/images/")
        if separator and (samples := marker_range(entry.name)):
            done.setdefault(root, []).append(samples)
    finished = {root: Finished(ranges) for root, ranges in done.items()}
    for entry in filter(old, entries):
        root, separator, _ = entry.name.partition("/snapshots/")
        found = attempt_range(entry.name) if separator else None
        if found and root in finished and found[0] in finished[root]:
            yield Garbage("snapshot", entry.name, entry.size)


def _leases(entries: Iterable[Entry], old: _Old, state: lease.LeaseState | None) -> Iterator[Garbage]:
    """All epochs, but for the newest while its driver lives."""
    for entry in filter(old, entries):
        epoch = lease_epoch(entry.name)
        if epoch is None or state is None:
            continue
        if epoch < state.holder.epoch or not state.alive:
            yield Garbage("lease", entry.name, entry.size)
