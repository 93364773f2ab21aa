"""The Langevin corrector, whose step size follows the norms of noise and score."""

from typing import Literal, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.correctors.base import Corrector
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample

Norm = Literal["batch", "sample"]


class Langevin(Corrector):
    """x + e score + sqrt(2 e) z with e = 2 alpha (r |z| / |score|)^2 (Song et al. 2020, algorithms 4 and 5).

    norm: `batch` takes the means of both norms over the batch, as the reference code does, so that samples
        depend on their batch mates; `sample` takes each sample's own. Alpha is 1 for VE and DDPM's for VP;
        the sub-VP SDE, for which neither paper nor code define it, takes those of VP.
    """

    name = "langevin"

    def __init__(self, snr: float, norm: Norm = "batch") -> None:
        super().__init__(snr)
        one_of("corrector_norm", norm, get_args(Norm))
        self.norm: Norm = norm

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        score = model.score(x, t)
        score_norm, noise_norm = score.flatten(1).norm(dim=1), z.flatten(1).norm(dim=1)
        if self.norm == "batch":
            score_norm, noise_norm = score_norm.mean(), noise_norm.mean()
        step_size = (self.snr * noise_norm / score_norm) ** 2 * 2 * model.sde.corrector_alpha(t)
        mean = x + per_sample(step_size, x) * score
        return mean + per_sample(torch.sqrt(step_size * 2), x) * z, mean
