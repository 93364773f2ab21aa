"""The parts that a spec and a configuration share: samplers, data sets, resources, published values.

They are data with types, defaults and ranges. What may be combined with what is said in
`jobs/specs/checks.py`. This module must not know files, catalogues or sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

#: One component of a path: no slash, no leading dot, so it can never leave its directory.
PlainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
#: Plain names joined by single slashes, as the published checkpoints are called (`vp/cifar10_ddpm`).
ModelName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._-]*(/[a-z0-9][A-Za-z0-9._-]*)*$", max_length=200)
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # sha256
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
MAX_STEPS = 1_000_000  # times MAX_CORRECTOR_STEPS is below 2^32, where the counter of noise ends
MAX_CORRECTOR_STEPS = 1000
MAX_LEVELS = 1000  # of annealed Langevin dynamics


def _auto_to_none(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("whole_number_or_auto", "is neither a whole number nor 'auto'")
    return None if value == "auto" else value


def _number_or_auto(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("spec", "is neither a number nor 'auto'")
    return None if value == "auto" else value


#: A whole number, or null (written `auto`): chosen when the work starts.
IntOrAuto = Annotated[PositiveInt | None, BeforeValidator(_auto_to_none)]

Deviation = Annotated[float, Field(ge=0)]

#: Seconds, or null (written `auto`): as its key says.
SecondsOrAuto = Annotated[Positive | None, BeforeValidator(_number_or_auto)]
#: Of the networks; `auto` is decided when a sweep is submitted (jobs/planning/submission.py).
Precision = Literal["float32", "bfloat16", "auto"]
Quantisation = Literal["floor", "round"]
Metric = Literal["fid", "fid_infinity", "is", "kid", "precision_recall", "density_coverage", "memorisation"]
ErrorMethod = Literal["jackknife", "bootstrap"]  # of a FID's standard error, as fid.uncertainty names them

METRICS: tuple[Metric, ...] = get_args(Metric)


class Section(BaseModel):
    """A mapping of a spec: unknown keys, other types, NaN and infinity are refused; it never changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataSet(Section):
    """A set of real images: one that the project knows by name, or one read from `path`."""

    name: PlainName
    path: str | None = None  # Parquet file, folder, npz or archive; absolute once resolved
    split: str | None = None  # of what is at the path
    content: Digest | None = None  # hash of its images (`Dataset.content_hash`): others are refused


def named(value: object) -> object:
    """A bare name stands for `{name: NAME}`."""
    if not isinstance(value, str | Mapping | Section):
        raise PydanticCustomError("spec", "is neither a name nor a mapping")
    return {"name": value} if isinstance(value, str) else value


#: A data set, or its name alone.
DataSetField = Annotated[DataSet, BeforeValidator(named)]


PredictorName = Literal["ancestral", "reverse_diffusion", "euler_maruyama", "probability_flow", "none"]
CorrectorName = Literal["langevin", "annealed_langevin", "none"]


class PredictorCorrectorSteps(Section):
    """What all samplers by predictors and correctors have in common."""

    predictor: PredictorName
    corrector: CorrectorName
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 1000
    corrector_steps: Annotated[int, Field(ge=1, le=MAX_CORRECTOR_STEPS)] = 1
    snr: Positive = 0.16
    corrector_norm: Literal["batch", "sample"] = "batch"
    eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    labels: Literal["interpolated", "half", "rounded"] = "interpolated"


class PredictorCorrector(PredictorCorrectorSteps):
    """Algorithm 1 of Song et al. 2020 and its halves: predictor only, corrector only, both."""

    kind: Literal["predictor_corrector"]
    denoise: bool = True


class Observing(PredictorCorrectorSteps):
    """Predictors and correctors for images of which a part is known (Song et al. 2020, appendix I)."""

    predictor: PredictorName = "reverse_diffusion"
    corrector: CorrectorName = "langevin"
    denoise: Literal["known", "all", "none"] = "known"
    images: DataSetField  # sample k is made from image k, counted round and round


class Inpainting(Observing):
    """Images of which a mask tells the known part."""

    kind: Literal["inpainting"]
    known: str  # a half by name, or the path of a mask


class Colourisation(Observing):
    """Images of which the grey is known."""

    kind: Literal["colourisation"]


class ODE(Section):
    """The probability flow, by steps that control their error or by equal steps in time."""

    kind: Literal["ode"]
    method: Literal["dormand_prince", "euler", "heun"] = "dormand_prince"
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    error_norm: Literal["group", "sample"] = "group"
    temperature: Positive = 1.0
    interpolate: Annotated[int, Field(ge=2, le=MAX_STEPS)] | None = None
    eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    denoise: bool = True


class DPMSolver(Section):
    """The probability flow of a VP model in few evaluations (Lu et al. 2022)."""

    kind: Literal["dpm_solver"]
    algorithm: Literal["dpmsolver", "dpmsolver++"] = "dpmsolver"
    method: Literal["singlestep", "singlestep_fixed", "multistep", "adaptive"] = "singlestep"
    order: Annotated[int, Field(ge=1, le=3)] = 3
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    grid: Literal["logSNR", "time_uniform", "time_quadratic"] = "logSNR"
    solver_type: Literal["dpmsolver", "taylor"] = "dpmsolver"
    lower_order_final: bool = True
    rtol: Positive = 0.05
    atol: Positive = 0.0078
    eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    denoise: bool = False


class EDM(Section):
    """The sampler of EDM: Heun steps in sigma, with or without churn (Karras et al. 2022, algorithm 2)."""

    kind: Literal["edm"]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 18
    rho: Positive = 7.0
    sigma_max: Positive | None = None
    sigma_min: Positive | None = None
    s_churn: Annotated[float, Field(ge=0)] = 0.0
    s_tmin: Annotated[float, Field(ge=0)] = 0.0
    s_tmax: Positive | None = None
    s_noise: Positive = 1.0


