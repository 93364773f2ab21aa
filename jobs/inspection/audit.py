"""Evidence for an audit: two sides, what was reported, what was expected.

A module of its own because `fid.audit` knows arrays only, and no configurations or published values. What is
in the sides is read in `jobs/inspection/sides.py`. It must not judge.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from fid.audit import Audit, Evidence, Expectation, ImageSet
from fid.extractors import Extractor as FeatureNetwork
from fid.extractors import load_extractor
from fid.extractors.inception import NORMALISATIONS, RESIZES, conventions
from jobs.inspection.sides import SideReader, stored_reference, stored_samples
from jobs.models.resolve import Resolved
from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.references.imagesets import Given
from jobs.scores.results import Result
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import DataSet, PublishedValue
from jobs.store import Store

#: How all published score-based values were sampled: a last step without noise, averaged weights.
PROTOCOL: dict[str, object] = {"denoise": True, "weights": "ema"}


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
    name = SweepPaths(sweep).configuration(configuration.fingerprint).result(extractor.key, reference)
    try:
        result = Result.model_validate_json(store.get(name))
    except FileNotFoundError:
        return None
    return None if result.final.fid is None else result.final.fid.value


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
    part: dict[str, Any] | None = None
    if audit.part is not None:
        found = audit.part
        fault = None if found.explanation is None else found.explanation.fault.name
        part = {"side": found.side, "share": found.share, "numbers": found.numbers}
        part |= {"differing": found.differing, "fault": fault}
    told = {"difference": audit.difference, "unexplained": audit.unexplained, "verdict": audit.verdict}
    return asdict(replace(audit, part=None)) | told | {"part": part}
