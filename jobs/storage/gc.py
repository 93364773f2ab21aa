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
from itertools import groupby
from typing import Literal

from jobs.paths import (
    PROBES,
    SweepPaths,
    attempt_range,
    lease_epoch,
    marker_range,
    range_stem,
)
from jobs.storage import lease
from jobs.storage.commit import DamageError, load_marker
from jobs.storage.snapshots import Finished
from jobs.store import Entry, Store

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
    if older_than < SAFE:
        report.left_alone = _at_work(store)
    search = _Search(store, time.time() - older_than, quarantine)
    for root, below in _by_folder(store.list(""), 0):
        if root not in report.left_alone:
            for _, entries in _by_folder(below, 1):
                report.found += search.folder(root, entries)
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


def _at_work(store: Store) -> list[str]:
    """Folders that drivers may be writing to: those of their sweeps, and those that sweeps share."""
    roots = sorted({entry.name.partition("/")[0] for entry in store.list("")})
    states = {root: lease.inspect(store, SweepPaths(root)) for root in roots}
    alive = {root for root, state in states.items() if state is not None and state.alive}
    return [root for root, state in states.items() if root in alive or state is None] if alive else []


def _by_folder(entries: Iterable[Entry], depth: int) -> Iterator[tuple[str, Iterator[Entry]]]:
    """Cut a listing where its folder at a depth changes; nothing of it is held."""
    return groupby(entries, key=lambda entry: "/".join(entry.name.split("/", depth + 1)[: depth + 1]))


class _Search:
    """Tells garbage while a listing goes by, of which it holds the files of one range at a time."""

    def __init__(self, store: Store, moment: float, quarantine: bool) -> None:
        """moment: seconds since 1970; what was written later stays. quarantine: is garbage too."""
        self._store = store
        self._moment = moment
        self._quarantine = quarantine

    def folder(self, root: str, entries: Iterable[Entry]) -> Iterator[Garbage]:
        """Garbage in a folder of a sweep, or of what sweeps share; in that of a configuration, say."""
        done: list[range] = []  # samples with images, which are listed before snapshots
        finished: Finished | None = None
        for stem, files in groupby(entries, key=lambda entry: range_stem(entry.name) or entry.name):
            found = list(files)
            if root == PROBES:
                yield from self._old("probe", found)
            elif "/quarantine/" in stem:
                yield from self._old("quarantine", found if self._quarantine else ())
            elif "/snapshots/" in stem:
                finished = finished or Finished(done)
                yield from self._old("snapshot", _needless(found, finished))
            elif "/images/" in stem or "/features/" in stem:
                marker = next((entry.name for entry in found if marker_range(entry.name)), None)
                yield from self._orphans(found, marker or f"{stem}.json", marker is not None)
                if marker and "/images/" in stem:
                    _extend(done, marker_range(marker) or range(0))
            elif lease_epoch(stem) is not None:
                yield from self._old("lease", self._ended(root, found))

    def _old(self, kind: Kind, entries: Iterable[Entry]) -> Iterator[Garbage]:
        return (Garbage(kind, each.name, each.size) for each in entries if each.modified < self._moment)

    def _orphans(self, found: Sequence[Entry], marker: str, listed: bool) -> Iterator[Garbage]:
        """Data files of one range that are not the one that won."""
        attempts = [entry for entry in found if attempt_range(entry.name)]
        if listed:
            if len(attempts) <= 1:  # its own; were it another's, the marker would be damaged, which runs mend
                return
            named = self._named(marker)
            attempts = [entry for entry in attempts if named is not None and entry.name != named]
        orphans = list(self._old("orphan", attempts))
        if listed or (orphans and self._store.size(marker) is None):
            yield from orphans

    def _named(self, marker: str) -> str | None:
        """The file that a marker names; None where it cannot be told."""
        samples = marker_range(marker)
        assert samples is not None  # the caller has looked
        try:
            return f"{marker.rpartition('/')[0]}/{load_marker(self._store, marker, samples).file}"
        except (DamageError, FileNotFoundError):
            return None

    def _ended(self, root: str, found: Iterable[Entry]) -> Iterator[Entry]:
        """Files of a lease: all epochs, but for the newest while its driver lives."""
        state = lease.inspect(self._store, SweepPaths(root))
        for entry in found:
            epoch = lease_epoch(entry.name)
            if state and epoch is not None and (epoch < state.holder.epoch or not state.alive):
                yield entry


def _needless(found: Iterable[Entry], finished: Finished) -> Iterator[Entry]:
    """Snapshots of groups whose images are committed."""
    for entry in found:
        attempt = attempt_range(entry.name)
        if attempt and attempt[0] in finished:
            yield entry


def _extend(done: list[range], samples: range) -> None:
    """Add a range that begins no earlier than those before it; neighbours become one."""
    if done and samples.start <= done[-1].stop:
        done[-1] = range(done[-1].start, max(done[-1].stop, samples.stop))
    else:
        done.append(samples)
