"""Euler-Maruyama: the standard discretisation of the reverse-time SDE."""

import math

from torch import Tensor

from sdesampling.predictors.base import Predictor
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, per_sample


class EulerMaruyama(Predictor):
    """x + drift dt + g sqrt(-dt) z with dt = -1 / N for the reverse-time SDE (Song et al. 2020, eq. 6)."""

    name = "euler_maruyama"

    def check(self, sde: SDE) -> None:
        """Euler-Maruyama steps exist for every N."""

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        drift, diffusion = model.sde.reverse(model.score).sde(x, t)
        mean = x - drift / model.sde.N
        return mean + per_sample(diffusion, x) * (math.sqrt(1 / model.sde.N) * z), mean
