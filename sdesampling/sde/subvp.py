"""The sub-VP SDE: the mean of the VP SDE with a smaller variance, good for likelihoods."""

import math

import torch
from torch import Tensor

from sdesampling.sde.linear_beta import LinearBeta


class SubVP(LinearBeta):
    """dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - m(t)^4)) dw, m being the mean coefficient.

    Song et al. 2020, eq. 12. Steps of the discretisation are Euler-Maruyama's.
    """

    family = "subvp"

    def std(self, t: Tensor) -> Tensor:
        return 1 - torch.exp(2 * self.log_mean_coefficient(t))

    def time_of(self, noise_ratio: float) -> float:
        return self.time_of_mean(-math.asinh(noise_ratio / 2))

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        discount = 1 - torch.exp(-2 * self.beta_min * t - (self.beta_max - self.beta_min) * t**2)
        return self.drift(x, t), torch.sqrt(self.beta(t) * discount)
