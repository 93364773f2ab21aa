"""The sides of an audit, from a store or from files: features of all images, pixels of some.

Apart from sets that are scored because an audit looks at pixels too, of a fixed sample that fits into memory.
Whatever of a configuration is not whole is left out and shows in the audit as missing. It must not know what
is expected of a side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from fid.audit import ImageSet, Tally, held_rows
from fid.extractors import Extractor as FeatureNetwork
from fid.moments import Moments
from jobs.compute.extraction import BATCH, extract
from jobs.inputs.datasets import DatasetError, Reading, open_dataset, open_given
from jobs.inputs.encodings import encodings_of
from jobs.inputs.originals import open_original, original_source
from jobs.inputs.sources import Dataset, StreamedImages
from jobs.models.resolve import Resolved
from jobs.paths import SweepPaths
from jobs.planning.lookup import find_configuration
from jobs.references.imagesets import Given
from jobs.references.importing import read_statistics
from jobs.references.moments import reference_moments
from jobs.references.reference import load_reference
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.sections import DataSet
from jobs.storage.commit import DamageError
from jobs.storage.features import FeatureRows, committed_features, join_rows
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.store import Store


@dataclass(frozen=True)
class SideReader:
    """Makes sides of an audit of what a command line names, by one extractor.

    Attributes:
        count: images behind a mean and covariance, which their file does not say.
        skip_unreadable: leave out images that cannot be used, which the name then says.
        progress: opens a display of progress over so many images.
    """

    store: Store
    found: Resolved[Extractor]
    network: FeatureNetwork
    progress: Reading
    count: int | None = None
    skip_unreadable: bool = False

    def open(self, given: Given) -> ImageSet:
        """Images and features of a set. Raises DatasetError, NotFoundError, or FileNotFoundError."""
        if given.kind == "files":
            return self._files(given.text, given.path, given.split)
        if given.kind == "statistics":
            return self._statistics(given)
        if given.kind == "reference":
            data_set = DataSet(name=given.text)
            return stored_reference(self.store, data_set, self.found.thing, self.network)
        configuration = find_configuration(self.store, given.text)
        return stored_samples(self.store, configuration.sweep, configuration, self.found.thing, self.network)

    def _files(self, name: str, path: str, split: str | None) -> ImageSet:
        data = open_dataset(name, path, split, skip_unreadable=self.skip_unreadable, reading=self.progress)
        called = "/".join(Path(name).parts[-2:])  # `cifar10/train.parquet` says what it is
        if data.skipped:
            called += f" less {len(data.skipped):,} that cannot be used"
        with self.progress(f"features of {name}", len(data)) as advance:
            found = _with_features(called, data, self.network, advance)
        return replace(found, encodings=encodings_of(Path(path)))

    def _statistics(self, given: Given) -> ImageSet:
        found = read_statistics(given.text, Path(given.path))
        name = Path(given.text).name
        if found.features is not None:
            return ImageSet(name, features=found.features, logits=found.logits)
        if self.count is None or found.mean is None or found.covariance is None:
            raise DatasetError(
                f"{given.text} does not say how many images are behind its mean and covariance: give --count"
            )
        return ImageSet(name, moments=Moments.from_covariance(found.mean, found.covariance, self.count))


class Pictures:
    """What an audit keeps of images that come block by block: pixels of a fixed sample, a tally of all."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self._wanted = held_rows(count, prod(shape))
        self._tallies: list[Tally] = []
        self._images: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._taken = 0

    def take(self, numbers: np.ndarray, images: np.ndarray) -> None:
        """The next images, and their numbers of `count`."""
        held = np.flatnonzero(np.isin(numbers, self._wanted))
        self._tallies.append(Tally.of(images))
        self._images.append(images[held])
        self._rows.append(self._taken + held)
        self._taken += len(images)

    def side(self, name: str, features: FeatureRows) -> ImageSet:
        """All of it with the features of the same images."""
        rows = np.concatenate(self._rows)
        return ImageSet(
            name,
            np.concatenate(self._images),
            features.features,
            features.logits,
            rows=rows if len(rows) < self._taken else None,
            whole=Tally.joined(self._tallies),
        )


def stored_samples(
    store: Store, sweep: str, configuration: Configuration, extractor: Extractor, network: FeatureNetwork
) -> ImageSet:
    """Images and features of the last step of the samples that have both, by the extractor.

    Features of an extractor that the sweep does not have are made here, of the stored images.
    """
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    key = extractor.key
    ledger = scan(store, paths, [key])
    made = {marker.samples: marker for marker in ledger.features[key]}
    features: list[FeatureRows] = []
    pictures: Pictures | None = None
    for marker in ledger.images:
        if marker.first >= configuration.samples or (made and marker.samples not in made):
            continue
        try:
            drawn = committed_images(store, paths.images, marker)[-1]
            groups = [range(group.first, group.last) for group in marker.groups]
            rows = (
                committed_features(store, paths.features(key), made[marker.samples])[-1]
                if made
                else extract(network, drawn.step, drawn.images, groups)
            )
        except DamageError:
            continue
        keep = rows.index < configuration.samples
        logits = None if rows.logits is None else rows.logits[keep]
        features.append(FeatureRows(rows.step, rows.index[keep], rows.features[keep], logits))
        pictures = pictures or Pictures(configuration.samples, drawn.images.shape[1:])
        pictures.take(rows.index[keep], drawn.images[keep])
    if pictures is None:
        raise DatasetError(
            f"{configuration.name}: no samples with images and features of {key} are in the store; "
            f"`sdesweep run` makes them"
        )
    joined = join_rows(features)
    found = pictures.side(configuration.name, joined)
    return replace(found, index=joined.index, samples=configuration.samples)


def stored_reference(
    store: Store, reference: DataSet, extractor: Extractor, network: FeatureNetwork
) -> ImageSet:
    """A reference's features from the store, with its images where their source can be read.

    A reference that was never built is read, and its features are made here.
    """
    try:
        found = load_reference(store, reference, extractor)
    except FileNotFoundError:
        data = open_given(reference)
        path = None if reference.path is None else Path(reference.path)
        made = _with_features(reference.name, data, network, lambda more: None)
        return replace(made, encodings=encodings_of(path))
    source = found.features(store)
    if source is None:
        return ImageSet(reference.name, moments=reference_moments(store, found))
    features = join_rows(list(source))
    with open_original(store, reference) as original:
        if original is None:
            return ImageSet(reference.name, features=features.features, logits=features.logits)
        pictures = Pictures(len(original), original.shape)
        for first, block in _blocks(original):
            pictures.take(np.arange(first, first + len(block)), block)
    encodings = encodings_of(original_source(store, reference))
    return replace(pictures.side(reference.name, features), encodings=encodings)


def _with_features(
    name: str, data: Dataset | StreamedImages, network: FeatureNetwork, advance: Callable[[int], None]
) -> ImageSet:
    """A data set and its features, which are made block by block."""
    pictures, features = Pictures(len(data), data.shape), []
    for first, block in _blocks(data):
        numbers = range(first, first + len(block))
        features.append(extract(network, 0, block, [numbers]))
        pictures.take(np.array(numbers), block)
        advance(len(block))
    return pictures.side(name, join_rows(features))


def _blocks(data: Dataset | StreamedImages) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the first image of each block, and the block."""
    return zip(range(0, len(data), BATCH), data.blocks(range(len(data)), BATCH), strict=True)
