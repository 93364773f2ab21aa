"""From an explanation of how images differ to the outcome of the hypothesis whose case it is.

Shared by the tests that look at stored images (H4, H5, H7, H9), so that they weigh alike.
"""

from __future__ import annotations

from fid.audit.apart import SHOWN
from fid.audit.evidence import Evidence
from fid.audit.explain import Explanation
from fid.audit.faults import Hypothesis
from fid.audit.finding import MATERIAL, Numbers, Outcome, Verdict, weigh


def explanation_of(evidence: Evidence, hypothesis: Hypothesis) -> Explanation | None:
    """The explanation that is a case of this hypothesis, if there is one."""
    return next((one for one in evidence.image_faults if one.fault.hypothesis == hypothesis), None)


def outcome_of(explanation: Explanation, remedy: str) -> Outcome:
    """Found where the fault explains the images to within chance, or a material part of the excess.

    Samples of a good model differ from real images a little, and some fault often describes that nearly:
    without an effect on the distance it stays a remark.
    """
    before, after, normal = explanation.look
    numbers: Numbers = {
        "pixel statistics, distance": before,
        "the same after damaging the other side alike": after,
        "the same between parts of the reference": normal,
    }
    if explanation.numbers:
        numbers["the first samples of this kind"] = ", ".join(map(str, explanation.numbers[:SHOWN]))
    reason = f"{explanation.side} images: {explanation.fault.name}"
    verdict: Verdict = "found" if explanation.exact else "remains"
    material = True
    if explanation.contribution is None and explanation.complete:
        verdict = "found"  # no features to say otherwise
    elif explanation.contribution is not None and explanation.error is not None:
        numbers["standard error of the contribution"] = explanation.error
        numbers["excess of the images compared"] = explanation.excess or 0.0
        material = weigh(explanation.contribution, explanation.error, explanation.excess or 0.0) == "found"
        verdict = "found" if material else verdict
    if explanation.trait:
        verdict = "remains"
        reason += ": a trait of it only, so it is another fault, or the generator"
    elif explanation.complete:
        reason += "; the other side's images, damaged alike, look the same"
        if explanation.alike:
            reason += f" (so they would with: {', '.join(explanation.alike)})"
    if not material and 0 < MATERIAL * (explanation.excess or 0.0) <= (explanation.contribution or 0.0):
        reason += ", but so few images do not tell by how much the distance changes"
    elif not material:
        reason += ", but the distance hardly changes by it"
    elif not explanation.complete and not explanation.trait:
        reason += ": a part of the difference only"
    return Outcome(verdict, reason, numbers, explanation.contribution, False, remedy)
