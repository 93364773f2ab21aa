"""What storage says is done: one listing of a configuration, its markers, and the sizes of their files.

There is no database and no memory of a coordinator: a scan is the truth. Linear in the number of files; what
it holds is fifty bytes for each marker. This module must not read images or features, and must not plan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.paths import ConfigurationPaths, RangeFolder, attempt_range, marker_range
from jobs.storage.commit import quarantine
from jobs.storage.markers import Committed, Damage, Markers, subfolders
from jobs.store import Store


@dataclass(frozen=True)
class Failure:
    """A shard that was set aside because its code failed."""

    samples: range
    attempts: int
    error: str  # traceback


@dataclass(frozen=True)
class ConfigurationLedger:
    """State of one configuration. Markers are in index order and never overlap."""

    images: Markers
    features: dict[str, Markers]  # by extractor key
    damaged: list[Damage]
    orphans: list[str]  # data files that no marker names
    failed: list[range]
    snapshots: int  # files of unfinished groups

    @property
    def done(self) -> list[range]:
        """Ranges with images."""
        return self.images.ranges

    @property
    def without_features(self) -> Markers:
        """Images that lack features of some extractor: each range is an assignment of its own."""
        bare = np.zeros(len(self.images), dtype=bool)
        for markers in self.features.values():
            bare |= ~np.isin(self.images.first, markers.first)
        return self.images.where(bare)

    @property
    def count(self) -> int:
        """Samples with images."""
        return self.images.samples


def scan(
    store: Store, paths: ConfigurationPaths, extractors: Sequence[str] | None = None
) -> ConfigurationLedger:
    """What is done of a configuration, for the extractors with these keys; None: all that there are."""
    wanted = None if extractors is None else {paths.features(key).root for key in extractors}
    images = Committed(store, paths.images)
    features: dict[str, Committed] = {}
    failed: list[range] = []
    snapshots = 0
    for folder, sizes in subfolders(store, paths.root):
        if folder == paths.images.root:
            images.add(sizes)
        elif folder == paths.snapshots.root:
            snapshots += sum(attempt_range(name) is not None for name in sizes)
        elif folder == paths.failed.root:
            failed += [samples for samples in map(marker_range, sizes) if samples]
        elif folder.startswith(f"{paths.features_folder}/") if wanted is None else folder in wanted:
            features.setdefault(folder, Committed(store, RangeFolder(folder))).add(sizes)
    keys = sorted(folder.rpartition("/")[2] for folder in features) if extractors is None else extractors
    by_key = {
        key: features.get(paths.features(key).root, Committed(store, paths.features(key))) for key in keys
    }
    made = {key: found.of_images(images.markers) for key, found in by_key.items()}
    folders = [images, *by_key.values()]
    return ConfigurationLedger(
        images=images.markers,
        features=made,
        damaged=[damage for folder in folders for damage in folder.damaged],
        orphans=[name for folder in folders for name in folder.orphans],
        failed=sorted(failed, key=lambda samples: samples.start),
        snapshots=snapshots,
    )


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
    for name, content in store.read_all([entry.name for entry in store.list(paths.failed.root)]):
        samples = marker_range(name)
        if content is None or not samples:  # cleared since it was listed, or not one of ours
            continue
        try:
            record = json.loads(content)
            found.append(Failure(samples, int(record["attempts"]), str(record["error"])))
        except (ValueError, TypeError, KeyError):
            found.append(Failure(samples, 0, f"its record {name} cannot be read"))
    return sorted(found, key=lambda failure: failure.samples.start)


def clear_failures(store: Store, paths: ConfigurationPaths) -> int:
    """Forget the shards that were set aside, so that a new run tries them again; returns their number."""
    names = [entry.name for entry in store.list(paths.failed.root)]
    for name in names:
        store.delete(name)
    return len(names)
