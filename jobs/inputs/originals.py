"""The images behind a reference, where their source can still be read and is what it was.

Apart from references because those need features alone once they are built. It must not extract any.
"""

from __future__ import annotations

from pathlib import Path

from jobs.inputs.copies import read_sent
from jobs.inputs.datasets import BUILT_IN, DatasetError
from jobs.inputs.sources import Dataset
from jobs.specs.sections import DataSet
from jobs.storage.reference_index import read_index
from jobs.store import Store


def original_images(store: Store, reference: DataSet) -> Dataset | None:
    """The images that a reference's features were made of; None where they are not here or have changed.

    Raises FileNotFoundError when the store does not know the reference.
    """
    record = read_index(store, reference)
    if record.kind != "images":
        return None
    source = original_source(store, reference)
    if source is None and reference.name not in BUILT_IN:
        return None
    try:
        given = reference.model_copy(
            update={"path": source and str(source), "split": record.split, "content": record.content}
        )
        return read_sent(store, given, skip_unreadable=record.skipped > 0)
    except DatasetError:
        return None  # the source has moved, or changed: what needs images says so


def original_source(store: Store, reference: DataSet) -> Path | None:
    """Where the images came from; None for those that are shipped."""
    source = reference.path or read_index(store, reference).source
    return None if source is None else Path(source)
