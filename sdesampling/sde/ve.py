"""The variance exploding SDE: noise of growing scale is added to data that keep their size."""

import math

import torch
from torch import Tensor

from sdesampling.sde.base import SDE


class VE(SDE):
    """sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song et al. 2020, eq. 9 and appendix C).

    Raises ValueError unless 0 < sigma_min < sigma_max.
    """

    family = "ve"
    sampling_eps = 1e-5
    centered = False

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, N: int = 1000) -> None:
        super().__init__(N)
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"sigma_min = {sigma_min}, sigma_max = {sigma_max}: must be 0 < sigma_min < sigma_max"
            )
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.discrete_sigmas = torch.linspace(
            math.log(sigma_min), math.log(sigma_max), N
        ).exp()  # (N,), ascending

    def with_steps(self, N: int) -> "VE":
        return VE(self.sigma_min, self.sigma_max, N)

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def mean_coefficient(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def std(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time_of(self, noise_ratio: float) -> float:
        return math.log(noise_ratio / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)

    def corrector_alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        growth = 2 * (math.log(self.sigma_max) - math.log(self.sigma_min))
        return torch.zeros_like(x), self.std(t) * torch.full((), growth, device=t.device).sqrt()

    def adjacent_sigmas(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scale of time t and the next smaller one, (batch,) each: 0 below the first."""
        index = self.timestep(t)
        sigmas = self.table("discrete_sigmas", t.device)
        return sigmas[index], torch.where(index == 0, 0.0, sigmas[index - 1])

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The steps of SMLD: f = 0, G^2 = sigma_i^2 - sigma_(i-1)^2."""
        sigma, adjacent = self.adjacent_sigmas(t)
        return torch.zeros_like(x), torch.sqrt(sigma**2 - adjacent**2)
