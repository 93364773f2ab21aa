"""Exponential integrators of the probability flow in half log-SNR, the mathematics behind DPM-Solver.

In lambda = log(alpha / sigma) the flow is linear but for the network's prediction, which is expanded about a
step's start and integrated exactly. Knows the VP SDE and tensors of predictions, no network.
"""

import math
from typing import Literal, NamedTuple

from torch import Tensor

from sdesampling.sde import VP

Grid = Literal["logSNR", "time_uniform", "time_quadratic"]
Algorithm = Literal["dpmsolver", "dpmsolver++"]  # the network's prediction is used as noise, or as data


class Instant(NamedTuple):
    """A time of the flow: x(t) = alpha x(0) + sigma n and log_snr = log(alpha / sigma)."""

    t: float
    alpha: float
    sigma: float
    log_snr: float


def at_time(sde: VP, t: float) -> Instant:
    """The instant of a time in (0, 1]."""
    log_alpha = sde.log_mean_coefficient(t)
    variance = -math.expm1(2 * log_alpha)
    return Instant(t, math.exp(log_alpha), math.sqrt(variance), log_alpha - 0.5 * math.log(variance))


def at_log_snr(sde: VP, log_snr: float) -> Instant:
    """The instant of a half log-SNR (Lu et al. 2022, appendix D.4)."""
    softplus = max(-2 * log_snr, 0.0) + math.log1p(math.exp(-2 * abs(log_snr)))
    slope = sde.beta_max - sde.beta_min
    return at_time(sde, 2 * softplus / (math.sqrt(sde.beta_min**2 + 2 * slope * softplus) + sde.beta_min))


def time_grid(sde: VP, grid: Grid, start: float, end: float, steps: int) -> list[Instant]:
    """steps + 1 instants from time `start` to time `end`, evenly spaced in log-SNR, in t or in sqrt(t)."""
    if grid == "logSNR":
        first, last = at_time(sde, start).log_snr, at_time(sde, end).log_snr
        return [at_log_snr(sde, value) for value in _evenly(first, last, steps)]
    if grid == "time_uniform":
        return [at_time(sde, t) for t in _evenly(start, end, steps)]
    return [at_time(sde, root**2) for root in _evenly(math.sqrt(start), math.sqrt(end), steps)]


def _evenly(first: float, last: float, steps: int) -> list[float]:
    return [first + (last - first) * i / steps for i in range(steps)] + [last]


def advance(
    algorithm: Algorithm,
    x: Tensor,
    start: Instant,
    end: Instant,
    prediction: Tensor,
    first: Tensor | None = None,
    second: Tensor | None = None,
    trapezoid: bool = False,
) -> Tensor:
    """x brought from `start` to `end`, its prediction being expanded about the start.

    prediction: noise (dpmsolver) or data (dpmsolver++) at x and `start`.
    first, second: estimates of its derivatives in log-SNR there, times h and h^2, where h is the step in
        log-SNR; without them the order is 1, that of DDIM.
    trapezoid: weigh `first` by half the weight of the prediction rather than by the exact integral, which is
        the same up to order h^3.

    Lu et al. 2022 (DPM-Solver), eq. 3.4; Lu et al. 2022 (DPM-Solver++), eq. 9.
    """
    h = end.log_snr - start.log_snr
    if algorithm == "dpmsolver":
        keep, weight = end.alpha / start.alpha, end.sigma
    else:
        keep, weight, h = end.sigma / start.sigma, end.alpha, -h
    phi_1 = math.expm1(h)
    phi_2 = phi_1 / h - 1
    phi_3 = phi_2 / h - 0.5
    x = keep * x - weight * phi_1 * prediction
    if first is not None:
        x = x - weight * (phi_1 / 2 if trapezoid else phi_2) * first
    if second is not None:
        x = x - weight * phi_3 * second
    return x


def differences(r1: float, r2: float, m0: Tensor, m1: Tensor, m2: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative at 0 of the parabola through m0, m1, m2 at 0, r1, r2."""
    slope_1, slope_2 = (m1 - m0) / r1, (m2 - m0) / r2
    return (r2 * slope_1 - r1 * slope_2) / (r2 - r1), 2 * (slope_2 - slope_1) / (r2 - r1)
