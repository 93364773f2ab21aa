"""H12: the value is right, but it is that of another cell of the table."""

from __future__ import annotations

from math import hypot

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome

NEAR = 2.0  # standard deviations of both values together


def look(evidence: Evidence) -> Outcome:
    """Compare the value, at the numbers of the published ones, with the other cells."""
    expected, measured = evidence.expectation, evidence.measured
    if measured is None or expected.value is None:
        return Outcome("remains", "there is no value to compare with the cells")
    corrected = measured
    if evidence.control is not None:
        now = 1 / evidence.generated.count + 1 / evidence.reference.count
        then = 1 / expected.samples + 1 / (expected.reference_samples or evidence.reference.count)
        corrected = measured - evidence.control.slope * (now - then)
    error = evidence.standard_error
    numbers: Numbers = {
        f"value at {expected.samples:,} images": corrected,
        "standard error": error,
    }
    off = {
        name: abs(corrected - value) / max(hypot(spread, error), 1e-9)
        for name, (value, spread) in expected.cells.items()
    }
    near = sorted((name for name, distance in off.items() if distance <= NEAR), key=off.__getitem__)
    for name in near:
        numbers[f"published, {name}"] = expected.cells[name][0]
    own = abs(corrected - expected.value) / max(error, 1e-9)
    if own <= NEAR or not near:
        return Outcome("excluded", "the value is near no other cell of the table", numbers)
    return Outcome(
        "found",
        f"the value is that of {near[0]} ({expected.cells[near[0]][0]:g}) within its error",
        numbers,
        expected.cells[near[0]][0] - expected.value,
        False,
        f"check whether {near[0]} was run (corrector only, other steps, other model)",
    )


TEST = HypothesisTest(
    "H12",
    "another cell of the table",
    (frozenset({"values of other cells", "the expected value"}),),
    12,
    look,
)
