"""What the store knows of references by name: content, number of images, where they came from.

Apart from the features because specs are resolved by these records alone, without tensors. A record of a data
set by path says which content it had when it was last read; one without a path is a reference that was built
or imported under a name of its own. It must not read images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.paths import StorePaths
from jobs.specs.configuration import Extractor
from jobs.specs.requirements import OF_MOMENTS
from jobs.specs.sections import DataSet, Metric
from jobs.storage.records import read_record
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
    shape: tuple[int, int, int] | None = None  # (channels, height, width) of its images
    extractor: str | None = None  # of what was imported
    dimension: int | None = None  # of what was imported
    logits: bool = False  # whether they were imported too
    skipped: int = 0  # images of the source that were left out, because they could not be used

    @property
    def uses(self) -> str:
        """What it can and cannot be used for, a sentence."""
        if self.kind == "images":
            return "every metric, by every extractor while its source can be read"
        only = f"by {self.extractor}, as it was said to be made; the weights behind it are not known"
        if self.kind == "features":
            return f"every metric, {only}; no images"
        return (
            "fid and fid_infinity (and is, which needs no reference), not kid, precision_recall, "
            f"density_coverage, memorisation, which compare images one by one; {only}"
        )

    def obstacle(self, extractor: Extractor, metrics: Collection[Metric]) -> str | None:
        """Why it cannot be compared with features of an extractor by these metrics; None where it can."""
        if self.kind == "images":
            return None
        if self.extractor != extractor.name:
            return (
                f"was imported as {self.kind} by {self.extractor}, and {extractor.name} gives others: "
                "take that extractor, or build the reference from images"
            )
        beyond = [metric for metric in metrics if metric not in OF_MOMENTS]
        if self.kind == "moments" and beyond:
            return (
                f"is moments alone, which {beyond[0]} cannot use: leave it out, or build the reference from "
                "images"
            )
        return None


def index_name(data_set: DataSet) -> str:
    """Name of a data set's record in the store."""
    return StorePaths().reference_index(data_set.name, _source(data_set))


def read_index(store: Store, data_set: DataSet) -> Indexed:
    """The record of a data set. Raises FileNotFoundError when there is none, StoreError for damage."""
    return _record(store, index_name(data_set))


def write_index(store: Store, data_set: DataSet, record: Indexed) -> None:
    """Put a record, replacing what was there."""
    store.put(index_name(data_set), record.model_dump_json(exclude_none=True).encode())


def named_references(store: Store) -> dict[str, Indexed]:
    """References with a name of their own, sorted by it: what a spec can name without a path."""
    folder, _, file = index_name(DataSet(name="x")).rpartition("/")
    ending = file.removeprefix("x")
    found = {}
    for entry in store.list(folder):
        name = entry.name.rpartition("/")[2]
        if name.endswith(ending):
            record = _record(store, entry.name)
            if record.source is not None:  # a shipped data set has none
                found[name.removesuffix(ending)] = record
    return dict(sorted(found.items()))


def _record(store: Store, name: str) -> Indexed:
    remedy = "remove it, and build the reference again"
    return read_record(store, name, Indexed, "record of a reference", remedy)


def _source(data_set: DataSet) -> str:
    parts = [data_set.path or "", *(part for part in (data_set.split, data_set.content) if part)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
