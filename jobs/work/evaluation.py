"""Scoring again: other extractors, references or metrics for images that a sweep has already.

The request is kept in the store beside the sweep, whose own record stays as it is: workers read it there, and
its results lie among the others. It must not make images, nor know workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.fingerprint import fingerprint
from jobs.models.catalog import DATA_SETS
from jobs.paths import SweepPaths
from jobs.scores.scoring import MetricsError
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.requirements import why_not
from jobs.specs.sections import DataSet, ErrorMethod, Metric, Section
from jobs.storage.records import read_record
from jobs.storage.reference_index import read_index
from jobs.store import Store


class EvaluationRequest(Section):
    """What is asked of each configuration; null: what its sweep asks."""

    extractors: tuple[Extractor, ...] | None = None
    references: tuple[DataSet, ...] | None = None
    metrics: tuple[Metric, ...] | None = None
    standard_error: ErrorMethod | None = None

    @property
    def digest(self) -> str:
        """Names it in the store and in assignments."""
        return fingerprint(self.model_dump(mode="json", exclude_none=True))[:16]

    def applied(self, configuration: Configuration) -> Configuration:
        """The configuration with what is asked in place of its own; its fingerprint stays."""
        asked = {key: value for key in type(self).model_fields if (value := getattr(self, key)) is not None}
        return configuration.model_copy(update=asked)


def write_request(store: Store, sweep: str, request: EvaluationRequest) -> None:
    """Keep a request where workers find it."""
    store.put(SweepPaths(sweep).evaluation(request.digest), request.model_dump_json(indent=1).encode())


def read_request(store: Store, sweep: str, digest: str) -> EvaluationRequest:
    """The request of that digest. Raises FileNotFoundError, or StoreError where it is damaged."""
    name = SweepPaths(sweep).evaluation(digest)
    return read_record(store, name, EvaluationRequest, "request", "`sdesweep evaluate` writes it anew")


def refuse_impossible(
    store: Store, request: EvaluationRequest, configurations: Sequence[Configuration]
) -> None:
    """Raise MetricsError, with every reason, where a metric cannot be had of what was asked."""
    reasons = [reason for found in _obstacles(store, request, configurations).values() for reason in found]
    if reasons:
        raise MetricsError("\n".join(dict.fromkeys(reasons)))


def without_impossible(
    store: Store, request: EvaluationRequest, configurations: Sequence[Configuration]
) -> tuple[EvaluationRequest, list[str]]:
    """The request without the metrics that some configuration cannot have, and a reason for each of them.

    Raises MetricsError when none is left.
    """
    reasons = _obstacles(store, request, configurations)
    left = tuple(metric for metric in request.metrics or () if metric not in reasons)
    if not left:
        refuse_impossible(store, request, configurations)
    return request.model_copy(update={"metrics": left}), [found[0] for found in reasons.values()]


def _obstacles(
    store: Store, request: EvaluationRequest, configurations: Sequence[Configuration]
) -> dict[Metric, list[str]]:
    """Why metrics cannot be had, by metric."""
    found: dict[Metric, list[str]] = {}
    for configuration in map(request.applied, configurations):
        for extractor in configuration.extractors:
            for data_set in configuration.references:
                for metric in configuration.metrics:
                    reason = _obstacle(store, configuration, extractor, data_set, metric)
                    if reason:
                        found.setdefault(metric, []).append(reason)
    return found


def _obstacle(
    store: Store, configuration: Configuration, extractor: Extractor, data_set: DataSet, metric: Metric
) -> str | None:
    """Why a configuration cannot have a metric against a reference; None where it can."""
    count, moments_only = None, False
    if data_set.path is None and data_set.name in DATA_SETS:
        count = DATA_SETS[data_set.name].images
    elif data_set.path is None:
        record = read_index(store, data_set)
        problem = record.obstacle(extractor, (metric,))
        if problem:
            return f"{data_set.name} {problem}"
        count, moments_only = record.count, record.kind == "moments"
    samples = configuration.samples
    reason = why_not(metric, samples, extractor, count, features=True, real=not moments_only)
    return f"{configuration.name}: {reason}" if reason else None
