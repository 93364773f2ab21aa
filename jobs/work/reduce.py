"""From committed features to results: in index order, fixed blocks of 1,024, float64 moments, scores.

A module of its own because these numbers must not depend on how the work was cut up: the same features give
the same bits, whatever the shards and threads. It must not sample or extract.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

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
from jobs.storage.ledger import scan
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
    ledger = scan(store, paths, [extractor.key for extractor in configuration.extractors])
    images = ledger.images.before(configuration.samples)
    results = []
    with one_thread():
        for extractor in configuration.extractors:
            features = _needed(ledger.features[extractor.key], configuration, extractor.key)
            scored = _Scored(store, paths, configuration, extractor, images, features)
            for data_set in configuration.references:
                result = scored.against(load_reference(store, data_set, extractor))
                name = paths.result(extractor.key, data_set.name)
                store.put(name, result.model_dump_json(indent=1).encode())
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


@dataclass(frozen=True)
class _Scored:
    """One configuration by one extractor; the markers are of the samples that are asked for."""

    store: Store
    paths: ConfigurationPaths
    configuration: Configuration
    extractor: Extractor
    images: Markers
    features: Markers

    def against(self, reference: Reference) -> Result:
        """The scores against a reference, with all that they depend on."""
        provide_extractor(self.extractor.name)
        configuration, samples = self.configuration, self.configuration.samples
        real = reference.features(self.store)
        stages = self._stages(reference, real)
        sampling = provenance.making(self.images, samples)
        extraction = provenance.making(self.features, samples)
        seconds = Counter(sampling.seconds)
        seconds.update(extraction.seconds)
        return Result(
            configuration=configuration,
            fingerprint=configuration.fingerprint,
            samples=samples,
            extractor=provenance.extractor_identity(self.extractor),
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
            control=control_of(stages[-1], real, samples),
            images=self.images.digest,
            evaluations=Evaluations(
                planned=provenance.planned_evaluations(configuration), made=sampling.evaluations
            ),
            executions=sampling.executions,
            extraction=extraction.executions,
            diagnostics=sampling.diagnostics,
            clipped=sampling.clipped,
            seconds=dict(sorted(seconds.items())),
            versions=package_versions(),
            warnings=provenance.warnings(configuration, self.extractor, sampling.executions, reference.count),
        )

    def _stages(self, reference: Reference, real: StoredFeatures | None) -> tuple[StageScores, ...]:
        """The scores of each stage, with those that were asked for before."""
        configuration, key = self.configuration, self.extractor.key
        moments = reference_moments(self.store, reference)
        before = _scores_before(self.store, self.paths.result(key, reference.name), reference)
        stages = []
        for step in configuration.stages:
            features = StoredFeatures(
                self.store, self.paths.features(key), self.features, step, configuration.samples
            )
            scores = stage_scores(
                features, configuration.metrics, moments, real, configuration.standard_error
            )
            stages.append(_with_others(scores, before.get(step)))
        return tuple(stages)


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