class AnnealedLangevinSteps(Section):
    """Annealed Langevin dynamics of NCSN (Song & Ermon 2019); defaults are those of its released code."""

    levels: Annotated[int, Field(ge=2, le=MAX_LEVELS)] = 10
    steps_per_level: Annotated[int, Field(ge=1, le=MAX_STEPS // MAX_LEVELS)] = 100
    step_size: Positive = 2e-5
    convention: Literal["code", "paper"] = "code"
    schedule: Literal["geometric", "linear"] = "geometric"
    sigma_max: Positive | None = None
    sigma_min: Positive | None = None
    denoise: bool = False

    @property
    def steps(self) -> int:
        """Langevin steps at all levels."""
        return self.levels * self.steps_per_level


class AnnealedLangevin(AnnealedLangevinSteps):
    """Images from uniform noise."""

    kind: Literal["annealed_langevin"]


class AnnealedLangevinInpainting(AnnealedLangevinSteps):
    """Images of which a mask tells the known part (Song & Ermon 2019, algorithm 2)."""

    kind: Literal["annealed_langevin_inpainting"]
    images: DataSetField
    known: str


class Decay(Section):
    """The step size is multiplied by `factor` after every `every` steps."""

    factor: Annotated[float, Field(gt=0, le=1)]
    every: PositiveInt


class CalibrationSection(Section):
    """Real images by which a discriminator is calibrated, and how many of them and of generated ones."""

    images: DataSetField
    samples: PositiveInt = 1000


class DDLS(Section):
    """Discriminator-driven latent sampling: Langevin dynamics in a GAN's latent space (Che et al. 2020)."""

    kind: Literal["ddls"]
    steps: Annotated[int, Field(ge=0, le=MAX_STEPS)]
    step_size: Positive
    decay: Decay | None = None
    noise_scale: Positive = 1.0
    metropolis: bool = False
    kept: PositiveInt = 1
    burn_in: Count | None = None  # steps - (kept - 1) thin
    thin: PositiveInt = 1
    calibration: CalibrationSection | None = None


class PriorDecoding(Section):
    """A GAN's or a VAE's images as they come: draws of the prior, decoded."""

    kind: Literal["prior"]
    steps: ClassVar[int] = 1


class NoiseControl(Section):
    """Pure noise images of the model's shape: the worst score that anything should have."""

    kind: Literal["noise"]


class RealControl(Section):
    """Images of a data set in a fixed order: the best score that anything can be expected to have."""

    kind: Literal["real"]


Sampler = Annotated[
    PredictorCorrector
    | ODE
    | DPMSolver
    | EDM
    | AnnealedLangevin
    | Inpainting
    | Colourisation
    | AnnealedLangevinInpainting
    | DDLS
    | PriorDecoding
    | NoiseControl
    | RealControl,
    Field(discriminator="kind"),
]


def _worker_count(value: object) -> object:
    """`auto` and a whole number stand for `{min: ..., max: ...}`."""
    if value is None or value == "auto":
        return {}
    if isinstance(value, str):
        raise PydanticCustomError("spec", "is neither a whole number, nor 'auto', nor {min: N, max: N}")
    return {"min": value, "max": value} if isinstance(value, int | float) else value


class WorkerCount(Section):
    """How many workers: at least `min` are asked for, and never more than `max`; between, as many as fit."""

    min: PositiveInt | None = None
    max: PositiveInt | None = None

    @model_validator(mode="after")
    def _in_order(self) -> WorkerCount:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("spec", "has a min above its max")
        return self


_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
LabelKey = Annotated[str, StringConstraints(pattern=rf"^([a-zA-Z0-9.-]{{1,253}}/)?{_LABEL}$")]
#: A value of a machine's label, `!value`, `in(a, b)` or `!in(a, b)`.
LabelCondition = Annotated[
    str, StringConstraints(pattern=rf"^!?({_LABEL}|in\({_LABEL}(, ?{_LABEL})*\))$", max_length=1000)
]
LabelSelector = dict[LabelKey, LabelCondition]


def _listed_selectors(value: object) -> object:
    """One selector stands for a list of one; lists become tuples."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class Process(Section):
    """What one process takes of a machine."""

    cpus: Annotated[float, Field(ge=0)] = 0.0
    memory: Positive | None = None  # GiB
    labels: Annotated[tuple[LabelSelector, ...], BeforeValidator(_listed_selectors)] = ()


class Resources(Section):
    """What the work may use. No result depends on it, but for `micro_batch` in the last bits."""

    workers: Annotated[WorkerCount, BeforeValidator(_worker_count)] = WorkerCount()
    cpus: Positive = 1.0  # for each worker
    #: For each worker; a fraction shares a device. None (auto): one where there are GPUs.
    gpus: Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(_number_or_auto)] = None
    memory: Positive | None = None  # GiB for each worker
    #: Of the machines for workers: what all of the first selector asks for, else of the second, ...
    labels: Annotated[tuple[LabelSelector, ...], BeforeValidator(_listed_selectors)] = ()
    driver: Process = Process()  # of a submitted run
    micro_batch: IntOrAuto = None

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise PydanticCustomError("spec", "is neither a fraction of one device nor a whole number")
        return gpus


class PublishedValue(Section):
    """A value from the literature for one cell of the table."""

    value: float
    std: Deviation | None = None
    metric: Metric = "fid"
    samples: PositiveInt = 50_000  # generated images behind it; other numbers are not compared with it
    reference: str | None = None  # data set that it was measured against, where that must be ours too
    source: str
