"""Scores of one set of images against another, as numbers with their parts, by metric.

Apart from what they depend on because every result holds them, of a sweep or of two folders. Pure data:
nothing here computes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from jobs.specs.sections import Metric


class Record(BaseModel):
    """Data of a results file: unknown keys are refused, it never changes, infinity is written as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Fid(Record):
    """A Fréchet distance of N generated against N reference features."""

    value: float
    mean_term: float  # of the value: squared distance of the means
    trace_term: float  # the rest: of the covariances
    standard_error: float | None  # over other draws of the generated samples; None: only moments are known
    standard_error_method: str
    bias_generated: float  # expected excess at this N, Gaussian features, second order
    bias_reference: float


class RealControl(Record):
    """The Fréchet distance of real images to other real ones, brought to a score's numbers of samples."""

    value: float  # mean over random splits of the reference
    spread: float  # standard deviation over them
    sizes: tuple[int, int]  # images of the two parts


class FidInfinity(Record):
    """The Fréchet distance of infinitely many generated samples, extrapolated."""

    value: float
    standard_error: float
    slope: float  # the measured bias at N is slope / N
    sizes: tuple[int, ...]  # numbers of samples of the points on the line
    distances: tuple[float, ...]


class InceptionScores(Record):
    """Inception score in its two conventions."""

    ten_splits: float
    ten_splits_std: float
    one_split: float


class Kid(Record):
    """Kernel distance: unbiased estimates of disjoint blocks."""

    value: float
    standard_error: float | None
    block_size: int
    blocks: int


class PrecisionRecall(Record):
    precision: float
    recall: float
    k: int


class DensityCoverage(Record):
    density: float
    coverage: float
    k: int


class Memorisation(Record):
    """How near samples are to the reference, beside how near its own images are to each other."""

    too_near: float  # share nearer than the `level` quantile of the reference's own distances
    standard_error: float
    level: float
    exact: float  # share with the very features of a reference image


class StageScores(Record):
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
