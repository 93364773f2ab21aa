"""Evidence for an audit, from a store or from files: images, features, a reference, what was expected.

A module of its own because `fid.audit` knows arrays only. Whatever of a configuration is not whole is left
out and shows there as missing. It must not judge.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from fid.audit import Audit, Evidence, Expectation, ImageSet
from fid.extractors import Extractor as FeatureNetwork
from fid.extractors import load_extractor
from fid.extractors.inception import NORMALISATIONS, RESIZES, conventions
from fid.moments import Moments
from jobs.compute.extraction import BATCH, extract
from jobs.inputs.datasets import DatasetError, Reading, read_dataset
from jobs.inputs.imagefiles import IMAGE_SUFFIXES
from jobs.inputs.originals import original_images, original_source
from jobs.models.resolve import Resolved
from jobs.paths import SweepPaths, extractor_key
from jobs.planning.lookup import find_configuration
from jobs.planning.sweep import Sweep
from jobs.references.imagesets import Given
from jobs.references.importing import read_statistics
from jobs.references.moments import reference_moments
from jobs.references.reference import load_reference
from jobs.scores.results import Result
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import DataSet, PublishedValue
from jobs.storage.commit import DamageError
from jobs.storage.features import committed_features
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.store import Store

ENCODINGS_READ = 1000  # files whose format is looked at


def audited_configuration(
    reader: SideReader, sweep: Sweep, configuration: Configuration, reference: Given | DataSet
) -> Evidence:
    """What the store knows of a configuration and the reference that it is scored against.

    Expected are the published value of its cell and the other cells of the same source.
    """
    store, extractor = reader.store, reader.found.thing
    return Evidence(
        generated=stored_samples(store, sweep.name, configuration, extractor, reader.network),
        reference=stored_reference(store, reference, extractor, reader.network)
        if isinstance(reference, DataSet)
        else reader.open(reference),
        extractor=reader.network,
        variants=variants_of(reader.found),
        reported=_reported(store, sweep.name, configuration, extractor, reference.name)
        if isinstance(reference, DataSet)
        else None,
        settings=_settings(configuration),
        expectation=_expectation(sweep, configuration),
    )


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
        with self.progress(f"features of {name}", len(data)) as advance:
            rows = extract(self.network, 0, data.images, [range(len(data))], lambda: advance(BATCH))
        encodings = encodings_of(Path(path))
        called = "/".join(Path(name).parts[-2:])  # `cifar10/train.parquet` says what it is
        if data.skipped:
            called += f" less {len(data.skipped):,} that cannot be used"
        return ImageSet(called, data.images, rows.features, rows.logits, encodings=encodings)

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


def audited_sets(reader: SideReader, generated: Given, reference: Given) -> Evidence:
    """What two sets show, by the features of one extractor."""
    return Evidence(
        generated=reader.open(generated),
        reference=reader.open(reference),
        extractor=reader.network,
        variants=variants_of(reader.found),
    )


def expecting(
    evidence: Evidence, value: float | None, samples: int | None, real: ImageSet | None
) -> Evidence:
    """The same evidence with what a user expects, where it is given, in place of what was published.

    real: the data set that the value was measured against.
    """
    expectation = evidence.expectation
    if value is not None:
        expectation = replace(expectation, value=value)
    if samples is not None:
        expectation = replace(expectation, samples=samples)
    if real is not None:
        expectation = replace(expectation, real=real, reference=real.name)
    return replace(evidence, expectation=expectation)


def stored_samples(
    store: Store, sweep: str, configuration: Configuration, extractor: Extractor, network: FeatureNetwork
) -> ImageSet:
    """Images and features of the last step of the samples that have both, by the extractor.

    Features of an extractor that the sweep does not have are made here, of the stored images.
    """
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    key = extractor_key(extractor.name, extractor.weights or "")
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
    path = None if reference.path is None else Path(reference.path)
    try:
        found = load_reference(store, reference, extractor)
    except FileNotFoundError:
        return _files_with_features(reference.name, path, network)
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
    data = original_images(store, reference)
    if data is None:
        return held
    encodings = encodings_of(original_source(store, reference))
    return replace(held, images=data.images, encodings=encodings)


def _files_with_features(name: str, path: Path | None, network: FeatureNetwork) -> ImageSet:
    """A data set, its features and the formats of its files. Raises DatasetError."""
    data = read_dataset(name, path)
    rows = extract(network, 0, data.images, [range(len(data))])
    return ImageSet(name, data.images, rows.features, rows.logits, encodings=encodings_of(path))


def encodings_of(path: Path | None) -> dict[str, int]:
    """File format and pixel mode ("JPEG RGB") -> number, of the first 1,000 images of a folder or Parquet."""
    if path is None or not (path.is_dir() or path.suffix == ".parquet"):
        return {}
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if shards:
        sources = islice((payload for shard in shards for payload in _payloads(shard)), ENCODINGS_READ)
        return dict(Counter(map(_encoding, sources)))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return dict(Counter(map(_encoding, files[:ENCODINGS_READ])))


def _payloads(shard: Path) -> Iterator[io.BytesIO]:
    """Encoded images of a Parquet file, batch by batch."""
    file = pq.ParquetFile(shard)
    column = next(name for name in ("image", "img") if name in file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=ENCODINGS_READ, columns=[column]):
        for cell in batch.column(0).to_pylist():
            yield io.BytesIO(cell["bytes"] if isinstance(cell, dict) else cell)


def _encoding(source: Path | io.BytesIO) -> str:
    try:
        with Image.open(source) as image:
            return f"{image.format} {image.mode}"
    except OSError:  # of images that were left out on purpose: reading the others has succeeded
        return "unreadable"


def variants_of(found: Resolved[Extractor]) -> dict[str, FeatureNetwork]:
    """The FID Inception with its other resizes and normalisations; other extractors have none."""
    name = found.thing.name
    if conventions(name) is None:
        return {}
    path = found.files[str(found.thing.weights)]
    usual = load_extractor(name, path).identity
    made = {f"resize {resize}": load_extractor(name, path, resize=resize) for resize in RESIZES}
    for normalisation in NORMALISATIONS:
        made[f"normalisation {normalisation}"] = load_extractor(name, path, normalisation=normalisation)
    return {other: network for other, network in made.items() if network.identity != usual}


def _reported(
    store: Store, sweep: str, configuration: Configuration, extractor: Extractor, reference: str
) -> float | None:
    """The FID of the results file; None where the configuration was not scored, or not by FID."""
    key = extractor_key(extractor.name, extractor.weights or "")
    name = SweepPaths(sweep).configuration(configuration.fingerprint).result(key, reference)
    try:
        result = Result.model_validate_json(store.get(name))
    except FileNotFoundError:
        return None
    return None if result.final.fid is None else result.final.fid.value


#: How all published score-based values were sampled: a last step without noise, averaged weights.
PROTOCOL: dict[str, object] = {"denoise": True, "weights": "ema"}


def _settings(configuration: Configuration) -> dict[str, object]:
    """What of a sampler and its model the audit compares with the protocol of published values."""
    found: dict[str, object] = {}
    if isinstance(configuration.sampler, PredictorCorrector):
        found["denoise"] = configuration.sampler.denoise
    if configuration.model.source is not None:
        found["weights"] = configuration.model.source.weights
    return found


def _expectation(sweep: Sweep, configuration: Configuration) -> Expectation:
    """The published FID of the configuration's cell, and those of the other cells of the same source.

    The protocol is expected even where no value is.
    """
    settings = {key: value for key, value in PROTOCOL.items() if key in _settings(configuration)}
    own = _published(configuration)
    if own is None:
        return Expectation(settings=settings)
    cells = {}
    for other in sweep.configurations:
        value = _published(other)
        if value is not None and value.source == own.source and value.value != own.value:
            cells[f"{other.row} / {other.column}"] = (value.value, value.std or 0.0)
    return Expectation(
        own.value, samples=own.samples, reference=own.reference, settings=settings, cells=cells
    )


def _published(configuration: Configuration) -> PublishedValue | None:
    return next((value for value in configuration.published if value.metric == "fid"), None)


def as_data(audit: Audit) -> dict[str, Any]:
    """The JSON form of an audit: numbers, and the findings in order."""
    told = {"difference": audit.difference, "unexplained": audit.unexplained, "verdict": audit.verdict}
    return asdict(audit) | told
