"""The forward SDE of a score-based model and its time reversal.

One family to a file beside this one; here is what they share. An SDE knows noise levels and steps of time,
never a network: scores come in as functions or tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


def per_sample(values: Tensor, x: Tensor) -> Tensor:
    """Shape one value per sample, (batch,), so that it multiplies x, (batch, ...)."""
    return values.view(-1, *([1] * (x.dim() - 1)))


class SDE(ABC):
    """dx = f(x, t) dt + g(t) dw for t in [0, 1], discretised in N steps (Song et al. 2020, eq. 5).

    Times are tensors of shape (batch,), states are (batch, ...). Tables are float32 and computed as in the
    reference code, because 1 - x near x = 1 loses digits that would otherwise differ from it.
    """

    T = 1.0
    family: str  # name in configurations: ve, vp, subvp
    sampling_eps: float  # the time at which samplers stop
    centered: bool  # whether data usually are in [-1, 1] rather than [0, 1]

    def __init__(self, N: int) -> None:
        if N < 1:
            raise ValueError(f"N = {N}: an SDE needs at least 1 step")
        self.N = N
        self._moved: dict[tuple[str, torch.device], Tensor] = {}

    def table(self, name: str, device: torch.device) -> Tensor:
        """A table of this SDE on a device; brought there once, because every transfer makes the host wait."""
        found: Tensor = getattr(self, name)
        if found.device == device:
            return found
        if (name, device) not in self._moved:
            self._moved[name, device] = found.to(device)
        return self._moved[name, device]

    @abstractmethod
    def with_steps(self, N: int) -> Self:
        """The same noise range in N steps."""

    @abstractmethod
    def mean_coefficient(self, t: Tensor) -> Tensor:
        """m(t), (batch,): the mean of x(t) given x(0) is m(t) x(0)."""

    @abstractmethod
    def std(self, t: Tensor) -> Tensor:
        """Standard deviation of x(t) given x(0), (batch,)."""

    @abstractmethod
    def time_of(self, noise_ratio: float) -> float:
        """The time t at which std(t) / mean_coefficient(t) is a positive ratio; beyond 1 where it is larger
        than that of the prior.
        """

    @abstractmethod
    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Drift f(x, t), shaped as x, and diffusion g(t), (batch,)."""

    @property
    @abstractmethod
    def prior_std(self) -> float:
        """Standard deviation of the Gaussian that x(1) is drawn from."""

    @abstractmethod
    def corrector_alpha(self, t: Tensor) -> Tensor:
        """The factor alpha in the step size of correctors, (batch,) (Song et al. 2020, alg. 4, 5)."""

    def marginal_prob(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, shaped as x, and standard deviation, (batch,), of x(t) given x(0) = x."""
        return per_sample(self.mean_coefficient(t), x) * x, self.std(t)

    def prior_sampling(self, z: Tensor) -> Tensor:
        """A draw of x(1) from standard normal z."""
        return z * self.prior_std

    def prior_logp(self, z: Tensor) -> Tensor:
        """Log density of x(1) = z in nats, (batch,)."""
        dimensions = z[0].numel()
        variance = torch.full((), self.prior_std**2, dtype=z.dtype, device=z.device)
        squares = z.flatten(1).square().sum(dim=1)
        return -dimensions / 2 * torch.log(2 * torch.pi * variance) - squares / (2 * variance)

    def timestep(self, t: Tensor) -> Tensor:
        """Index of the discrete scale of time t, int64 (batch,): t (N - 1), truncated."""
        return (t * (self.N - 1) / self.T).long()

    def check_discretisation(self) -> None:  # noqa: B027 (most families have steps for every N)
        """Raise ValueError if discretize() has no meaning for this number of steps."""

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """f, shaped as x, and G, (batch,), of x[i+1] = x[i] + f + G z. Here by Euler-Maruyama."""
        drift, diffusion = self.sde(x, t)
        return drift / self.N, diffusion * torch.full((), 1 / self.N, device=t.device).sqrt()

    def reverse(self, score: ScoreFunction, probability_flow: bool = False) -> "ReverseSDE":
        """The reverse-time SDE (eq. 6), or the probability flow ODE (eq. 13)."""
        return ReverseSDE(self, score, probability_flow)


@dataclass(frozen=True)
class ReverseSDE:
    """The time reversal of an SDE for a given score function; every call evaluates the score once."""

    forward: SDE
    score: ScoreFunction
    probability_flow: bool = False

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Drift, shaped as x, and diffusion, (batch,): zero for the probability flow."""
        drift, diffusion = self.forward.sde(x, t)
        return self._reversed(drift, diffusion, x, t)

    def discretize(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """f and G of the reverse step x[i] = x[i+1] - f + G z."""
        f, G = self.forward.discretize(x, t)
        return self._reversed(f, G, x, t)

    def _reversed(self, drift: Tensor, diffusion: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        weight = 0.5 if self.probability_flow else 1.0
        drift = drift - per_sample(diffusion**2, x) * self.score(x, t) * weight
        return drift, torch.zeros_like(diffusion) if self.probability_flow else diffusion
