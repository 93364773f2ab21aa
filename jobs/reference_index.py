"""What the store knows of references by name: content, number of images, where they came from.

Apart from the features because specs are resolved by these records alone, without tensors. A record of a data
set by path says which content it had when it was last read; one without a path is a reference that was built
or imported under a name of its own. It must not read images.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.paths import StorePaths
from jobs.sections import DataSet
from jobs.store import Store


class Indexed(BaseModel):
    """One reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: str  # sha256 of shape and pixels; of the file, where images were never here
    count: int  # images
    #: images: features are made of them; features, moments: imported, and nothing else is known
    kind: Literal["images", "features", "moments"] = "images"
    source: str | None = None  # path that it was built or imported from, of the machine that did
    split: str | None = None
    extractor: str | None = None  # of what was imported

    @property
    def uses(self) -> str:
        """What it can and cannot be used for, a sentence."""
        if self.kind == "images":
            return "every metric, by every extractor while its source can be read"
        only = f"by {self.extractor} with its usual resize and normalisation; its weights are not known"
        if self.kind == "features":
            return f"every metric, {only}"
        return f"fid and fid_infinity alone: no distances between images, no error of its own, {only}"


def index_name(data_set: DataSet) -> str:
    """Name of a data set's record in the store."""
    return StorePaths().reference_index(data_set.name, _source(data_set.path))


def read_index(store: Store, data_set: DataSet) -> Indexed:
    """The record of a data set. Raises FileNotFoundError when there is none."""
    return Indexed.model_validate_json(store.get(index_name(data_set)))


def write_index(store: Store, data_set: DataSet, record: Indexed) -> None:
    """Put a record, replacing what was there."""
    store.put(index_name(data_set), record.model_dump_json(exclude_none=True).encode())


def named_references(store: Store) -> dict[str, Indexed]:
    """References with a name of their own, sorted by it: what a spec can name without a path."""
    ending = index_name(DataSet(name="x")).rpartition("/")[2].removeprefix("x")
    found = {}
    for entry in store.list(index_name(DataSet(name="x")).rpartition("/")[0]):
        file = entry.name.rpartition("/")[2]
        if file.endswith(ending):
            found[file.removesuffix(ending)] = Indexed.model_validate_json(store.get(entry.name))
    return dict(sorted(found.items()))


def _source(path: str | None) -> str:
    return hashlib.sha256((path or "").encode()).hexdigest()
