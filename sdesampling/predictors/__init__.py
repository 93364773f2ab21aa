"""Predictors by name. `none` is the absence of a predictor, so it has no class."""

from sdesampling.predictors.ancestral import Ancestral
from sdesampling.predictors.base import Predictor
from sdesampling.predictors.euler_maruyama import EulerMaruyama
from sdesampling.predictors.probability_flow import ProbabilityFlow
from sdesampling.predictors.reverse_diffusion import ReverseDiffusion

PREDICTORS: dict[str, type[Predictor]] = {
    predictor.name: predictor for predictor in (Ancestral, ReverseDiffusion, EulerMaruyama, ProbabilityFlow)
}

__all__ = ["PREDICTORS", "Ancestral", "EulerMaruyama", "Predictor", "ProbabilityFlow", "ReverseDiffusion"]
