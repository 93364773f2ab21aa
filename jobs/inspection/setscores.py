"""Scores of any two sets of images, without a sweep.

Apart from a sweep's reduction because neither set need be in a store; the numbers come from the same code.
It must not read images.
"""

from __future__ import annotations

from collections.abc import Sequence

from fid.frechet import TRACE_METHOD
from jobs.references.imagesets import FeatureSet
from jobs.scores.metrics import StageScores
from jobs.scores.provenance import extractor_identity, few_samples
from jobs.scores.results import ReferenceRecord, SetResult, Statistics, package_versions
from jobs.scores.scoring import MetricsError, control_of, distance_of_moments, one_thread, stage_scores
from jobs.specs.configuration import Extractor
from jobs.specs.requirements import why_not
from jobs.specs.sections import ErrorMethod, Metric


def possible(
    generated: FeatureSet,
    reference: FeatureSet,
    extractor: Extractor,
    metrics: Sequence[Metric],
    *,
    strict: bool,
) -> tuple[list[Metric], list[str]]:
    """The metrics that can be computed, and a line for each that cannot.

    strict: they were asked for one by one, so raise MetricsError instead.
    """
    chosen, reasons = [], []
    for metric in metrics:
        reason = why_not(
            metric,
            generated.count,
            extractor,
            reference.count,
            features=generated.features is not None,
            real=reference.features is not None,
        )
        if reason is None:
            chosen.append(metric)
        else:
            reasons.append(reason)
    if reasons and strict:
        raise MetricsError("\n".join(reasons))
    return chosen, reasons


def score_sets(
    generated: FeatureSet,
    reference: FeatureSet,
    extractor: Extractor,
    metrics: Sequence[Metric],
    notes: Sequence[str] = (),
    error: ErrorMethod = "jackknife",
) -> SetResult:
    """The metrics of one set against another, with all that they depend on.

    notes: what else to say. error: how the standard error of a Fréchet distance is found.
    """
    with one_thread():
        scores = _scores(generated, reference, metrics, error)
        control = control_of(scores, reference.features, generated.count)
        features = reference.features.digest() if reference.features else reference.record.content
    unknown = generated.imported and reference.imported
    return SetResult(
        samples=generated.count,
        generated=generated.record,
        extractor=extractor_identity(extractor) | ({"weights": ""} if unknown else {}),
        reference=ReferenceRecord(
            name=reference.record.name,
            content=reference.record.content,
            count=reference.count,
            features=features,
            split=reference.record.split,
            imported=reference.imported,
        ),
        statistics=Statistics(trace_method=TRACE_METHOD),
        stages=(scores,),
        control=control,
        extraction=generated.extraction,
        versions=package_versions(),
        warnings=(*_warnings(generated, reference, extractor), *notes),
    )


def _scores(
    generated: FeatureSet, reference: FeatureSet, metrics: Sequence[Metric], error: ErrorMethod
) -> StageScores:
    if generated.features is None:
        return distance_of_moments(generated.moments(), reference.moments(), generated.record.content)
    return stage_scores(generated.features, metrics, reference.moments(), reference.features, error)


def _warnings(generated: FeatureSet, reference: FeatureSet, extractor: Extractor) -> list[str]:
    """What a reader of the score must know."""
    found = few_samples(generated.count, reference.count, extractor.dimension)
    if generated.record.content == reference.record.content:
        found.append("both sets have the same content")
    if generated.shape and reference.shape and generated.shape[1:] != reference.shape[1:]:
        (_, *first), (_, *second) = generated.shape, reference.shape
        sizes = f"{first[1]}x{first[0]} and {second[1]}x{second[0]}"
        found.append(f"images of {sizes} are compared: whatever made them so is in the score")
    for side in (generated, reference):
        if side.imported:
            found.append(
                f"{side.record.name} holds statistics that others made, by {extractor.name} as is assumed: "
                "weights, resize and normalisation behind it cannot be checked"
            )
        if side.record.left_out:
            found.append(f"{side.record.left_out:,} images of {side.record.name} could not be used")
    if generated.extraction and reference.extraction:
        first_run, second_run = generated.extraction[0].execution, reference.extraction[0].execution
        if (first_run.device, first_run.torch) != (second_run.device, second_run.torch):
            found.append(f"features were made on {first_run.device} and on {second_run.device}")
    return found
