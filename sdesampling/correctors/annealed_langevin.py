"""Annealed Langevin dynamics of NCSN as a corrector: the step size follows the noise level."""

import torch
from torch import Tensor

from sdesampling.correctors.base import Corrector
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample


class AnnealedLangevin(Corrector):
    """x + e score + sqrt(2 e) z with e = 2 alpha (r std(t))^2.

    Song & Ermon 2019, algorithm 1, with the step size that score_sde gives it.
    """

    name = "annealed_langevin"

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        step_size = (self.snr * model.sde.std(t)) ** 2 * 2 * model.sde.corrector_alpha(t)
        mean = x + per_sample(step_size, x) * model.score(x, t)
        return mean + per_sample(torch.sqrt(step_size * 2), x) * z, mean
