"""What is said beside a score: who made the samples, at what cost, with what signs of trouble.

All of it is read from the markers of committed files and the configuration; nothing here computes a score.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.scores.results import Diagnostic, ExecutionShare
from jobs.specs.configuration import Configuration, Extractor
from jobs.storage.commit import Marker


def extractor_identity(extractor: Extractor) -> dict[str, str | int]:
    """Network, conventions, dimension and the sha256 of the weights."""
    from fid.extractors import identity_of  # imports torch, which reading results needs not

    weights = extractor.weights or ""
    return {**identity_of(extractor.name), "weights": weights, "dimension": extractor.dimension}


@dataclass(frozen=True)
class Making:
    """How committed files were made, as their markers say."""

    executions: tuple[ExecutionShare, ...]  # the largest share first
    evaluations: float  # of networks, for each image
    diagnostics: dict[str, Diagnostic]  # over all groups, where finite: R-hat of one chain, for one, is not
    clipped: dict[int, float]  # step -> fraction of values outside [0, 1], over all groups
    seconds: Counter[str]  # by phase, over all workers


def making(markers: Iterable[Marker], samples: int) -> Making:
    """One pass over the markers, of which none is kept. samples: those asked for, if there are more."""
    shares: dict[str, ExecutionShare] = {}
    diagnostics: dict[str, _Spread] = defaultdict(_Spread)
    clipped: dict[int, float] = defaultdict(float)
    quantised: Counter[int] = Counter()
    seconds: Counter[str] = Counter()
    evaluations = rows = 0
    for marker in markers:
        text = marker.execution.model_dump_json()
        share = min(marker.last, samples) - marker.first + (shares[text].samples if text in shares else 0)
        shares[text] = ExecutionShare(execution=marker.execution, samples=share)
        evaluations += marker.evaluations
        rows += len(marker.samples)
        for group in marker.groups:
            for name, value in group.diagnostics.items():
                diagnostics[name].add(value)
            for step, fraction in group.clipped.items():
                clipped[step] += fraction * (group.last - group.first)
                quantised[step] += group.last - group.first
        seconds.update(marker.seconds)
    return Making(
        executions=tuple(sorted(shares.values(), key=lambda share: -share.samples)),
        evaluations=evaluations / rows if rows else 0.0,
        diagnostics={name: found.diagnostic for name, found in sorted(diagnostics.items()) if found.count},
        clipped={step: clipped[step] / size for step, size in sorted(quantised.items())},
        seconds=seconds,
    )


@dataclass
class _Spread:
    """Mean and extremes of finite numbers."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.count += 1
            self.total += value
            self.least, self.most = min(self.least, value), max(self.most, value)

    @property
    def diagnostic(self) -> Diagnostic:
        return Diagnostic(mean=self.total / self.count, least=self.least, most=self.most)


def planned_evaluations(configuration: Configuration) -> int:
    """Network evaluations for each image, by the sampler's settings."""
    from sdesampling import samplers  # imports torch, which reading results needs not

    return samplers.planned_evaluations(**configuration.sampler.model_dump())


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
