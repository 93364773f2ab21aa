"""The sampler of EDM: Heun steps in the noise level sigma, deterministic or with churn."""

import math
from typing import Any

import torch
from torch import Tensor

from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import SamplerKind, State
from sdesampling.score import ScoreModel
from sdesampling.sde import VE, per_sample

USUAL_RANGE = (0.002, 80.0)  # of sigma (Karras et al. 2022, table 1), inside that of the model
SMALLEST_TIME = 1e-5  # that VP and sub-VP networks of score_sde were trained on
MOST_CHURN = math.sqrt(2) - 1  # by which a step's sigma may be raised


class EDM(SamplerKind):
    """dx / dsigma = (x - D(x; sigma)) / sigma in Heun steps (Karras et al. 2022, algorithms 1 and 2).

    x is data plus noise of standard deviation sigma, whatever the model's SDE: VP and sub-VP networks are
    asked at the time t where std(t) / m(t) = sigma, with m(t) x. D is the data that the network predicts.
    The levels are sigma_i = (a + i / (steps - 1) (b - a))^rho with a and b the rho-th roots of sigma_max and
    sigma_min, and then 0, to which the last step is Euler's: its end is the data predicted at sigma_min.

    sigma_max, sigma_min: the range; 80 and 0.002 unless given, or as far as the model's own range goes.
    s_churn: before each step noise raises sigma by the factor 1 + min(s_churn / steps, sqrt(2) - 1), though
        not above the model's range, where s_tmin <= sigma <= s_tmax (null: no limit), and s_noise times as
        much noise as that takes. 0: deterministic.

    The state is float64, the network sees its own dtype. Levels of discretely trained VE networks are rounded
    to their trained scales, others are asked at continuous times. finish() of an unfinished run shows the
    data predicted last.

    Raises ValueError for ranges outside that of the model.
    """

    kind = "edm"

    def __init__(
        self,
        model: ScoreModel,
        *,
        steps: int = 18,
        rho: float = 7.0,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float | None = None,
        s_noise: float = 1.0,
    ) -> None:
        self.planned_evaluations(steps=steps)
        for name, value in (("rho", rho), ("s_noise", s_noise)):
            if not value > 0:
                raise ValueError(f"{name} = {value}: must be positive")
        for name, value in (("s_churn", s_churn), ("s_tmin", s_tmin)):
            if not value >= 0:
                raise ValueError(f"{name} = {value}: must be at least 0")
        self.discrete = isinstance(model.sde, VE) and not model.continuous
        self.model = model.with_steps(model.scales) if self.discrete else model.at_continuous_times()
        self.steps = steps
        self.s_churn, self.s_noise = s_churn, s_noise
        self.s_tmin, self.s_tmax = s_tmin, math.inf if s_tmax is None else s_tmax
        self.largest = self._sigma(model.sde.T)
        highest, lowest = self._range(sigma_max, sigma_min)
        first, last = highest ** (1 / rho), lowest ** (1 / rho)
        shares = [i / max(steps - 1, 1) for i in range(steps)]
        levels = [(first + share * (last - first)) ** rho for share in shares]
        self.sigmas = [*map(self._rounded, levels), 0.0]

    @classmethod
    def planned_evaluations(cls, *, steps: int = 18, **_: Any) -> int:
        if steps < 1:
            raise ValueError(f"steps = {steps}: must be at least 1")
        return 2 * steps - 1

    @torch.no_grad()
    def init(self, noise: Noise) -> State:
        z = noise.normal(Purpose.PRIOR, 0, self.model.shape)
        return State(0, {"x": z.double() * self.sigmas[0]})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        x, sigma = self._churned(state.tensors["x"], state.step, noise)
        following = self.sigmas[state.step + 1]
        data = self.denoised(x, sigma)
        slope = (x - data) / sigma
        ahead = x + (following - sigma) * slope
        if following > 0:
            data = self.denoised(ahead, following)
            ahead = x + (following - sigma) * (slope + (ahead - data) / following) / 2
        evaluations = state.evaluations + self.model.evaluations - before
        return State(state.step + 1, {"x": ahead, "data": data}, evaluations)

    def finish(self, state: State) -> Tensor:
        images = state.tensors["x" if state.step in (0, self.steps) else "data"].to(self.model.dtype)
        return (images + 1) / 2 if self.model.centered else images

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """D(x; sigma), the data expected given data plus noise x, both float64; one evaluation."""
        dtype = self.model.dtype
        t = self.model.times(self.model.sde.time_of(sigma), x, dtype)
        mean_coefficient = per_sample(self.model.sde.mean_coefficient(t.double()), x)
        return self.model.denoise((mean_coefficient * x).to(dtype), t).double()

    def _churned(self, x: Tensor, step: int, noise: Noise) -> tuple[Tensor, float]:
        """The state with fresh noise, and its raised sigma. A draw is made in every step of a run with churn,
        used or not, as the reference code does."""
        sigma = self.sigmas[step]
        if self.s_churn == 0:
            return x, sigma
        z = noise.normal(Purpose.PREDICTOR, step, self.model.shape)
        if not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        factor = 1 + min(self.s_churn / self.steps, MOST_CHURN)
        raised = self._rounded(max(min(sigma * factor, self.largest), sigma))
        return x + math.sqrt(raised**2 - sigma**2) * self.s_noise * z.double(), raised

    def _range(self, sigma_max: float | None, sigma_min: float | None) -> tuple[float, float]:
        smallest = self._sigma(0.0 if isinstance(self.model.sde, VE) else SMALLEST_TIME)
        usual = max(USUAL_RANGE[0], self._sigma(self.model.sde.sampling_eps))
        highest = min(USUAL_RANGE[1], self.largest) if sigma_max is None else sigma_max
        lowest = usual if sigma_min is None else sigma_min
        room = 1 + 1e-5  # for limits that were printed with six digits and read again
        if not smallest / room <= lowest < highest <= self.largest * room:
            raise ValueError(
                f"sigma_min = {lowest:g}, sigma_max = {highest:g}: must be ascending and inside the model's "
                f"range, {smallest:g} to {self.largest:g}"
            )
        return highest, lowest

    def _sigma(self, t: float) -> float:
        """std / mean coefficient at a time."""
        time = torch.tensor([t], dtype=torch.float64)
        return float(self.model.sde.std(time) / self.model.sde.mean_coefficient(time))

    def _rounded(self, sigma: float) -> float:
        """The nearest sigma that the network knows."""
        if not self.discrete:
            return sigma
        last = self.model.sde.N - 1
        index = round(self.model.sde.time_of(sigma) * last)
        return self._sigma(min(max(index, 0), last) / last)
