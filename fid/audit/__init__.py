"""Why a score is wrong: twelve hypotheses, each with a test that gives a verdict and its evidence.

`audit(Evidence(...))` runs as many as the inputs allow. Arrays and extractors go in, findings come out: it
reads no files and must not import `jobs`, `cluster` or `sdesampling`.
"""

from fid.audit.evidence import Evidence, Expectation
from fid.audit.finding import Finding, HypothesisTest
from fid.audit.imageset import ImageSet, Tally, held_rows
from fid.audit.verdict import TESTS, Audit, audit

__all__ = [
    "TESTS",
    "Audit",
    "Evidence",
    "Expectation",
    "Finding",
    "HypothesisTest",
    "ImageSet",
    "Tally",
    "audit",
    "held_rows",
]
