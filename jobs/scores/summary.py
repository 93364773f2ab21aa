"""From results to cells: mean and standard deviation over replicates, verdicts beside published values.

Apart from the schema because this is where a claim is made: what counts as agreement, and what may not be
compared at all. It must not read storage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.scores.metrics import StageScores
from jobs.scores.results import (
    Cell,
    Comparison,
    MetricSummary,
    Result,
    StageSummary,
    Verdict,
    score_label,
)
from jobs.specs.sections import METRICS, Metric, PublishedValue

#: Two values agree when they lie within so many standard deviations of both together.
AGREEMENT = 2.0


def gather_cell(results: Sequence[Result], expected: int) -> Cell:
    """The cell of results that differ in the replicate alone; `expected` replicates were asked for.

    Raises:
        ValueError: the results are of different cells, extractors or references.
    """
    places = {(item.configuration.row, item.configuration.column) for item in results}
    measures = {(str(item.extractor), item.reference.content) for item in results}
    if len(places) != 1 or len(measures) != 1:
        raise ValueError(
            f"one cell, extractor and reference expected, got {places} and {len(measures)} measures"
        )
    ordered = sorted(results, key=lambda result: result.configuration.replicate)
    configuration = ordered[0].configuration
    return Cell(
        row=configuration.row,
        column=configuration.column,
        control=configuration.sampler.kind in ("noise", "real"),
        expected=expected,
        summaries=tuple(s for metric in _common_metrics(ordered) for s in _summaries(metric, ordered)),
        results=tuple(ordered),
    )


def _common_metrics(results: Sequence[Result]) -> list[Metric]:
    """Those that every replicate has: first what the sweep asks for, then what was evaluated beside."""
    asked = results[0].configuration.metrics
    every = [*asked, *(metric for metric in METRICS if metric not in asked)]
    return [metric for metric in every if all(r.final.value(metric) is not None for r in results)]


def _summaries(metric: Metric, results: Sequence[Result]) -> list[MetricSummary]:
    """One for each measure of a metric."""
    first = results[0]
    summaries = []
    for number, measure in enumerate(first.final.measures(metric)):
        label = score_label(measure, first.extractor)
        stages = tuple(
            _stage(metric, measure, at_step) for at_step in zip(*(r.stages for r in results), strict=True)
        )
        comparisons = tuple(
            Comparison(published=item, verdict=judge(item, stages[-1], label, measure, first))
            for item in first.configuration.published
            if item.metric == metric and number == 0
        )
        summaries.append(
            MetricSummary(metric=metric, measure=measure, label=label, stages=stages, comparisons=comparisons)
        )
    return summaries


def _stage(metric: Metric, measure: str, replicates: Sequence[StageScores]) -> StageSummary:
    found = [scores.measures(metric)[measure] for scores in replicates]
    values = [value for value, _ in found]
    errors = [error for _, error in found if error is not None]
    return StageSummary(
        step=replicates[0].step,
        values=tuple(values),
        mean=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        standard_error=float(np.mean(errors)) if errors else None,
    )


def judge(published: PublishedValue, own: StageSummary, label: str, plain: str, result: Result) -> Verdict:
    """Compare a cell's final value with a published one.

    They agree when they differ by at most two standard deviations of both together: ours over replicates, or
    the standard error where there is one replicate, and the published one where it is stated. `label` is our
    measure with its extractor, `plain` the published one, which is by the FID Inception.
    """
    obstacles = _obstacles(published, label, plain, result)
    if obstacles:
        return Verdict(judgement="not comparable", reason="; ".join(obstacles))
    spread = own.std if own.std is not None else own.standard_error or 0.0
    error = float(np.hypot(spread, published.std or 0.0))
    difference = own.mean - published.value
    agrees = abs(difference) <= AGREEMENT * error
    return Verdict(
        judgement="agrees" if agrees else "differs",
        reason=f"{difference:+.3g}, {AGREEMENT:g} standard deviations of both are {AGREEMENT * error:.2g}",
    )


def _obstacles(published: PublishedValue, label: str, plain: str, result: Result) -> list[str]:
    """Why the two numbers do not measure the same thing."""
    found = []
    if label != plain:
        found.append(f"extractor differs: {label} here, {plain} published")
    if result.configuration.model.note:
        found.append(f"model: {result.configuration.model.note}")
    if result.samples != published.samples:
        found.append(f"N differs: {result.samples:,} here, {published.samples:,} published")
    if published.reference is not None and published.reference != result.reference.name:
        found.append(f"reference differs: {result.reference.name} here, {published.reference} published")
    return found
