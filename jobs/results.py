"""What a score depends on, typed and versioned: the file that reduction writes and everything later reads.

One result is one configuration scored by one extractor against one reference; a sweep's results gather them
into cells. Pure data and its arithmetic: nothing here reads storage or computes features.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.commit import Execution
from jobs.configuration import Configuration
from jobs.sections import Metric, PublishedValue

#: Packages whose versions are written beside every score.
PACKAGES = ("sdesweep", "torch", "numpy", "pyarrow", "pillow")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


# --- scores -------------------------------------------------------------------------------------------------


class Fid(_Record):
    """A Fréchet distance of N generated against N reference features."""

    value: float
    mean_term: float  # of the value: squared distance of the means
    trace_term: float  # the rest: of the covariances
    standard_error: float  # over other draws of the generated samples, reference fixed
    standard_error_method: str
    bias_generated: float  # expected excess at this N, Gaussian features, second order
    bias_reference: float


class FidInfinity(_Record):
    """The Fréchet distance of infinitely many generated samples, extrapolated."""

    value: float
    standard_error: float
    slope: float  # the measured bias at N is slope / N
    sizes: tuple[int, ...]  # numbers of samples of the points on the line
    distances: tuple[float, ...]


class InceptionScores(_Record):
    """Inception score in its two conventions."""

    ten_splits: float
    ten_splits_std: float
    one_split: float


class Kid(_Record):
    """Kernel distance: unbiased estimates of disjoint blocks."""

    value: float
    standard_error: float | None
    block_size: int
    blocks: int


class PrecisionRecall(_Record):
    precision: float
    recall: float
    k: int


class DensityCoverage(_Record):
    density: float
    coverage: float
    k: int


class Memorisation(_Record):
    """How near samples are to the reference, beside how near its own images are to each other."""

    too_near: float  # share nearer than the `level` quantile of the reference's own distances
    standard_error: float
    level: float
    exact: float  # share with the very features of a reference image


class StageScores(_Record):
    """Scores of the images after `step` steps of the sampler; the last stage is the result."""

    step: int
    features: str  # digest of the features that were read
    fid: Fid | None = None
    inception_score: InceptionScores | None = None
    kid: Kid | None = None
    precision_recall: PrecisionRecall | None = None
    density_coverage: DensityCoverage | None = None
    fid_infinity: FidInfinity | None = None
    memorisation: Memorisation | None = None

    def measures(self, metric: Metric) -> dict[str, tuple[float, float | None]]:
        """The numbers of a metric by name, each with its standard error in this run where there is one."""
        if metric == "fid" and self.fid:
            return {"FID": (self.fid.value, self.fid.standard_error)}
        if metric == "is" and self.inception_score:
            return {"IS": (self.inception_score.ten_splits, None)}
        if metric == "kid" and self.kid:
            return {"KID": (self.kid.value, self.kid.standard_error)}
        if metric == "precision_recall" and (neighbours := self.precision_recall):
            return {"precision": (neighbours.precision, None), "recall": (neighbours.recall, None)}
        if metric == "density_coverage" and (balls := self.density_coverage):
            return {"density": (balls.density, None), "coverage": (balls.coverage, None)}
        if metric == "fid_infinity" and (line := self.fid_infinity):
            return {"FID-infinity": (line.value, line.standard_error)}
        if metric == "memorisation" and (near := self.memorisation):
            return {"memorised": (near.too_near, near.standard_error)}
        return {}

    def value(self, metric: Metric) -> float | None:
        """The first number of a metric; None where it was not computed."""
        return next((value for value, _ in self.measures(metric).values()), None)


# --- what they depend on ------------------------------------------------------------------------------------


class Statistics(_Record):
    """Arithmetic conventions of the Fréchet distance."""

    features_dtype: str = "float32"
    moments_dtype: str = "float64"
    ddof: int = 1
    trace_method: str


class ReferenceRecord(_Record):
    """The real images that were compared with."""

    name: str
    content: str  # sha256 of shape and pixels
    count: int
    features: str  # digest of the features that were read


class ExecutionShare(_Record):
    """An execution identity and how many samples were made under it."""

    execution: Execution
    samples: int


class Evaluations(_Record):
    """Network evaluations for each image, as the sampler counts them."""

    planned: int
    made: float  # mean over images, as counted while they were made


class Diagnostic(_Record):
    """A diagnostic of the sampler over all groups."""

    mean: float
    least: float
    most: float


class Result(_Record):
    """One configuration, one extractor, one reference: the scores and all that they depend on."""

    version: Literal[1] = 1
    configuration: Configuration  # model by sha256, sampler, seed, replicate, group size, quantisation, ...
    fingerprint: str
    samples: int  # N generated
    extractor: dict[str, str | int]  # identity: network, weights, layer, dimension, resize, normalisation
    reference: ReferenceRecord
    statistics: Statistics
    stages: tuple[StageScores, ...]  # ascending by step
    images: str  # digest of the pixels of all stages
    evaluations: Evaluations
    executions: tuple[ExecutionShare, ...]  # of sampling; more than one: mixed, said beside the score
    extraction: tuple[ExecutionShare, ...]  # of feature extraction
    diagnostics: dict[str, Diagnostic] = {}
    clipped: dict[int, float] = {}  # step -> fraction of values outside [0, 1] before quantisation
    seconds: dict[str, float] = {}  # by phase, summed over workers
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def extractor_name(self) -> str:
        return str(self.extractor["network"])

    @property
    def final(self) -> StageScores:
        return self.stages[-1]

    @property
    def images_per_second(self) -> float | None:
        """Of one worker while it sampled; None where nothing was timed."""
        seconds = self.seconds.get("sample", 0.0)
        return self.samples / seconds if seconds > 0 else None


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


class Verdict(_Record):
    """How a value stands to the published one."""

    judgement: Judgement
    reason: str


class StageSummary(_Record):
    """A metric at one step over the replicates of a cell."""

    step: int
    values: tuple[float, ...]  # in order of replicates
    mean: float
    std: float | None  # over replicates (N - 1); None for one
    standard_error: float | None  # of one replicate; the mean over replicates


class Comparison(_Record):
    """A published value beside the cell's own."""

    published: PublishedValue
    verdict: Verdict


class MetricSummary(_Record):
    """A measure of a cell: mean and standard deviation over replicates, never the minimum."""

    metric: Metric
    measure: str  # FID, IS, KID, precision, recall, density, coverage
    label: str  # e.g. FID[digits-cnn]
    stages: tuple[StageSummary, ...]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def final(self) -> StageSummary:
        return self.stages[-1]


class Cell(_Record):
    """One cell of the table for one extractor and one reference."""

    row: str
    column: str
    control: bool  # noise or real images, not a model's
    expected: int  # replicates that the sweep asks for
    summaries: tuple[MetricSummary, ...]
    results: tuple[Result, ...]  # one a replicate, in order


class Unscored(_Record):
    """A configuration of the sweep that has no result."""

    name: str
    row: str
    column: str
    fingerprint: str
    samples: int
    done: int  # samples with images
    failed: tuple[str, ...] = ()  # ranges that were set aside
    reason: str


class SweepResults(_Record):
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
