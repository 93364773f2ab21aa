"""What a test of the audit is and what it gives: the one shape that all twelve hypotheses share.

Apart from the tests so that they depend on words, not on each other. It must not know any hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fid.audit.evidence import Evidence, Input
from fid.audit.sampling import SIGNIFICANT

Verdict = Literal["found", "remains", "excluded"]
Numbers = dict[str, float | int | str]  # evidence by what it is

#: Share of the excess that a cause must explain to be named as one. Every real generator differs from its
#: reference a little in brightness, sharpness and noise; below a fifth such a difference stays a remark.
MATERIAL = 0.2


@dataclass(frozen=True)
class Outcome:
    """What a test's own function says.

    Attributes:
        verdict: found (it is wrong), excluded (it is not), or remains (these inputs cannot tell, or what was
            seen is too small to be the reason).
        reason: one sentence that a user can check against `evidence`.
        evidence: numbers and names by what they are.
        contribution: points of the distance that the hypothesis accounts for, where it can be told.
        direct: the evidence is a contradiction of counts, digests or exact values, not a comparison.
        remedy: what to do; empty where excluded.
    """

    verdict: Verdict
    reason: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    contribution: float | None = None
    direct: bool = False
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding(Outcome):
    """The outcome of one test, and which it was.

    Attributes:
        test: H1 to H12.
        hypothesis: what might be wrong.
    """

    test: str
    hypothesis: str


@dataclass(frozen=True)
class HypothesisTest:
    """One of the twelve tests.

    Attributes:
        key: H1 to H12, as in the documentation.
        hypothesis: what might be wrong, a phrase.
        needs: inputs, as alternatives: the test runs when all of one of them are there.
        cost: rank; tests run in ascending order.
        look: the test itself.
    """

    key: str
    hypothesis: str
    needs: tuple[frozenset[Input], ...]
    cost: int
    look: Callable[[Evidence], Outcome]

    def run(self, evidence: Evidence) -> Finding:
        """Look at the evidence, or say which inputs are missing."""
        available = evidence.available
        if any(needed <= available for needed in self.needs):
            outcome = self.look(evidence)
        else:
            lacking = " or ".join(" and ".join(sorted(needed - available)) for needed in self.needs)
            outcome = Outcome("remains", f"cannot be tested without {lacking}", remedy=f"give {lacking}")
        return Finding(test=self.key, hypothesis=self.hypothesis, **vars(outcome))


def weigh(contribution: float, error: float, excess: float) -> Verdict:
    """The verdict on a contribution (points) with its standard error, where `excess` points want a reason."""
    if contribution <= SIGNIFICANT * error:
        return "excluded"
    return "found" if contribution >= MATERIAL * excess else "remains"
