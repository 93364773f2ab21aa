"""The sides of an audit: images with their features, from a store or from files.

Apart from sets that are scored because an audit looks at pixels too. Whatever of a configuration is not whole
is left out and shows in the audit as missing. It must not know what is expected of a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fid.audit import ImageSet
from fid.extractors import Extractor as FeatureNetwork
from fid.moments import Moments
from jobs.compute.extraction import BATCH, extract
from jobs.inputs.datasets import DatasetError, Reading, read_dataset, read_given
from jobs.inputs.encodings import encodings_of
from jobs.inputs.originals import original_images, original_source
from jobs.inputs.sources import Dataset
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
from jobs.storage.features import committed_features
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
        data = read_dataset(name, path, split, skip_unreadable=self.skip_unreadable)
        called = "/".join(Path(name).parts[-2:])  # `cifar10/train.parquet` says what it is
        if data.skipped:
            called += f" less {len(data.skipped):,} that cannot be used"
        with self.progress(f"features of {name}", len(data)) as advance:
            return _with_features(
                called, data, self.network, encodings_of(Path(path)), lambda: advance(BATCH)
            )

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
    index, pixels, features, logits = [], [], [], []
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
        index.append(rows.index[keep])
        pixels.append(drawn.images[keep])
        features.append(rows.features[keep])
        if rows.logits is not None:
            logits.append(rows.logits[keep])
    if not index:
        raise DatasetError(
            f"{configuration.name}: no samples with images and features of {key} are in the store; "
            f"`sdesweep run` makes them"
        )
    return ImageSet(
        configuration.name,
        np.concatenate(pixels),
        np.concatenate(features),
        np.concatenate(logits) if len(logits) == len(features) else None,
        index=np.concatenate(index),
        samples=configuration.samples,
    )


def stored_reference(
    store: Store, reference: DataSet, extractor: Extractor, network: FeatureNetwork
) -> ImageSet:
    """A reference's features from the store, with its images where their source can be read.

    A reference that was never built is read, and its features are made here.
    """
    try:
        found = load_reference(store, reference, extractor)
    except FileNotFoundError:
        data = read_given(reference)
        path = None if reference.path is None else Path(reference.path)
        return _with_features(reference.name, data, network, encodings_of(path))
    source = found.features(store)
    if source is None:
        return ImageSet(reference.name, moments=reference_moments(store, found))
    rows = list(source)
    logits = [block.logits for block in rows if block.logits is not None]
    held = ImageSet(
        reference.name,
        features=np.concatenate([block.features for block in rows]),
        logits=np.concatenate(logits) if len(logits) == len(rows) else None,
    )
    originals = original_images(store, reference)
    if originals is None:
        return held
    encodings = encodings_of(original_source(store, reference))
    return replace(held, images=originals.images, encodings=encodings)


def _with_features(
    name: str,
    data: Dataset,
    network: FeatureNetwork,
    encodings: dict[str, int],
    before_batch: Callable[[], None] = lambda: None,
) -> ImageSet:
    """Images, with their features made here and now."""
    rows = extract(network, 0, data.images, [range(len(data))], before_batch)
    return ImageSet(name, data.images, rows.features, rows.logits, encodings=encodings)
