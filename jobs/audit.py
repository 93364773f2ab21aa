"""Evidence for an audit, from a store or from files: images, features, a reference, what was expected.

A module of its own because `fid.audit` knows arrays only. Whatever of a configuration is not whole is left
out and shows there as missing. It must not judge.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from fid.audit import Audit, Evidence, Expectation, ImageSet
from fid.extractors import Extractor as FeatureNetwork
from fid.extractors import load_extractor
from fid.extractors.inception import NORMALISATIONS, RESIZES
from jobs.catalog import resolve_extractor
from jobs.commit import DamageError
from jobs.configuration import Configuration, Extractor
from jobs.datasets import BUILT_IN, DatasetError, read_dataset
from jobs.extraction import extract
from jobs.features import committed_features
from jobs.imagefiles import IMAGE_SUFFIXES
from jobs.images import committed_images
from jobs.ledger import scan
from jobs.paths import SweepPaths, extractor_key
from jobs.reference_index import read_index
from jobs.reference_moments import reference_moments
from jobs.references import load_reference
from jobs.results import Result
from jobs.sections import DataSet, PredictorCorrector, PublishedValue
from jobs.spec import ExtractorSection
from jobs.store import Store
from jobs.sweep import Sweep
from jobs.weights import weights_of

ENCODINGS_READ = 1000  # files whose format is looked at


def audited_configuration(
    store: Store, sweep: Sweep, configuration: Configuration, extractor: Extractor, reference: DataSet
) -> Evidence:
    """What the store knows of a configuration and the reference that it is scored against.

    Expected are the published value of its cell and the other cells of the same source.
    """
    if extractor.weights is None:
        raise FileNotFoundError(f"the weights of {extractor.name} are not in the store; run the sweep first")
    with weights_of(store) as weights:
        path = weights(extractor.weights)
        network, variants = load_extractor(extractor.name, path), variants_of(extractor.name, path)
    return Evidence(
        generated=stored_samples(store, sweep.name, configuration, extractor),
        reference=stored_reference(store, reference, extractor, network),
        extractor=network,
        variants=variants,
        reported=_reported(store, sweep.name, configuration, extractor, reference),
        settings=_settings(configuration),
        expectation=_expectation(sweep, configuration),
    )


def audited_images(path: Path, reference: DataSet, section: ExtractorSection, folder: Path) -> Evidence:
    """What a set of image files and a data set show, by the features of one extractor.

    Raises DatasetError, UnresolvedError or FileNotFoundError for what cannot be read.
    """
    found = resolve_extractor(section, folder)
    if found.missing:
        raise FileNotFoundError(found.missing[0])
    weights = found.files[str(found.thing.weights)]
    network = load_extractor(section.name, weights)
    real = None if reference.path is None else Path(reference.path)
    return Evidence(
        generated=files_with_features(path.name, path, network),
        reference=files_with_features(reference.name, real, network),
        extractor=network,
        variants=variants_of(section.name, weights),
    )


def expecting(evidence: Evidence, value: float | None, samples: int | None, real: DataSet | None) -> Evidence:
    """The same evidence with what a user expects, where it is given, in place of what was published.

    real: the data set that the value was measured against; it is read, its features are made.
    """
    expectation = evidence.expectation
    if value is not None:
        expectation = replace(expectation, value=value)
    if samples is not None:
        expectation = replace(expectation, samples=samples)
    if real is not None and evidence.extractor is not None:
        path = None if real.path is None else Path(real.path)
        found = files_with_features(real.name, path, evidence.extractor)
        expectation = replace(expectation, real=found, reference=real.name)
    return replace(evidence, expectation=expectation)


def stored_samples(store: Store, sweep: str, configuration: Configuration, extractor: Extractor) -> ImageSet:
    """Images and features of the last step of the samples that have both, by the extractor."""
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    key = extractor_key(extractor.name, extractor.weights or "")
    ledger = scan(store, paths, [key])
    images = {marker.samples: marker for marker in ledger.images}
    index, pixels, features, logits = [], [], [], []
    for marker in ledger.features[key]:
        if marker.samples not in images or marker.first >= configuration.samples:
            continue
        try:
            drawn = committed_images(store, paths.images, images[marker.samples])[-1]
            made = committed_features(store, paths.features(key), marker)[-1]
        except DamageError:
            continue
        keep = made.index < configuration.samples
        index.append(made.index[keep])
        pixels.append(drawn.images[keep])
        features.append(made.features[keep])
        if made.logits is not None:
            logits.append(made.logits[keep])
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
        record = read_index(store, reference)
    except FileNotFoundError:
        return files_with_features(reference.name, path, network)
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
    if record.kind != "images":
        return held
    if path is None and record.source is not None:
        path = Path(record.source)
    if path is None and reference.name not in BUILT_IN:
        return held
    try:
        data = read_dataset(reference.name, path, record.split)
    except DatasetError:
        return held  # the source has moved: what needs images says so
    if data.content_hash != record.content:
        return held
    return replace(held, images=data.images, encodings=encodings_of(path))


def files_with_features(name: str, path: Path | None, network: FeatureNetwork) -> ImageSet:
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
    with Image.open(source) as image:
        return f"{image.format} {image.mode}"


def variants_of(name: str, weights: Path) -> dict[str, FeatureNetwork]:
    """The FID Inception with its other resizes and normalisations; other extractors have none."""
    if name != "inception":
        return {}
    usual = load_extractor(name, weights).identity
    found = {f"resize {resize}": load_extractor(name, weights, resize=resize) for resize in RESIZES}
    for normalisation in NORMALISATIONS:
        found[f"normalisation {normalisation}"] = load_extractor(name, weights, normalisation=normalisation)
    return {other: network for other, network in found.items() if network.identity != usual}


def _reported(
    store: Store, sweep: str, configuration: Configuration, extractor: Extractor, reference: DataSet
) -> float | None:
    """The FID of the results file; None where the configuration was not scored, or not by FID."""
    key = extractor_key(extractor.name, extractor.weights or "")
    name = SweepPaths(sweep).configuration(configuration.fingerprint).result(key, reference.name)
    try:
        result = Result.model_validate_json(store.get(name))
    except FileNotFoundError:
        return None
    return None if result.final.fid is None else result.final.fid.value


def _settings(configuration: Configuration) -> dict[str, object]:
    """What of a sampler the audit compares with the protocol of the expected value."""
    sampler = configuration.sampler
    return {"denoise": sampler.denoise} if isinstance(sampler, PredictorCorrector) else {}


def _expectation(sweep: Sweep, configuration: Configuration) -> Expectation:
    """The published FID of the configuration's cell, and those of the other cells of the same source."""
    own = _published(configuration)
    if own is None:
        return Expectation()
    cells = {}
    for other in sweep.configurations:
        value = _published(other)
        if value is not None and value.source == own.source and value.value != own.value:
            cells[f"{other.row} / {other.column}"] = (value.value, value.std or 0.0)
    # every score-based row in the catalogue was sampled with a last denoising step (facts of its source)
    settings = {"denoise": True} if isinstance(configuration.sampler, PredictorCorrector) else {}
    return Expectation(
        own.value, samples=own.samples, reference=own.reference, settings=settings, cells=cells
    )


def _published(configuration: Configuration) -> PublishedValue | None:
    return next((value for value in configuration.published if value.metric == "fid"), None)


def as_data(audit: Audit) -> dict[str, Any]:
    """The JSON form of an audit: numbers, and the findings in order."""
    return asdict(audit) | {"difference": audit.difference, "unexplained": audit.unexplained}
