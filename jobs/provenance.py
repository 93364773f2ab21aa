"""What is said beside a score: who made the samples, at what cost, with what signs of trouble.

All of it is read from the markers of committed files and the configuration; nothing here computes a score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jobs.commit import Marker
from jobs.configuration import Configuration, Extractor
from jobs.results import Diagnostic, Evaluations, ExecutionShare


def extractor_identity(extractor: Extractor) -> dict[str, str | int]:
    """Network, conventions, dimension and the sha256 of the weights."""
    from fid.extractors import identity_of  # imports torch, which reading results needs not

    weights = extractor.weights or ""
    return {**identity_of(extractor.name), "weights": weights, "dimension": extractor.dimension}


def execution_shares(markers: Sequence[Marker], samples: int) -> tuple[ExecutionShare, ...]:
    """How many samples each execution identity made, the largest share first."""
    counts: dict[str, ExecutionShare] = {}
    for marker in markers:
        text = marker.execution.model_dump_json()
        known = counts[text].samples if text in counts else 0
        share = known + min(marker.last, samples) - marker.first
        counts[text] = ExecutionShare(execution=marker.execution, samples=share)
    return tuple(sorted(counts.values(), key=lambda share: -share.samples))


def evaluations(configuration: Configuration, images: Sequence[Marker]) -> Evaluations:
    """Planned by the sampler's settings, and really made, by the markers, for each image."""
    from sdesampling.samplers import planned_evaluations  # imports torch, which reading results needs not

    planned = planned_evaluations(**configuration.sampler.model_dump())
    made = sum(marker.evaluations for marker in images) / sum(len(marker.samples) for marker in images)
    return Evaluations(planned=planned, made=made)


def diagnostics(images: Sequence[Marker]) -> dict[str, Diagnostic]:
    """Mean, least and greatest over all groups where it is finite; R-hat of one chain, for one, is not."""
    values: dict[str, list[float]] = defaultdict(list)
    for marker in images:
        for group in marker.groups:
            for name, value in group.diagnostics.items():
                if np.isfinite(value):
                    values[name].append(value)
    return {
        name: Diagnostic(mean=float(np.mean(found)), least=min(found), most=max(found))
        for name, found in sorted(values.items())
    }


def clipped(images: Sequence[Marker]) -> dict[int, float]:
    """Step -> fraction of values outside [0, 1], over all groups."""
    shares: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for marker in images:
        for group in marker.groups:
            for step, fraction in group.clipped.items():
                shares[step].append((fraction, group.last - group.first))
    return {
        step: sum(fraction * size for fraction, size in found) / sum(size for _, size in found)
        for step, found in sorted(shares.items())
    }


def seconds(markers: Sequence[Marker]) -> dict[str, float]:
    """By phase, over all workers."""
    total: dict[str, float] = defaultdict(float)
    for marker in markers:
        for phase, seconds in marker.seconds.items():
            total[phase] += seconds
    return dict(sorted(total.items()))


def warnings(
    configuration: Configuration,
    extractor: Extractor,
    executions: Sequence[ExecutionShare],
    reference_count: int,
) -> tuple[str, ...]:
    """What a reader of the score must know."""
    found = []
    if len(executions) > 1:
        shares = ", ".join(
            f"{share.samples:,} on {share.execution.device} (micro-batch {share.execution.micro_batch})"
            for share in executions
        )
        found.append(f"made under {len(executions)} execution identities: {shares}")
    found += configuration.cautions
    found += few_samples(configuration.samples, reference_count, extractor.dimension)
    return tuple(found)


def few_samples(generated: int, reference: int, dimension: int) -> list[str]:
    """What to know of a Fréchet distance of no more samples than dimensions."""
    return [
        f"{count:,} {what} samples for {dimension:,} dimensions: "
        f"the covariance is singular and the predicted bias an upper estimate"
        for what, count in (("generated", generated), ("reference", reference))
        if count <= dimension
    ]
