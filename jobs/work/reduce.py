"""From committed features to results: in index order, fixed blocks of 1,024, float64 moments, scores.

A module of its own because these numbers must not depend on how the work was cut up: the same features give
the same bits, whatever the shards and threads. It must not sample or extract.
"""

from __future__ import annotations

from collections import Counter

from pydantic import ValidationError

from fid.frechet import TRACE_METHOD
from jobs.models.plugins import provide_extractor
from jobs.paths import ConfigurationPaths, SweepPaths
from jobs.references.moments import reference_moments
from jobs.references.reference import Reference, load_reference
from jobs.scores import provenance
from jobs.scores.metrics import StageScores
from jobs.scores.results import Evaluations, ReferenceRecord, Result, Statistics, package_versions
from jobs.scores.scoring import control_of, one_thread, stage_scores
from jobs.specs.configuration import Configuration, Extractor
from jobs.storage.features import StoredFeatures
from jobs.storage.ledger import ConfigurationLedger, scan
from jobs.storage.markers import Markers
from jobs.store import Store


class IncompleteError(Exception):
    """A configuration cannot be scored yet: samples or features are missing."""


def reduce_configuration(store: Store, sweep: str, configuration: Configuration) -> tuple[Result, ...]:
    """Score a configuration by each of its extractors against each of its references, and write the results.

    Returns the results in the order of the spec: extractor by extractor.

    Raises:
        IncompleteError: images or features of some samples are missing.
        DamageError: a file does not hold what its marker says, or indices are missing or double.
        FileNotFoundError: a reference was never built.
    """
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    keys = [extractor.key for extractor in configuration.extractors]
    ledger = scan(store, paths, keys)
    results = []
    with one_thread():
        for extractor, key in zip(configuration.extractors, keys, strict=True):
            markers = _needed(ledger.features[key], configuration, key)
            for data_set in configuration.references:
                reference = load_reference(store, data_set, extractor)
                result = _score(store, paths, configuration, extractor, key, ledger, markers, reference)
                store.put(paths.result(key, data_set.name), result.model_dump_json(indent=1).encode())
                results.append(result)
    return tuple(results)


def _needed(markers: Markers, configuration: Configuration, key: str) -> Markers:
    """The markers of the samples that are asked for. Raises IncompleteError when they do not cover them."""
    needed = markers.before(configuration.samples)
    covered = sum(min(done.stop, configuration.samples) - done.start for done in needed.ranges)
    if covered < configuration.samples:
        raise IncompleteError(
            f"{configuration.name}: {covered:,} of {configuration.samples:,} samples have features of {key}; "
            f"run the sweep again"
        )
    return needed


def _score(
    store: Store,
    paths: ConfigurationPaths,
    configuration: Configuration,
    extractor: Extractor,
    key: str,
    ledger: ConfigurationLedger,
    markers: Markers,
    reference: Reference,
) -> Result:
    provide_extractor(extractor.name)
    real = reference.features(store)
    moments = reference_moments(store, reference)
    folder = paths.features(key)
    before = _scores_before(store, paths.result(key, reference.name), reference)
    stages = tuple(
        _with_others(
            stage_scores(
                StoredFeatures(store, folder, markers, step, configuration.samples),
                configuration.metrics,
                moments,
                real,
                configuration.standard_error,
            ),
            before.get(step),
        )
        for step in configuration.stages
    )
    images = ledger.images.before(configuration.samples)
    sampling = provenance.making(images, configuration.samples)
    extraction = provenance.making(markers, configuration.samples)
    planned = provenance.planned_evaluations(configuration)
    seconds = Counter(sampling.seconds)
    seconds.update(extraction.seconds)
    return Result(
        configuration=configuration,
        fingerprint=configuration.fingerprint,
        samples=configuration.samples,
        extractor=provenance.extractor_identity(extractor),
        reference=ReferenceRecord(
            name=reference.name,
            content=reference.content,
            count=reference.count,
            features=reference.digest,
            split=reference.split,
            imported=reference.imported,
        ),
        statistics=Statistics(trace_method=TRACE_METHOD),
        stages=stages,
        control=control_of(stages[-1], real, configuration.samples),
        images=images.digest,
        evaluations=Evaluations(planned=planned, made=sampling.evaluations),
        executions=sampling.executions,
        extraction=extraction.executions,
        diagnostics=sampling.diagnostics,
        clipped=sampling.clipped,
        seconds=dict(sorted(seconds.items())),
        versions=package_versions(),
        warnings=provenance.warnings(configuration, extractor, sampling.executions, reference.count),
    )


def _scores_before(store: Store, name: str, reference: Reference) -> dict[int, StageScores]:
    """Step -> scores of the results file that stands, if they are of this reference and these versions."""
    try:
        result = Result.model_validate_json(store.get(name))
    except (FileNotFoundError, ValidationError):  # ValidationError: of another version
        return {}
    if result.reference.features != reference.digest or result.versions != package_versions():
        return {}
    return {stage.step: stage for stage in result.stages}


def _with_others(scores: StageScores, before: StageScores | None) -> StageScores:
    """Scores with metrics that were asked for before and not now, where they are of the same features."""
    if before is None or before.features != scores.features:
        return scores
    kept = {key: value for key, value in before if getattr(scores, key) is None and value is not None}
    return scores.model_copy(update=kept)
