"""The variance preserving SDE: the continuous form of DDPM."""

import math

import torch
from torch import Tensor

from sdesampling.sde.base import per_sample
from sdesampling.sde.linear_beta import LinearBeta


class VP(LinearBeta):
    """dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw (Song et al. 2020, eq. 11).

    Its discrete steps need N > beta_max: else a beta reaches 1 and they turn into NaN.
    """

    family = "vp"

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, N: int = 1000) -> None:
        super().__init__(beta_min, beta_max, N)
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)  # (N,)
        self.sqrt_alphas_cumprod = torch.sqrt(self.alphas_cumprod)
        self.sqrt_1m_alphas_cumprod = torch.sqrt(1 - self.alphas_cumprod)

    def check_discretisation(self) -> None:
        self.check_alphas()

    def std(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - torch.exp(2 * self.log_mean_coefficient(t)))

    def time_of(self, noise_ratio: float) -> float:
        return self.time_of_mean(-0.5 * math.log1p(noise_ratio**2))

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.drift(x, t), torch.sqrt(self.beta(t))

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The steps of DDPM: x[i+1] = sqrt(1 - beta_i) x[i] + sqrt(beta_i) z."""
        self.check_discretisation()
        index = self.timestep(t)
        alpha, beta = self.table("alphas", t.device)[index], self.table("discrete_betas", t.device)[index]
        return per_sample(torch.sqrt(alpha), x) * x - x, torch.sqrt(beta)
