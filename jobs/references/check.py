"""What the store holds of each reference, and whether it is whole.

Apart from making references because this only looks, and moves away what is damaged. It must not extract
features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.inputs.datasets import DatasetError, open_dataset
from jobs.models.catalog import DATA_SETS
from jobs.paths import RangeFolder, StorePaths
from jobs.references.moments import DamagedMomentsError, read_moments
from jobs.storage.commit import DamageError, quarantine
from jobs.storage.features import committed_features
from jobs.storage.markers import Committed, committed
from jobs.storage.reference_index import Indexed, named_references
from jobs.store import Store


@dataclass(frozen=True)
class Held:
    """Features of a reference by one extractor."""

    extractor: str  # key: name, weights, unusual options; `imported`
    images: int  # with features
    complete: bool


@dataclass(frozen=True)
class ReferenceSummary:
    """A reference as `sdesweep reference` tells of it."""

    name: str
    record: Indexed
    features: tuple[Held, ...]


@dataclass
class ReferenceCheck:
    """What reading everything of a reference found."""

    name: str
    files: int = 0  # read and compared
    problems: list[str] = field(default_factory=list)  # damage, each moved to the quarantine
    source: str = ""  # the same | changed: ... | cannot be read: ... | not compared

    @property
    def intact(self) -> bool:
        return not self.problems


def references_of(store: Store) -> list[ReferenceSummary]:
    """Those with a name in the store, and the shipped data sets."""
    records = named_references(store)
    for name, known in DATA_SETS.items():
        records[name] = Indexed(content=known.content, count=known.images, shape=known.shape)
    return [summary(store, name, record) for name, record in sorted(records.items())]


def summary(store: Store, name: str, record: Indexed) -> ReferenceSummary:
    """What the store has of one reference."""
    held = []
    for folder, features in _features(store, name, record).items():
        images = features.markers.samples
        held.append(Held(folder.rpartition("/")[2], images, images == record.count))
    return ReferenceSummary(name, record, tuple(held))


def check_reference(store: Store, name: str, record: Indexed) -> ReferenceCheck:
    """Read and compare all features and moments of a reference, and its source where there is one.

    What is damaged goes to the quarantine; features are made again by the next build or run.
    """
    found = ReferenceCheck(name)
    root = StorePaths().reference(name, record.content)
    for folder, features in _features(store, name, record).items():
        for damage in features.damaged:
            _set_aside(store, root, found, damage.names, damage.reason)
        for marker in features.markers:
            found.files += 1
            try:
                committed_features(store, RangeFolder(folder), marker)
            except DamageError as error:
                _set_aside(store, root, found, error.names, str(error))
    for entry in sorted(store.list(StorePaths().reference_moments_folder(name, record.content)), key=str):
        found.files += 1
        try:
            read_moments(store.get(entry.name), entry.name)
        except DamagedMomentsError as error:
            _set_aside(store, root, found, (entry.name,), str(error))
    found.source = _source(name, record)
    return found


def _features(store: Store, name: str, record: Indexed) -> dict[str, Committed]:
    """By folder, whose last part is the extractor's key."""
    return committed(store, StorePaths().reference_features_folder(name, record.content))


def _set_aside(store: Store, root: str, found: ReferenceCheck, names: tuple[str, ...], reason: str) -> None:
    incident = quarantine(store, root, names, reason)
    found.problems.append(f"{names[0]}: {reason}; quarantined as {incident}")


def _source(name: str, record: Indexed) -> str:
    if record.kind != "images":
        return "not compared: what was imported has no images"
    try:
        data = open_dataset(name, record.source, record.split, skip_unreadable=record.skipped > 0)
    except DatasetError as error:
        return f"cannot be read: {error}"
    if data.content_hash == record.content:
        return "the same"
    return f"changed: its content is {data.content_hash[:12]} now; features of the old one stay usable"
