"""Two or more FID lines beside each other: what differs, whether they may be ranked, and how they rank.

A module of its own because it decides what is comparable, which no command may decide for itself. It must not
read storage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.scores.fidline import configuration_of, metrics_of
from jobs.scores.results import Result, ScoreLine, SetResult, score_label
from jobs.specs.sections import METRICS, Metric

DISTINCT = 2.0  # standard errors of a difference, from which on two scores are told apart

#: Metrics whose expectation does not depend on the number of images.
UNBIASED: frozenset[Metric] = frozenset({"kid", "fid_infinity"})
_LOWER_IS_BETTER: frozenset[Metric] = frozenset({"fid", "fid_infinity", "kid", "memorisation"})


@dataclass(frozen=True)
class Difference:
    """Something in which the lines are not the same."""

    what: str
    values: tuple[str, ...]  # one a line
    decisive: bool  # it forbids to rank them


@dataclass(frozen=True)
class Rank:
    """A line in its place, the best first."""

    name: str
    value: float
    standard_error: float | None
    #: to the next better one; None for the best
    behind: float | None
    #: whether that is more than two standard errors of the difference; None where an error is not known
    distinct: bool | None


@dataclass(frozen=True)
class Compared:
    """What became of a comparison."""

    names: tuple[str, ...]
    metric: Metric
    label: str
    comparable: bool
    differences: tuple[Difference, ...]
    ranking: tuple[Rank, ...]  # empty where they are not comparable


def compare(names: Sequence[str], lines: Sequence[ScoreLine], metric: Metric) -> Compared:
    """Compare the last stages of some lines by a metric.

    Raises ValueError for fewer than two lines, or when one has no such score.
    """
    if len(lines) < 2:
        raise ValueError("a comparison needs two results at least")
    for name, line in zip(names, lines, strict=True):
        if line.final.value(metric) is None:
            have = ", ".join(metrics_of(line.final)) or "no score"
            raise ValueError(f"{name} has no {metric}, it has {have}")
    needed = [conditions(line, metric) for line in lines]
    told = [circumstances(line) for line in lines]
    differences = (*_differing(needed, decisive=True), *_differing(told, decisive=False))
    comparable = not any(difference.decisive for difference in differences)
    measure = next(iter(lines[0].final.measures(metric)))
    return Compared(
        tuple(names),
        metric,
        score_label(measure, lines[0].extractor),
        comparable,
        differences,
        _ranking(names, lines, metric) if comparable else (),
    )


def common_metric(lines: Sequence[ScoreLine]) -> Metric | None:
    """The first metric that all of them have."""
    return next((m for m in METRICS if all(line.final.value(m) is not None for line in lines)), None)


def conditions(line: ScoreLine, metric: Metric) -> dict[str, str]:
    """What must be the same for two numbers of a metric to measure the same thing."""
    found = {f"extractor: {key}": str(value) for key, value in line.extractor.items()}
    if metric != "is":
        found["reference: content"] = line.reference.content
        found["reference: images"] = f"{line.reference.count:,}"
        found["reference: statistics"] = "published" if line.reference.imported else "of its images"
    if metric not in UNBIASED:
        found["N generated"] = f"{line.samples:,}"
    found["features"] = line.statistics.features_dtype
    found["covariance"] = f"ddof {line.statistics.ddof}, {line.statistics.moments_dtype}"
    return found | _settings(line, metric)


def _settings(line: ScoreLine, metric: Metric) -> dict[str, str]:
    """Of the metric itself."""
    scores = line.final
    if metric == "kid" and scores.kid:
        return {"KID: block size": str(scores.kid.block_size)}
    if metric == "precision_recall" and scores.precision_recall:
        return {"precision and recall: k": str(scores.precision_recall.k)}
    if metric == "density_coverage" and scores.density_coverage:
        return {"density and coverage: k": str(scores.density_coverage.k)}
    if metric == "memorisation" and scores.memorisation:
        return {"memorisation: level": str(scores.memorisation.level)}
    return {}


def circumstances(line: ScoreLine) -> dict[str, str]:
    """What may differ and must be said: what was compared, with what versions, on what."""
    configuration = configuration_of(line)
    found: dict[str, str] = {}
    if configuration is not None:
        digests = " ".join(str(digest)[:12] for digest in configuration.model.weights.values())
        found["model"] = f"{configuration.model.name} {digests or str(configuration.model.content)[:12]}"
        found["model: weights"] = str(configuration.model.source or "")
        for key, value in configuration.sampler.model_dump().items():
            found[f"sampler: {key}"] = str(value)
        for key in ("seed", "replicate", "group_size", "quantisation", "precision"):
            found[key] = str(getattr(configuration, key))
    if isinstance(line, SetResult):
        found["generated"] = f"{line.generated.name}, content {line.generated.content[:12]}"
        found["left out"] = f"{line.generated.left_out:,} images"
    if isinstance(line, Result):
        found["generated"] = f"pixels {line.images[:12]}"
        found["made on"] = "; ".join(share.execution.device for share in line.executions)
        found["execution identities"] = str(len(line.executions))
    found["reference: name"] = line.reference.name
    found["reference: split"] = line.reference.split or ""
    found["trace term"] = line.statistics.trace_method
    found["features on"] = "; ".join(share.execution.device for share in line.extraction)
    for package, version in line.versions.items():
        found[f"version: {package}"] = version
    return found


def _differing(found: Sequence[dict[str, str]], *, decisive: bool) -> list[Difference]:
    names = dict.fromkeys(name for each in found for name in each)
    rows = [(name, tuple(each.get(name, "") for each in found)) for name in names]
    return [Difference(name, values, decisive) for name, values in rows if len(set(values)) > 1]


def _ranking(names: Sequence[str], lines: Sequence[ScoreLine], metric: Metric) -> tuple[Rank, ...]:
    scores = []
    for name, line in zip(names, lines, strict=True):
        value, error = next(iter(line.final.measures(metric).values()))
        scores.append((value, error, name))
    scores.sort(key=lambda score: score[0], reverse=metric not in _LOWER_IS_BETTER)
    ranks: list[Rank] = []
    for number, (value, error, name) in enumerate(scores):
        behind, distinct = None, None
        if number:
            better, its_error, _ = scores[number - 1]
            behind = abs(value - better)
            if error is not None and its_error is not None:
                distinct = behind > DISTINCT * math.hypot(error, its_error)
        ranks.append(Rank(name, value, error, behind, distinct))
    return tuple(ranks)
