"""All metrics of one set of features against another, wherever the features are.

A module of its own because a sweep's reduction and the comparison of two folders must give the same numbers.
FID and IS read block by block in memory independent of the number of samples; the others hold all features.
It must not know configurations, nor what the images were made by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from fid.control import CONTROL_ROWS, real_control, subset
from fid.frechet import frechet_distance
from fid.memorisation import memorisation
from fid.moments import Moments
from fid.scores import (
    FidScore,
    InceptionScoreSums,
    density_coverage,
    fid_infinity,
    fid_score_of_blocks,
    kernel_distance,
    precision_recall,
)
from fid.uncertainty import predicted_bias
from jobs.scores.metrics import (
    DensityCoverage,
    Fid,
    FidInfinity,
    InceptionScores,
    Kid,
    Memorisation,
    PrecisionRecall,
    RealControl,
    StageScores,
)
from jobs.specs.requirements import OF_MOMENTS
from jobs.specs.sections import ErrorMethod, Metric
from jobs.storage.features import FeatureSource

CONTROL_SEED = 0  # of the splits of a control


class MetricsError(ValueError):
    """A metric cannot be computed of these sets; the message says why."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Decompositions in one thread: the last bits of more depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def moments_of(source: FeatureSource) -> Moments:
    """Moments of all features, one block after the other."""
    moments: Moments | None = None
    for rows in source:
        moments = moments or Moments(rows.features.shape[1])
        moments.update(rows.features)
    if moments is None:
        raise ValueError("moments of no features are not defined")
    return moments


def stage_scores(
    generated: FeatureSource,
    metrics: Collection[Metric],
    moments: Moments,
    real: FeatureSource | None,
    error: ErrorMethod = "jackknife",
) -> StageScores:
    """The metrics that are asked for.

    Args:
        generated: features of one step.
        metrics: which ones.
        moments: of the reference.
        real: its features; None where only moments are known.
        error: how the standard error of a Fréchet distance is found.

    Raises:
        ValueError: a metric needs features of the reference, or logits, or more samples.
    """
    score: FidScore | None = None
    if {"fid", "fid_infinity"} & {*metrics}:
        score = fid_score_of_blocks(generated.features, moments, error)
    scores = StageScores(
        step=generated.step,
        features=generated.digest(),
        fid=_fid(score) if score and "fid" in metrics else None,
        fid_infinity=_infinity(generated, moments, score) if score and "fid_infinity" in metrics else None,
        inception_score=_inception_score(generated) if "is" in metrics else None,
    )
    return scores.model_copy(update=_of_all_features(generated, metrics, real))


def control_of(scores: StageScores, real: FeatureSource | None, samples: int) -> RealControl | None:
    """What real images would score in the place of the generated ones; None where that cannot be known.

    scores: a control is given beside a Fréchet distance alone. samples: generated ones.
    """
    if scores.fid is None or real is None or real.samples < 4 or samples < 2:
        return None
    rows = real.some(subset(real.samples, 2 * CONTROL_ROWS, CONTROL_SEED))
    found = real_control(rows, samples, real.samples, CONTROL_SEED)
    return RealControl(value=found.mean, spread=found.spread, sizes=found.sizes)


def distance_of_moments(generated: Moments, reference: Moments, made_of: str) -> StageScores:
    """The Fréchet distance where no features are known; it has no standard error. `made_of`: a digest."""
    distance = frechet_distance(generated, reference)
    bias = predicted_bias(distance, generated, reference)
    score = Fid(
        value=distance.distance,
        mean_term=distance.mean_term,
        trace_term=distance.trace_term,
        standard_error=None,
        standard_error_method="none: it needs features",
        bias_generated=bias.generated,
        bias_reference=bias.reference,
    )
    return StageScores(step=0, features=made_of, fid=score)


def _of_all_features(
    generated: FeatureSource, metrics: Collection[Metric], real: FeatureSource | None
) -> dict[str, object]:
    """Metrics that compare all with all, by the name of their field."""
    asked = [metric for metric in metrics if metric not in OF_MOMENTS]
    found: dict[str, object] = {}
    if not asked:
        return found
    if real is None:
        raise ValueError(f"{asked[0]} needs the features of the reference, and only its moments are known")
    fake, truth = generated.everything(), real.everything()
    if "kid" in asked:
        found["kid"] = Kid(**vars(kernel_distance(fake, truth)))
    if "precision_recall" in asked:
        found["precision_recall"] = PrecisionRecall(**vars(precision_recall(fake, truth)))
    if "density_coverage" in asked:
        found["density_coverage"] = DensityCoverage(**vars(density_coverage(fake, truth)))
    if "memorisation" in asked:
        near = memorisation(fake, truth)
        found["memorisation"] = Memorisation(
            too_near=near.too_near, standard_error=near.standard_error, level=near.level, exact=near.exact
        )
    return found


def _fid(score: FidScore) -> Fid:
    return Fid(
        value=score.value,
        mean_term=score.mean_term,
        trace_term=score.trace_term,
        standard_error=score.standard_error.value,
        standard_error_method=score.standard_error.method,
        bias_generated=score.bias.generated,
        bias_reference=score.bias.reference,
    )


def _infinity(generated: FeatureSource, moments: Moments, score: FidScore) -> FidInfinity:
    return FidInfinity(**vars(fid_infinity(generated.everything(), moments, score.standard_error)))


def _inception_score(generated: FeatureSource) -> InceptionScores:
    ten: InceptionScoreSums | None = None
    one: InceptionScoreSums | None = None
    for rows in generated:
        if rows.logits is None:
            raise ValueError("the inception score needs logits, which this extractor does not give")
        if ten is None or one is None:
            classes = rows.logits.shape[1]
            ten = InceptionScoreSums(generated.samples, classes, splits=min(10, generated.samples))
            one = InceptionScoreSums(generated.samples, classes, splits=1)
        ten.update(rows.logits)
        one.update(rows.logits)
    if ten is None or one is None:
        raise ValueError("the inception score of no samples is not defined")
    split, whole = ten.score(), one.score()
    return InceptionScores(ten_splits=split.mean, ten_splits_std=split.std, one_split=whole.mean)
