"""The images behind a reference, where their source can still be read and is what it was.

Apart from references because those need features alone once they are built. It must not extract any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from jobs.inputs.copies import open_sent
from jobs.inputs.datasets import BUILT_IN, DatasetError
from jobs.inputs.sources import Dataset, StreamedImages, in_memory
from jobs.specs.sections import DataSet
from jobs.storage.reference_index import read_index
from jobs.store import Store


@contextmanager
def open_original(store: Store, reference: DataSet) -> Iterator[Dataset | StreamedImages | None]:
    """The images that a reference's features were made of; None where they are not here or have changed.

    Raises FileNotFoundError when the store does not know the reference.
    """
    record = read_index(store, reference)
    source = original_source(store, reference)
    if record.kind != "images" or (source is None and reference.name not in BUILT_IN):
        yield None
        return
    given = reference.model_copy(
        update={"path": source and str(source), "split": record.split, "content": record.content}
    )
    with ExitStack() as opened:
        found: Dataset | StreamedImages | None = None
        with suppress(DatasetError):  # the source has moved, or changed: what needs images says so
            found = opened.enter_context(open_sent(store, given, skip_unreadable=record.skipped > 0))
        yield found


def original_images(store: Store, reference: DataSet) -> Dataset | None:
    """The images of `open_original`, all in memory."""
    with open_original(store, reference) as found:
        return None if found is None else in_memory(found)


def original_source(store: Store, reference: DataSet) -> Path | None:
    """Where the images came from; None for those that are shipped."""
    source = reference.path or read_index(store, reference).source
    return None if source is None else Path(source)
