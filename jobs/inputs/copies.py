"""Images of data sets travel through the store, under the hash of their content: workers need no other files.

What `jobs/models/weights.py` is for weights. This module must not know what the images are for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from jobs.inputs.datasets import open_given
from jobs.inputs.sources import Dataset, StreamedImages, in_memory
from jobs.paths import StorePaths
from jobs.specs.sections import DataSet
from jobs.store import Store

BLOCK = 256  # images that are copied at a time


def send_images(store: Store, data: Dataset | StreamedImages) -> None:
    """Put the images of a data set, and its labels where it has some, into the store as an npz archive."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(data), *data.shape)}
    with (
        store.writing(StorePaths().images(data.content_hash)) as target,
        zipfile.ZipFile(target, "w") as archive,
    ):
        with archive.open("images.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in data.blocks(range(len(data)), BLOCK):
                file.write(np.ascontiguousarray(block).data)
        if data.labels is not None:
            with archive.open("labels.npy", "w") as file:
                np.lib.format.write_array(file, data.labels)


def was_sent(store: Store, content: str | None) -> bool:
    """Whether the store has the images of this content."""
    return content is not None and store.size(StorePaths().images(content)) is not None


@contextmanager
def open_sent(
    store: Store, data_set: DataSet, *, skip_unreadable: bool = False
) -> Iterator[Dataset | StreamedImages]:
    """The images of a data set: those of its content that the store has, else what is at its path.

    Raises DatasetError as `open_given` does.
    """
    if data_set.content is None or not was_sent(store, data_set.content):
        yield open_given(data_set, skip_unreadable=skip_unreadable)
        return
    with store.local(StorePaths().images(data_set.content)) as path:
        yield open_given(data_set.model_copy(update={"path": str(path), "split": None}))


def read_sent(store: Store, data_set: DataSet, *, skip_unreadable: bool = False) -> Dataset:
    """The images of `open_sent`, all in memory."""
    with open_sent(store, data_set, skip_unreadable=skip_unreadable) as found:
        return in_memory(found)
