"""The samplers as a spec names them: hyper-parameters with types, defaults and ranges, one section a kind.

They are data; what may be combined with what is said in `jobs/specs/checks.py`, what a sampler does in
`sdesampling/samplers`. This module must not know models.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from jobs.specs.sections import Count, DataSetField, Positive, PositiveInt, Section

MAX_STEPS = 1_000_000  # times MAX_CORRECTOR_STEPS is below 2^32, where the counter of noise ends
MAX_CORRECTOR_STEPS = 1000
MAX_LEVELS = 1000  # of annealed Langevin dynamics
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
