"""Features of real data: made once for each content of a data set and each extractor, kept in the store.

They are committed like features of samples, in ranges, so an interrupted build goes on. This module must not
know configurations or scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from jobs.compute.extraction import BATCH, extract_part
from jobs.compute.worker import WorkerState
from jobs.digests import add_digests
from jobs.inputs.copies import open_sent, was_sent
from jobs.inputs.datasets import BUILT_IN, DatasetError, open_dataset
from jobs.inputs.sources import Dataset, ImageSource, StreamedImages
from jobs.paths import RangeFolder, StorePaths
from jobs.planning.plan import gaps, groups
from jobs.specs.configuration import Extractor
from jobs.specs.sections import DataSet
from jobs.storage.commit import Content, Execution, GroupRecord, Marker, commit
from jobs.storage.features import FeatureRows, StoredFeatures, write_features
from jobs.storage.ledger import mend
from jobs.storage.markers import Committed
from jobs.storage.reference_index import Indexed, named_references, read_index, write_index
from jobs.store import Store

PART = 8 * BATCH  # images of a file
STEP = 0  # real data have no steps
IMPORTED = "imported"  # stands for the extractor of what was not made here


@dataclass(frozen=True)
class Reference:
    """A data set by one extractor, ready to be compared with."""

    name: str
    content: str  # hash of its images
    count: int  # images
    folder: RangeFolder  # of its features, at step 0
    markers: Sequence[Marker]  # of all features; none where only moments are known
    moments: str | None = None  # where its moments are, when they were imported
    split: str | None = None
    imported: bool = False  # its features or moments are of others, by weights that are not known

    @property
    def digest(self) -> str:
        """Of the features, as their markers say."""
        return add_digests(marker.digests[STEP] for marker in self.markers)

    def features(self, store: Store) -> StoredFeatures | None:
        """The features; None where only moments are known."""
        if self.moments is not None:
            return None
        return StoredFeatures(store, self.folder, self.markers, STEP, self.count)


def register_reference(store: Store, name: str, data: ImageSource, source: str, split: str | None) -> Indexed:
    """Give images a name of their own in the store, by which specs know them.

    source: an absolute path, or `datasets:NAME`.
    Raises DatasetError when the name is a data set that is shipped, or stands for other images already.
    """
    record = Indexed(
        content=data.content_hash,
        count=len(data),
        source=source,
        split=split,
        shape=data.shape,
        skipped=len(data.skipped),
    )
    refuse_taken(store, name, record)
    write_index(store, DataSet(name=name), record)
    return record


def refuse_taken(store: Store, name: str, record: Indexed) -> None:
    """Raise DatasetError when a name stands for other content already."""
    if name in BUILT_IN:
        raise DatasetError(f"{name} is shipped with the project; choose another name")
    known = named_references(store).get(name)
    if known is not None and known.content != record.content:
        raise DatasetError(
            f"{name} stands for other content already: {known.count:,} images, content {known.content[:12]}, "
            f"from {known.source}; this is {record.content[:12]}: choose another name"
        )


def build_reference(
    store: Store,
    data_set: DataSet,
    extractor: Extractor,
    worker: WorkerState,
    before_batch: Callable[[], None] = lambda: None,
    images: ImageSource | None = None,
) -> Reference:
    """Make the features of a data set that the store does not have yet.

    A data set by path is read each time, so one that has changed since gets features of its own, unless it
    was sent to the store; one that has a name there is read only where features are missing, and must still
    have its content.

    Args:
        before_batch: called before each batch of images; may raise to give up, what was committed stays.
        images: of a reference with a name, when the caller has just read and registered them.

    Raises DatasetError when the data cannot be read, and what the extractor's weights raise.
    """
    if data_set.path is None and data_set.name not in BUILT_IN:
        try:
            return load_reference(store, data_set, extractor)
        except FileNotFoundError:
            if images is None:
                with _opened_again(store, data_set.name) as found:
                    return _built(store, data_set, found, extractor, worker, before_batch)
            return _built(store, data_set, images, extractor, worker, before_batch)
    with open_sent(store, data_set) as found:
        record = Indexed(content=found.content_hash, count=len(found), split=data_set.split)
        write_index(store, data_set, record)
        return _built(store, data_set, found, extractor, worker, before_batch)


def _built(
    store: Store,
    data_set: DataSet,
    found: ImageSource,
    extractor: Extractor,
    worker: WorkerState,
    before_batch: Callable[[], None],
) -> Reference:
    """Features of these images, those that are there already among them."""
    folder = _folder(data_set, found.content_hash, extractor)
    made = Committed.of(store, folder)
    mend(store, StorePaths().reference(data_set.name, found.content_hash), made.damaged)
    for gap in gaps(len(found), made.markers.ranges):
        blocks = found.blocks(gap, BATCH)
        for part in groups(gap, PART):
            _build_part(store, folder, found, part, blocks, extractor, worker, before_batch)
    return load_reference(store, data_set, extractor)


@contextmanager
def _opened_again(store: Store, name: str) -> Iterator[ImageSource]:
    """The images of a named reference: those that were sent to the store, else from where they came.

    Raises DatasetError.
    """
    try:
        record = read_index(store, DataSet(name=name))
    except FileNotFoundError:
        raise DatasetError(
            f"no reference {name!r} in the store {store.url}; `sdesweep reference build {name} --from PATH` "
            "makes one"
        ) from None
    if record.kind != "images":
        raise DatasetError(f"the imported {record.kind} of {name} are not in the store: import again")
    if was_sent(store, record.content):
        with open_sent(store, DataSet(name=name, content=record.content)) as sent:
            yield sent
    else:
        yield open_source(name, record)


def open_source(name: str, record: Indexed) -> Dataset | StreamedImages:
    """The images of a named reference, from where they came. Raises DatasetError when they changed."""
    found = open_dataset(name, record.source, record.split, skip_unreadable=record.skipped > 0)
    if found.content_hash != record.content:
        raise DatasetError(
            f"{record.source} has changed since the reference {name} was built: content "
            f"{found.content_hash[:12]}, then {record.content[:12]}; build it under another name"
        )
    return found


def load_reference(store: Store, data_set: DataSet, extractor: Extractor) -> Reference:
    """What `build_reference` made, or what was imported.

    Raises FileNotFoundError when some or all features are missing, DatasetError when those that were imported
    are of another extractor.
    """
    record = read_index(store, data_set)
    name = data_set.name
    problem = record.obstacle(extractor, ())
    if problem:
        raise DatasetError(f"{name} {problem}")
    if record.kind == "moments":
        moments = StorePaths().reference_moments(name, record.content, IMPORTED)
        folder = _imported(name, record.content)
        return Reference(name, record.content, record.count, folder, (), moments, record.split, imported=True)
    if record.kind == "features":
        folder = _imported(name, record.content)
    else:
        folder = _folder(data_set, record.content, extractor)
    markers = Committed.of(store, folder).markers
    missing = list(gaps(record.count, markers.ranges))
    if missing:
        raise FileNotFoundError(
            f"{folder.root}: features of {sum(map(len, missing))} of {record.count} images are missing; "
            "run the sweep again"
        )
    imported = record.kind == "features"
    return Reference(
        name, record.content, record.count, folder, markers, split=record.split, imported=imported
    )


def reference_folder(store: Store, data_set: DataSet, extractor: Extractor) -> tuple[str, RangeFolder] | None:
    """Folder of a data set and, in it, of its features by an extractor; None when they were never built."""
    try:
        record = read_index(store, data_set)
    except FileNotFoundError:
        return None
    folder = _folder(data_set, record.content, extractor)
    if record.kind != "images":
        folder = _imported(data_set.name, record.content)
    return StorePaths().reference(data_set.name, record.content), folder


def _build_part(
    store: Store,
    folder: RangeFolder,
    data: ImageSource,
    part: range,
    blocks: Iterator[np.ndarray],
    extractor: Extractor,
    worker: WorkerState,
    before_batch: Callable[[], None],
) -> None:
    network = worker.extractor(store, extractor)
    try:
        rows = extract_part(network, STEP, part, blocks, before_batch)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{data.name}: {error}") from error
    inputs = {"images": data.content_hash, "extractor": extractor.weights or ""}
    commit_part(store, folder, data.content_hash, rows, inputs, worker.extraction(extractor))


def commit_part(
    store: Store,
    folder: RangeFolder,
    content_hash: str,
    rows: FeatureRows,
    inputs: dict[str, str],
    execution: Execution,
) -> None:
    """Commit features of consecutive images. content_hash: of the whole reference; inputs: what made them."""
    first, last = int(rows.index[0]), int(rows.index[-1]) + 1
    content = Content(
        kind="features",
        fingerprint=content_hash,
        first=first,
        last=last,
        rows=last - first,
        digests={STEP: rows.digest},
        inputs=inputs,
        execution=execution,
        groups=(GroupRecord(first=first, last=last),),
    )
    commit(store, folder, content, partial(write_features, blocks=[rows]))


def _folder(data_set: DataSet, content: str, extractor: Extractor) -> RangeFolder:
    return StorePaths().reference_features(data_set.name, content, extractor.key)


def _imported(name: str, content: str) -> RangeFolder:
    return StorePaths().reference_features(name, content, IMPORTED)
