"""Ancestral sampling: the reverse Markov chain of SMLD (VE) and of DDPM (VP)."""

import torch
from torch import Tensor

from sdesampling.predictors.base import Predictor
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, VE, VP, per_sample


class Ancestral(Predictor):
    """Song et al. 2020, eq. 47 (VE) and eq. 4 (VP; noise of variance beta, not the posterior's)."""

    name = "ancestral"

    def check(self, sde: SDE) -> None:
        if not isinstance(sde, VE | VP):
            raise ValueError(
                f"predictor 'ancestral' exists for VE and VP, not for {sde.family}; "
                "take reverse_diffusion or euler_maruyama"
            )
        super().check(sde)

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        self.check(model.sde)
        score = model.score(x, t)
        if isinstance(model.sde, VE):
            sigma, adjacent = model.sde.adjacent_sigmas(t)
            gained = sigma**2 - adjacent**2
            mean = x + per_sample(gained, x) * score
            std = torch.sqrt(adjacent**2 * gained / sigma**2)
        else:
            assert isinstance(model.sde, VP)
            beta = model.sde.table("discrete_betas", t.device)[model.sde.timestep(t)]
            mean = (x + per_sample(beta, x) * score) / per_sample(torch.sqrt(1 - beta), x)
            std = torch.sqrt(beta)
        return mean + per_sample(std, x) * z, mean
