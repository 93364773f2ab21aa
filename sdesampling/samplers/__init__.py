"""Samplers by kind. A kind and its hyper-parameters are what a spec's `sampler:` section holds."""

import inspect
from collections.abc import Sequence
from typing import Any

from sdesampling.choices import one_of
from sdesampling.samplers.annealed_langevin import AnnealedLangevinDynamics
from sdesampling.samplers.base import NonFiniteStateError, Sampler, SamplerKind, State, run
from sdesampling.samplers.conditional import ClassConditional
from sdesampling.samplers.controlled import AnnealedLangevinInpainting, Colourisation, Inpainting
from sdesampling.samplers.ddls import DDLS
from sdesampling.samplers.dpm_solver import DPMSolver
from sdesampling.samplers.edm import EDM
from sdesampling.samplers.noise import UniformNoise
from sdesampling.samplers.ode import ProbabilityFlowODE
from sdesampling.samplers.predictor_corrector import PredictorCorrector
from sdesampling.samplers.prior import PriorDecoding
from sdesampling.samplers.real import RealImages

VERSION = 2  # raised whenever the same configuration gives other images

SAMPLERS: dict[str, type[SamplerKind]] = {
    sampler.kind: sampler
    for sampler in (
        PredictorCorrector,
        ProbabilityFlowODE,
        DPMSolver,
        EDM,
        AnnealedLangevinDynamics,
        Inpainting,
        Colourisation,
        AnnealedLangevinInpainting,
        DDLS,
        PriorDecoding,
        UniformNoise,
        RealImages,
    )
}


def build_sampler(
    kind: str, model: Any, classes: Sequence[int] | None = None, **hyper_parameters: Any
) -> Sampler:
    """The sampler of a kind for a model: a ScoreModel, a LatentModel or Decoder, or for `real` uint8 images.

    classes: of a class-conditional model, those that samples are taken from in turn; all unless given.

    Raises ValueError for unknown kinds and hyper-parameters, and where they do not fit the model.
    """
    sampler = _checked(kind, hyper_parameters)
    wanted = inspect.signature(sampler.__init__).parameters["model"].annotation
    if not isinstance(model, wanted):
        raise ValueError(f"sampler {kind!r} works on a {wanted.__name__}, not on a {type(model).__name__}")
    built = sampler(model, **hyper_parameters)
    known = getattr(model, "classes", None)
    if known is None and classes is not None:
        raise ValueError(f"classes = {list(classes)}: the model is not class-conditional")
    if known is None or kind == UniformNoise.kind:
        return built
    return ClassConditional(built, built.model, range(known) if classes is None else classes)


def planned_evaluations(kind: str, **hyper_parameters: Any) -> int:
    """Network evaluations per image that a sampler will make, known without a model.

    Raises ValueError for unknown kinds and hyper-parameters, and for impossible combinations.
    """
    return _checked(kind, hyper_parameters).planned_evaluations(**hyper_parameters)


def _checked(kind: str, hyper_parameters: dict[str, Any]) -> type[SamplerKind]:
    one_of("sampler kind", kind, SAMPLERS)
    known = SAMPLERS[kind].hyper_parameters()
    for name in hyper_parameters:
        if not known:
            raise ValueError(f"sampler {kind!r} has no hyper-parameters, but {name!r} was given")
        one_of(f"hyper-parameter of sampler {kind!r}", name, known)
    return SAMPLERS[kind]


__all__ = [
    "DDLS",
    "EDM",
    "SAMPLERS",
    "VERSION",
    "AnnealedLangevinDynamics",
    "AnnealedLangevinInpainting",
    "ClassConditional",
    "Colourisation",
    "DPMSolver",
    "Inpainting",
    "NonFiniteStateError",
    "PredictorCorrector",
    "PriorDecoding",
    "ProbabilityFlowODE",
    "RealImages",
    "Sampler",
    "State",
    "UniformNoise",
    "build_sampler",
    "planned_evaluations",
    "run",
]
