"""The audit: all tests, cheapest first, and their findings in order of what they explain.

Apart from the tests because it alone knows them all. It must not know where the evidence comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from fid.audit import (
    collapse,
    completeness,
    few_images,
    layer,
    network,
    numerics,
    reference,
    resize,
    sampler,
    storage,
    table_cell,
    value_range,
)
from fid.audit.apart import Part
from fid.audit.evidence import Evidence
from fid.audit.finding import Finding, HypothesisTest

TESTS: tuple[HypothesisTest, ...] = tuple(
    sorted(
        (
            few_images.TEST,
            layer.TEST,
            network.TEST,
            value_range.TEST,
            resize.TEST,
            reference.TEST,
            sampler.TEST,
            numerics.TEST,
            storage.TEST,
            completeness.TEST,
            collapse.TEST,
            table_cell.TEST,
        ),
        key=lambda test: test.cost,
    )
)

Progress = Callable[[HypothesisTest, Finding | None], None]  # None: the test begins


@dataclass(frozen=True)
class Audit:
    """What all tests together say of a value.

    Attributes:
        measured: the value in question, as reported or as computed; None where it does not exist.
        expected: the value that was expected.
        baseline: the same, or the real control at the same numbers where nothing was expected.
        standard_error: of the distance over other draws of the generated samples; None where too few to tell.
        mean_term, trace_term: parts of the distance; range, resize and extractor load on the first, few
            samples on the second.
        findings: found first, by directness and contribution, then what remains, then what is excluded.
        unnamed: statistics of pixels that differ, most first, where no known fault explains the images.
        part: images of one side that lie apart from the rest of it.
    """

    measured: float | None
    expected: float | None
    baseline: float | None
    standard_error: float | None
    mean_term: float | None
    trace_term: float | None
    findings: tuple[Finding, ...]
    unnamed: tuple[str, ...] = ()
    part: Part | None = None

    @property
    def found(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict == "found")

    @property
    def difference(self) -> float | None:
        """Points between the measured value and the baseline."""
        return None if self.measured is None or self.baseline is None else self.measured - self.baseline

    @property
    def verdict(self) -> str:
        """One sentence: what was found, what is excluded, what remains, and what none of it explains."""
        found = [finding.test for finding in self.found]
        said = [f"found {', '.join(found)}" if found else "nothing found"]
        for verdict in ("remains", "excluded"):
            tests = [finding.test for finding in self.findings if finding.verdict == verdict]
            if tests:
                said.append(f"{verdict} {', '.join(sorted(tests, key=lambda test: int(test[1:])))}")
        if self.difference is not None and self.unexplained is not None and self.standard_error is not None:
            if abs(self.difference) <= 2 * self.standard_error:
                said.append(f"the difference of {self.difference:.3g} points is within two standard errors")
            elif self.difference < 0:
                said.append(
                    f"the value is {-self.difference:.3g} points lower than that: nothing wants a reason"
                )
            else:
                said.append(f"{self.unexplained:.3g} of {self.difference:.3g} points are not explained")
        if self.part is not None and self.part.explanation is None:
            said.append(
                f"{self.part.told} lie apart from the rest, most in {', '.join(self.part.differing[:3])}: "
                "images of another origin, a fault of unknown kind, or failures of the generator"
            )
        elif self.unnamed:
            said.append(
                f"the pixels differ in {', '.join(self.unnamed[:3])}: a corruption of unknown kind, or the "
                "generator"
            )
        return "; ".join(said)

    @property
    def unexplained(self) -> float | None:
        """Points of the difference that no contribution of what was found accounts for.

        Contributions of faults that act on the same images overlap, so this may be below 0.
        """
        if self.difference is None:
            return None
        return self.difference - sum(finding.contribution or 0.0 for finding in self.found)


def audit(
    evidence: Evidence,
    tests: Sequence[HypothesisTest] = TESTS,
    progress: Progress = lambda test, finding: None,
) -> Audit:
    """Run the tests, cheapest first, and rank what they find.

    Args:
        evidence: as much as there is; a test that lacks its inputs says so and remains.
        tests: in the order to be run.
        progress: called with each test when it begins (None) and with its finding when it ends.
    """
    findings = []
    for test in tests:
        progress(test, None)
        finding = test.run(evidence)
        findings.append(finding)
        progress(test, finding)
    frechet = evidence.frechet
    excess, measured, error = evidence.excess, evidence.measured, evidence.standard_error
    return Audit(
        measured=measured,
        expected=evidence.expectation.value,
        baseline=None if excess is None or measured is None else measured - excess,
        standard_error=error if frechet is not None and isfinite(error) else None,
        mean_term=None if frechet is None else frechet.mean_term,
        trace_term=None if frechet is None else frechet.trace_term,
        findings=tuple(sorted(findings, key=_rank)),
        unnamed=evidence.unnamed,
        part=evidence.part,
    )


def _rank(finding: Finding) -> tuple[int, bool, float]:
    """Found, remaining, excluded; contradictions before comparisons, as these rest on sound features."""
    order = ("found", "remains", "excluded").index(finding.verdict)
    contribution = finding.contribution if finding.contribution is not None else float("-inf")
    return order, order == 0 and not finding.direct, -contribution
