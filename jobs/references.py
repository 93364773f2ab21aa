"""Features of real data: made once for each content of a data set and each extractor, kept in the store.

They are committed like features of samples, in ranges, so an interrupted build goes on. This module must not
know configurations or scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jobs.commit import Content, GroupRecord, Marker, commit
from jobs.configuration import Extractor
from jobs.datasets import Dataset, read_dataset
from jobs.extraction import extract
from jobs.features import write_features
from jobs.ledger import Listing, mend
from jobs.paths import RangeFolder, StorePaths, extractor_key
from jobs.plan import gaps, groups
from jobs.sections import DataSet
from jobs.store import Store
from jobs.worker import WorkerState

PART = 8192  # images of a file
STEP = 0  # real data have no steps


@dataclass(frozen=True)
class Reference:
    """Features of a data set, ready to be read in index order at step 0."""

    name: str
    content: str  # hash of its images
    count: int  # images
    folder: RangeFolder
    markers: tuple[Marker, ...]


def build_reference(
    store: Store,
    data_set: DataSet,
    extractor: Extractor,
    worker: WorkerState,
    before_batch: Callable[[], None] = lambda: None,
) -> Reference:
    """Make the features of a data set that the store does not have yet.

    The data set is read each time, so one that has changed since gets features of its own.
    before_batch: called before each batch of images; may raise to give up, what was committed stays.

    Raises DatasetError when the data cannot be read, and what the extractor's weights raise.
    """
    found = read_dataset(data_set.name, None if data_set.path is None else Path(data_set.path))
    folder = _folder(data_set, found.content_hash, extractor)
    markers, damaged = Listing(store, folder.root).committed(folder)
    mend(store, StorePaths().reference(data_set.name, found.content_hash), damaged)
    for gap in gaps(len(found), [marker.samples for marker in markers]):
        for part in groups(gap, PART):
            _build_part(store, folder, found, part, extractor, worker, before_batch)
    record = {"content": found.content_hash, "count": len(found)}
    store.put(_index(data_set), json.dumps(record).encode())
    return load_reference(store, data_set, extractor)


def load_reference(store: Store, data_set: DataSet, extractor: Extractor) -> Reference:
    """The features that `build_reference` made. Raises FileNotFoundError when some or all are missing."""
    record = json.loads(store.get(_index(data_set)))
    folder = _folder(data_set, record["content"], extractor)
    markers, _ = Listing(store, folder.root).committed(folder)
    missing = list(gaps(record["count"], [marker.samples for marker in markers]))
    if missing:
        raise FileNotFoundError(
            f"{folder.root}: features of {sum(map(len, missing))} of {record['count']} images are missing; "
            "run the sweep again"
        )
    return Reference(data_set.name, record["content"], record["count"], folder, tuple(markers))


def reference_folder(store: Store, data_set: DataSet, extractor: Extractor) -> tuple[str, RangeFolder] | None:
    """Folder of a data set and, in it, of its features by an extractor; None when they were never built."""
    try:
        content = json.loads(store.get(_index(data_set)))["content"]
    except FileNotFoundError:
        return None
    return StorePaths().reference(data_set.name, content), _folder(data_set, content, extractor)


def _build_part(
    store: Store,
    folder: RangeFolder,
    data: Dataset,
    part: range,
    extractor: Extractor,
    worker: WorkerState,
    before_batch: Callable[[], None],
) -> None:
    network = worker.extractor(store, extractor)
    rows = extract(network, STEP, data.images[part.start : part.stop], [part], before_batch)
    content = Content(
        kind="features",
        fingerprint=data.content_hash,
        first=part.start,
        last=part.stop,
        rows=len(part),
        digests={STEP: rows.digest},
        inputs={"images": data.content_hash, "extractor": extractor.weights or ""},
        execution=worker.extraction(),
        groups=(GroupRecord(first=part.start, last=part.stop),),
    )
    commit(store, folder, content, partial(write_features, blocks=[rows]))


def _folder(data_set: DataSet, content: str, extractor: Extractor) -> RangeFolder:
    key = extractor_key(extractor.name, extractor.weights or "")
    return StorePaths().reference_features(data_set.name, content, key)


def _index(data_set: DataSet) -> str:
    source = hashlib.sha256((data_set.path or "").encode()).hexdigest()
    return StorePaths().reference_index(data_set.name, source)
