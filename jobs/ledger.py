"""What storage says is done: one listing of a configuration, its markers, and the sizes of their files.

There is no database and no memory of a coordinator: a scan is the truth. Linear in the number of files.
This module must not read images or features, and must not plan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.commit import DamageError, Marker, check_size, committed_names, quarantine, read_marker
from jobs.paths import ConfigurationPaths, RangeFolder, attempt_range, marker_range
from jobs.store import Store


@dataclass(frozen=True)
class Damage:
    """A range that storage wrongly calls done: the files to be moved away, and why."""

    samples: range
    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Failure:
    """A shard that was set aside because its code failed."""

    samples: range
    attempts: int
    error: str  # traceback


@dataclass(frozen=True)
class ConfigurationLedger:
    """State of one configuration. Markers are in index order and never overlap."""

    images: list[Marker]
    features: dict[str, list[Marker]]  # by extractor key
    damaged: list[Damage] = field(default_factory=list)
    failed: list[range] = field(default_factory=list)
    snapshots: int = 0  # files of unfinished groups

    @property
    def done(self) -> list[range]:
        """Ranges with images."""
        return [marker.samples for marker in self.images]

    @property
    def without_features(self) -> list[range]:
        """Ranges with images that lack features of some extractor: each is an assignment of its own."""
        complete = [{marker.first for marker in markers} for markers in self.features.values()]
        return [done for done in self.done if any(done.start not in firsts for firsts in complete)]

    @property
    def count(self) -> int:
        """Samples with images."""
        return sum(len(done) for done in self.done)


def scan(store: Store, paths: ConfigurationPaths, extractors: Sequence[str]) -> ConfigurationLedger:
    """What is done of a configuration, for the extractors with these keys."""
    listing = Listing(store, paths.root)
    images, damaged = listing.committed(paths.images)
    digests = {marker.samples: marker.digest for marker in images}
    features: dict[str, list[Marker]] = {}
    for key in extractors:
        found, broken = listing.committed(paths.features(key))
        damaged += broken
        features[key] = []
        for marker in found:
            if marker.inputs.get("images", "") == digests.get(marker.samples):
                features[key].append(marker)
            else:
                damaged.append(_stale(paths.features(key), marker))
    return ConfigurationLedger(
        images=images,
        features=features,
        damaged=damaged,
        failed=sorted(listing.markers(paths.failed), key=lambda samples: samples.start),
        snapshots=len(listing.attempts(paths.snapshots)),
    )


def _stale(folder: RangeFolder, marker: Marker) -> Damage:
    names = committed_names(folder, marker)
    return Damage(marker.samples, names, "made from images that are not there any more")


def mend(store: Store, root: str, damaged: Sequence[Damage]) -> list[str]:
    """Move what is damaged to the quarantine below `root`, so that it is made again; a line for each."""
    lines = []
    for damage in damaged:
        incident = quarantine(store, root, damage.names, damage.reason)
        lines.append(f"{damage.names[0]}: {damage.reason}; quarantined as {incident}")
    return lines


def set_aside(store: Store, paths: ConfigurationPaths, failure: Failure) -> None:
    """Record that a shard's code failed for good, in this run."""
    samples = failure.samples
    record = {
        "first": samples.start,
        "last": samples.stop,
        "attempts": failure.attempts,
        "error": failure.error,
    }
    store.put(paths.failed.marker(samples), json.dumps(record, indent=1).encode())


def failures(store: Store, paths: ConfigurationPaths) -> list[Failure]:
    """The shards that were set aside, in index order."""
    found = []
    for entry in store.list(paths.failed.root):
        record = json.loads(store.get(entry.name))
        found.append(Failure(range(record["first"], record["last"]), record["attempts"], record["error"]))
    return sorted(found, key=lambda failure: failure.samples.start)


def clear_failures(store: Store, paths: ConfigurationPaths) -> int:
    """Forget the shards that were set aside, so that a new run tries them again; returns their number."""
    names = [entry.name for entry in store.list(paths.failed.root)]
    for name in names:
        store.delete(name)
    return len(names)


class Listing:
    """All names and sizes below a folder, sorted by the range folder that they belong to."""

    def __init__(self, store: Store, root: str) -> None:
        self._store = store
        self._sizes: dict[str, dict[str, int]] = {}
        for entry in store.list(root):
            self._sizes.setdefault(entry.name.rsplit("/", 2)[0], {})[entry.name] = entry.size

    def folders(self, parent: str) -> list[str]:
        """Names of the range folders right below a folder."""
        return sorted(
            root.removeprefix(f"{parent}/") for root in self._sizes if root.startswith(f"{parent}/")
        )

    def markers(self, folder: RangeFolder) -> list[range]:
        """Ranges of the markers in a folder."""
        found = map(marker_range, self._sizes.get(folder.root, ()))
        return [samples for samples in found if samples]

    def attempts(self, folder: RangeFolder) -> list[str]:
        """Names of the data files in a folder."""
        return [name for name in self._sizes.get(folder.root, ()) if attempt_range(name)]

    def committed(self, folder: RangeFolder) -> tuple[list[Marker], list[Damage]]:
        """Whole markers in index order, and what is damaged or overlaps them."""
        sizes = self._sizes.get(folder.root, {})
        good: list[Marker] = []
        damaged: list[Damage] = []
        found = sorted(self.markers(folder), key=lambda samples: (samples.start, -samples.stop))
        contents = self._store.read_all(map(folder.marker, found))
        for samples, (name, content) in zip(found, contents, strict=True):
            if content is None:  # moved away since it was listed
                continue
            try:
                marker = read_marker(name, samples, content)
                names = (name, folder.beside(name, marker.file))
                check_size(marker, names, sizes.get(names[1]))
                if good and samples.start < good[-1].last:
                    raise DamageError(f"overlaps {folder.marker(good[-1].samples)}", names)
                good.append(marker)
            except DamageError as error:
                damaged.append(Damage(samples, error.names, str(error)))
        return good, damaged
