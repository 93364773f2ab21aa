"""Reverse diffusion: the reverse-time SDE in the same steps in which the forward SDE is discretised."""

from torch import Tensor

from sdesampling.predictors.base import Predictor
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample


class ReverseDiffusion(Predictor):
    """x - f + G^2 score + G z, with f and G of the forward step (Song et al. 2020, eq. 46)."""

    name = "reverse_diffusion"

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        f, G = model.sde.reverse(model.score).discretize(x, t)
        mean = x - f
        return mean + per_sample(G, x) * z, mean
