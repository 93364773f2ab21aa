"""What a score depends on, typed and versioned: the file that reduction writes and everything later reads.

One result is one configuration scored by one extractor against one reference; a sweep's results gather them
into cells. Pure data and its arithmetic: nothing here reads storage or computes features.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import Literal

from pydantic import Field

from jobs.scores.metrics import RealControl, Record, StageScores
from jobs.specs.configuration import Configuration
from jobs.specs.sections import Metric, PublishedValue
from jobs.storage.commit import Execution

#: Packages whose versions are written beside every score.
PACKAGES = ("sdesweep", "torch", "numpy", "pyarrow", "pillow")


# --- what they depend on ------------------------------------------------------------------------------------


class Statistics(Record):
    """Arithmetic conventions of the Fréchet distance."""

    features_dtype: str = "float32"
    moments_dtype: str = "float64"
    ddof: int = 1
    trace_method: str


class ReferenceRecord(Record):
    """The real images that were compared with."""

    name: str
    content: str  # sha256 of shape and pixels; of the file, where images were never here
    count: int
    features: str  # digest of the features that were read
    split: str | None = None
    imported: bool = False  # published statistics: which weights made them is not known


class ExecutionShare(Record):
    """An execution identity and how many samples were made under it."""

    execution: Execution
    samples: int


class Evaluations(Record):
    """Network evaluations for each image, as the sampler counts them."""

    planned: int
    made: float  # mean over images, as counted while they were made


class Diagnostic(Record):
    """A diagnostic of the sampler over all groups."""

    mean: float
    least: float
    most: float


class ScoreLine(Record):
    """What every score states, whatever was scored: a configuration of a sweep, or images from anywhere."""

    version: Literal[1] = 1
    samples: int  # N generated
    extractor: dict[str, str | int]  # identity: network, weights, layer, dimension, resize, normalisation
    reference: ReferenceRecord
    statistics: Statistics
    stages: tuple[StageScores, ...]  # ascending by step
    control: RealControl | None = None  # beside a Fréchet distance, where the reference has features
    extraction: tuple[ExecutionShare, ...]  # of feature extraction
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def extractor_name(self) -> str:
        return str(self.extractor["network"])

    @property
    def final(self) -> StageScores:
        return self.stages[-1]


class Result(ScoreLine):
    """One configuration, one extractor, one reference: the scores and all that they depend on."""

    configuration: Configuration  # model by sha256, sampler, seed, replicate, group size, quantisation, ...
    fingerprint: str
    images: str  # digest of the pixels of all stages
    evaluations: Evaluations
    executions: tuple[ExecutionShare, ...]  # of sampling; more than one: mixed, said beside the score
    diagnostics: dict[str, Diagnostic] = Field(default={})
    clipped: dict[int, float] = Field(default={})  # step -> share outside [0, 1] before quantisation
    seconds: dict[str, float] = Field(default={})  # by phase, summed over workers

    @property
    def images_per_second(self) -> float | None:
        """Of one worker while it sampled; None where nothing was timed."""
        seconds = self.seconds.get("sample", 0.0)
        return self.samples / seconds if seconds > 0 else None


class SetRecord(Record):
    """Images that were scored and are not a sweep's result."""

    name: str  # as it was given
    kind: Literal["images", "configuration", "features", "moments"]
    content: (
        str  # sha256 of shape and pixels; of the file where it holds statistics; of a configuration's rows
    )
    source: str | None = None
    split: str | None = None
    left_out: int = 0  # images of the source that could not be used
    configuration: Configuration | None = None  # that made them, where a sweep did


class SetResult(ScoreLine):
    """One set of images, by files or from a store, against another."""

    generated: SetRecord


def score_label(name: str, extractor: dict[str, str | int]) -> str:
    """A measure with its extractor: plain only for the 2015 Inception with TensorFlow's resize."""
    network = str(extractor["network"])
    if network != "inception":
        return f"{name}[{network}]"
    usual = {"layer": "pool", "resize": "tf1-bilinear", "normalisation": "tf", "arithmetic": "float32"}
    departures = [str(extractor[key]) for key, value in usual.items() if extractor.get(key, value) != value]
    return f"{name}[inception {', '.join(departures)}]" if departures else name


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that scores depend on."""
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "platform": sys.platform}


# --- a sweep's results --------------------------------------------------------------------------------------

Judgement = Literal["agrees", "differs", "not comparable"]


class Verdict(Record):
    """How a value stands to the published one."""

    judgement: Judgement
    reason: str


class StageSummary(Record):
    """A metric at one step over the replicates of a cell."""

    step: int
    values: tuple[float, ...]  # in order of replicates
    mean: float
    std: float | None  # over replicates (N - 1); None for one
    standard_error: float | None  # of one replicate; the mean over replicates


class Comparison(Record):
    """A published value beside the cell's own."""

    published: PublishedValue
    verdict: Verdict


class MetricSummary(Record):
    """A measure of a cell: mean and standard deviation over replicates, never the minimum."""

    metric: Metric
    measure: str  # FID, IS, KID, precision, recall, density, coverage
    label: str  # e.g. FID[digits-cnn]
    stages: tuple[StageSummary, ...]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def final(self) -> StageSummary:
        return self.stages[-1]


class Cell(Record):
    """One cell of the table for one extractor and one reference."""

    row: str
    column: str
    control: bool  # noise or real images, not a model's
    expected: int  # replicates that the sweep asks for
    summaries: tuple[MetricSummary, ...]
    results: tuple[Result, ...]  # one a replicate, in order


class Unscored(Record):
    """A configuration of the sweep that has no result."""

    name: str
    row: str
    column: str
    fingerprint: str
    samples: int
    done: int  # samples with images
    failed: tuple[str, ...] = ()  # ranges that were set aside
    reason: str


class SweepResults(Record):
    """All scores of a sweep, as far as they are there."""

    version: Literal[1] = 1
    sweep: str
    description: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]  # row by row; several for a cell with several extractors or references
    unscored: tuple[Unscored, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.unscored
