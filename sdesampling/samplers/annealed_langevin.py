"""Annealed Langevin dynamics, the sampler of NCSN: Langevin steps at noise levels that fall one by one."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import NonFiniteStateError, SamplerKind, State
from sdesampling.score import ScoreModel
from sdesampling.sde import VE

Convention = Literal["code", "paper"]
Schedule = Literal["geometric", "linear"]


class AnnealedLangevinDynamics(SamplerKind):
    """Song & Ermon 2019, algorithm 1, from uniform noise in the data's range.

    At level sigma, `steps_per_level` times with a = step_size sigma^2 / sigma_min^2:

        convention `paper`: x <- x + a / 2 score + sqrt(a) z   (step_size is the paper's epsilon)
        convention `code`:  x <- x + a score + sqrt(2 a) z     (step_size is the released code's step_lr)

    so one step_size is twice as long in the code as in the paper; 2e-5 is the code's.

    levels, schedule: so many noise levels from sigma_max to sigma_min, geometric or linear.
    sigma_max, sigma_min: the range of the model's SDE unless given.
    denoise: end with the data expected at the last level, one evaluation more, as NCSNv2 does.

    Raises ValueError for other SDEs than VE, for ranges that are none, and where a discretely trained network
    is asked for other levels than steps of its own schedule.
    """

    kind = "annealed_langevin"

    def __init__(
        self,
        model: ScoreModel,
        *,
        levels: int = 10,
        steps_per_level: int = 100,
        step_size: float = 2e-5,
        convention: Convention = "code",
        schedule: Schedule = "geometric",
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        denoise: bool = False,
    ) -> None:
        self.planned_evaluations(levels=levels, steps_per_level=steps_per_level)
        one_of("convention", convention, get_args(Convention))
        one_of("schedule", schedule, get_args(Schedule))
        if not step_size > 0:
            raise ValueError(f"step_size = {step_size}: must be positive")
        if not isinstance(model.sde, VE):
            raise ValueError(f"annealed_langevin: needs noise levels of VE, not of {model.sde.family}")
        sde = VE(
            model.sde.sigma_min if sigma_min is None else sigma_min,
            model.sde.sigma_max if sigma_max is None else sigma_max,
            levels,
        )
        range_changed = (sde.sigma_min, sde.sigma_max) != (model.sde.sigma_min, model.sde.sigma_max)
        if not model.continuous and (range_changed or schedule == "linear"):
            raise ValueError(
                "annealed_langevin: a discretely trained network knows its own noise levels alone; "
                "leave sigma_max, sigma_min and schedule out"
            )
        self.model = model.with_steps(levels)
        self.model.sde = sde
        self.levels = levels
        self.steps_per_level = steps_per_level
        self.steps = levels * steps_per_level
        self.step_size = step_size
        self.convention = convention
        self.denoise = denoise
        self.sigmas = _schedule(schedule, sde.sigma_max, sde.sigma_min, levels)

    @classmethod
    def planned_evaluations(
        cls, *, levels: int = 10, steps_per_level: int = 100, denoise: bool = False, **_: Any
    ) -> int:
        if levels < 2:
            raise ValueError(f"levels = {levels}: must be at least 2")
        if steps_per_level < 1:
            raise ValueError(f"steps_per_level = {steps_per_level}: must be at least 1")
        return levels * steps_per_level + denoise

    def init(self, noise: Noise) -> State:
        x = noise.uniform(Purpose.PRIOR, 0, self.model.shape, self.model.dtype)
        return State(0, {"x": 2 * x - 1 if self.model.centered else x})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        x, level = state.tensors["x"], state.step // self.steps_per_level
        z = noise.normal(Purpose.LANGEVIN, state.step, self.model.shape, x.dtype)
        a = self.step_size_at(level)
        drift, variance = (a, 2 * a) if self.convention == "code" else (a / 2, a)
        x = x + drift * self.model.score(x, self._time(level, x)) + math.sqrt(variance) * z
        tensors = {"x": x}
        if self.denoise and state.step + 1 == self.steps:
            tensors["denoised"] = self.model.denoise(x, self._time(level, x))
        return State(state.step + 1, tensors, state.evaluations + self.model.evaluations - before)

    @torch.no_grad()
    def finish(self, state: State) -> Tensor:
        x = state.tensors["x"]
        if self.denoise and state.step == self.steps:
            x = state.tensors["denoised"]
        elif self.denoise and state.step > 0:
            x = self.model.denoise(x, self._time((state.step - 1) // self.steps_per_level, x))
        return (x + 1) / 2 if self.model.centered else x.clone()

    def step_size_at(self, level: int) -> float:
        """a of a noise level, counted from the largest."""
        return self.step_size * (self.sigmas[level] / self.sigmas[-1]) ** 2

    def check_finite(self, state: State) -> None:
        """Raise NonFiniteStateError, naming the level, its step size and a stable one, if x overflowed."""
        if state.tensors["x"].isfinite().all():
            return
        level = max(state.step - 1, 0) // self.steps_per_level
        last = self.sigmas[-1]
        limit = (2 if self.convention == "code" else 4) * last**2
        raise NonFiniteStateError(
            f"{self.kind}: x overflowed by step {state.step} of {self.steps}, at level {level + 1} of "
            f"{self.levels}, sigma = {self.sigmas[level]:g}, with steps a = {self.step_size_at(level):g}; "
            f"step_size = {self.step_size:g} is too large for sigma_min = {last:g}: take less than "
            f"{limit:g}, or a larger sigma_min"
        )

    def _time(self, level: int, x: Tensor) -> Tensor:
        """The SDE's time at which its noise is that of a level, (batch,)."""
        first, last = self.sigmas[0], self.sigmas[-1]
        return self.model.times(math.log(self.sigmas[level] / last) / math.log(first / last), x)


def _schedule(schedule: Schedule, first: float, last: float, levels: int) -> list[float]:
    shares = [i / (levels - 1) for i in range(levels)]
    if schedule == "linear":
        return [first + (last - first) * share for share in shares]
    return [first * (last / first) ** share for share in shares]
