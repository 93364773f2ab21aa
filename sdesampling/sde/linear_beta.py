"""What the VP and the sub-VP SDE share: a linear beta(t), the mean it gives, and the alphas of DDPM."""

import math
from typing import Self, TypeVar

import torch
from torch import Tensor

from sdesampling.sde.base import SDE, per_sample

Time = TypeVar("Time", float, Tensor)


class LinearBeta(SDE):
    """beta(t) = beta_min + t (beta_max - beta_min) (Song et al. 2020, appendix C).

    Raises ValueError unless 0 < beta_min <= beta_max.
    """

    sampling_eps = 1e-3
    centered = True

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, N: int = 1000) -> None:
        super().__init__(N)
        if not 0 < beta_min <= beta_max:
            raise ValueError(
                f"beta_min = {beta_min}, beta_max = {beta_max}: must be 0 < beta_min <= beta_max"
            )
        self.beta_min = beta_min
        self.beta_max = beta_max
        self.discrete_betas = torch.linspace(beta_min / N, beta_max / N, N)  # (N,)
        self.alphas = 1 - self.discrete_betas

    def with_steps(self, N: int) -> Self:
        return type(self)(self.beta_min, self.beta_max, N)

    @property
    def prior_std(self) -> float:
        return 1.0

    def beta(self, t: Tensor) -> Tensor:
        """beta(t), (batch,)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_mean_coefficient(self, t: Time) -> Time:
        """Logarithm of the mean coefficient, shaped as t: minus half the integral of beta up to t."""
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def mean_coefficient(self, t: Tensor) -> Tensor:
        return torch.exp(self.log_mean_coefficient(t))

    def time_of_mean(self, log_mean_coefficient: float) -> float:
        """The inverse of log_mean_coefficient(), which is not positive."""
        a, b, c = 0.25 * (self.beta_max - self.beta_min), 0.5 * self.beta_min, log_mean_coefficient
        return -2 * c / (b + math.sqrt(b**2 - 4 * a * c))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """-beta(t) x / 2, shaped as x."""
        return -0.5 * per_sample(self.beta(t), x) * x

    def check_alphas(self) -> None:
        """Raise ValueError where a discrete beta reaches 1, so that DDPM's alphas would not be positive."""
        if self.beta_max >= self.N:
            raise ValueError(
                f"N = {self.N} steps with beta_max = {self.beta_max:g}: the largest beta, beta_max / N, "
                f"must stay below 1; take more than {self.beta_max:g} steps"
            )

    def corrector_alpha(self, t: Tensor) -> Tensor:
        """DDPM's alpha at the step's timestep. The sub-VP SDE has none of its own and uses these as well."""
        self.check_alphas()
        return self.table("alphas", t.device)[self.timestep(t)]
