"""Sampling by the probability flow ODE: deterministic but for its start, so images have latents and back."""

from typing import Any

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.dormand_prince import DormandPrince, ErrorNorm, Progress
from sdesampling.noise import Noise, Purpose
from sdesampling.predictors import ReverseDiffusion
from sdesampling.samplers.base import SamplerKind, State
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample

METHODS = ("dormand_prince", "euler", "heun")
TYPICAL_EVALUATIONS = 450  # of Dormand-Prince at tolerances of 1e-5 on networks of score_sde


class ProbabilityFlowODE(SamplerKind):
    """dx/dt = f(x, t) - g(t)^2 score / 2 from t = 1 to eps (Song et al. 2020, eq. 13).

    method: `dormand_prince` chooses its steps so that errors stay below rtol and atol; `steps` then only
        divides the way into stages, and a step() ends soon after its stage, or at eps. `euler` and
        `heun` take `steps` equal steps in t.
    error_norm: `group` or `sample`, see DormandPrince.
    temperature: by which latents, draws of the prior, are multiplied: below 1 images are more alike.
    interpolate: images come in paths of so many, whose latents lead from one draw to another along a great
        circle (Song et al. 2020, appendix D.2); null: every latent is a draw of its own.
    denoise: end with the mean of a reverse-diffusion step at eps, as the reference code does; finish() of an
        unfinished run denoises by Tweedie's formula at the state's own times, evaluations that no state
        counts.

    The state is float64, the network sees its own precision. Scores are those of continuous times whatever
    the network was trained on, so discretely trained VE networks, which know only indices of scales, are
    refused by ValueError.
    """

    kind = "ode"

    def __init__(
        self,
        model: ScoreModel,
        *,
        method: str = "dormand_prince",
        steps: int = 20,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        error_norm: ErrorNorm = "group",
        temperature: float = 1.0,
        interpolate: int | None = None,
        eps: float | None = None,
        denoise: bool = True,
    ) -> None:
        self.planned_evaluations(method=method, steps=steps)
        self.model = model.at_continuous_times()
        self.method = method
        self.steps = steps
        self.solver = DormandPrince(rtol, atol, error_norm)
        self.eps = model.sde.sampling_eps if eps is None else eps
        if not 0 < self.eps < model.sde.T:
            raise ValueError(f"eps = {self.eps}: the last time must be in (0, 1)")
        if denoise:
            ReverseDiffusion().check(model.sde)
        if not temperature > 0:
            raise ValueError(f"temperature = {temperature}: must be positive")
        if interpolate is not None and interpolate < 2:
            raise ValueError(f"interpolate = {interpolate}: a path has at least 2 images")
        self.temperature = temperature
        self.interpolate = interpolate
        self.denoise = denoise

    @classmethod
    def planned_evaluations(
        cls, *, method: str = "dormand_prince", steps: int = 20, denoise: bool = True, **_: Any
    ) -> int:
        """Exact for euler and heun; for dormand_prince a typical number, as it chooses its steps."""
        one_of("method", method, METHODS)
        if steps < 1:
            raise ValueError(f"steps = {steps}: must be at least 1")
        if method == "dormand_prince":
            return TYPICAL_EVALUATIONS
        return steps * (1 if method == "euler" else 2) + denoise

    @torch.no_grad()
    def init(self, noise: Noise) -> State:
        z = noise.normal(Purpose.PRIOR, 0, self.model.shape)
        if self.interpolate is not None:
            z = self._paths(z, noise)
        y = self.model.sde.prior_sampling(z).double() * self.temperature
        return State(0, {"y": y, "t": torch.full((len(y),), self.model.sde.T).to(y)})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        start, end = self._time(state.step), self._time(state.step + 1)
        tensors = dict(state.tensors)
        if self.method == "dormand_prince":
            tensors |= self._adaptive(tensors, end)
        else:
            tensors |= self._fixed(tensors, start, end)
        if self.denoise and state.step + 1 == self.steps:
            x = tensors["y"].to(self.model.dtype)
            t = self.model.times(self.eps, x)
            _, tensors["denoised"] = ReverseDiffusion().update(self.model, x, t, torch.zeros_like(x))
        return State(state.step + 1, tensors, state.evaluations + self.model.evaluations - before)

    @torch.no_grad()
    def finish(self, state: State) -> Tensor:
        x = state.tensors["y"].to(self.model.dtype)
        if self.denoise and state.step > 0:
            x = state.tensors.get("denoised", x)
            if state.step < self.steps:
                x = self.model.denoise(x, state.tensors["t"].to(x))
        return (x + 1) / 2 if self.model.centered else x.clone()

    def chains(self, batch: int) -> Tensor:
        return torch.arange(batch) // (self.interpolate or 1)

    def _paths(self, starts: Tensor, noise: Noise) -> Tensor:
        """Latents on paths, (batch, *shape), from the draw of a path's first image to another one of its."""
        assert self.interpolate is not None
        if noise.indices.start % self.interpolate:
            raise ValueError(
                f"samples from {noise.indices.start}: a group starts at a multiple of interpolate = "
                f"{self.interpolate}"
            )
        place = torch.arange(len(starts), device=starts.device)
        first = place - place % self.interpolate
        ends = noise.normal(Purpose.PRIOR, 1, self.model.shape)
        share = (place - first) / (self.interpolate - 1)
        return spherical(starts[first], ends[first], share)

    def _time(self, stage: int) -> float:
        """Where stage i of `steps` ends."""
        share = stage / self.steps
        return self.eps if stage == self.steps else self.model.sde.T + (self.eps - self.model.sde.T) * share

    def _adaptive(self, tensors: dict[str, Tensor], stage_end: float) -> dict[str, Tensor]:
        def f(t: Tensor, y: Tensor) -> Tensor:
            return drift(self.model, t, y)

        if "h" in tensors:
            now = Progress(*(tensors[name] for name in Progress._fields))
        else:
            now = self.solver.start(f, tensors["t"], tensors["y"], self.eps)
        return self.solver.advance(f, now, stage_end, self.eps)._asdict()

    def _fixed(self, tensors: dict[str, Tensor], start: float, end: float) -> dict[str, Tensor]:
        t, y = tensors["t"], tensors["y"]
        following = torch.full_like(t, end)
        step = per_sample(following - t, y)
        slope = drift(self.model, self.model.times(start, y, self.model.dtype), y)
        if self.method == "heun":
            ahead = drift(self.model, self.model.times(end, y, self.model.dtype), y + step * slope)
            slope = (slope + ahead) / 2
        return {"t": following, "y": y + step * slope}


def drift(model: ScoreModel, t: Tensor, y: Tensor) -> Tensor:
    """dx/dt of the probability flow at y, float64, computed in the model's precision; t: (batch,)."""
    flow, dtype = model.sde.reverse(model.score, probability_flow=True), model.dtype
    return flow.sde(y.to(dtype), t.to(dtype))[0].double()


def spherical(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Latents on great circles from `start` to `end`, (batch, ...): share 0 is the start, 1 the end.

    share: (batch,). Independent standard normal ends give points that are standard normal, nearly (White
    2016, arXiv 1609.04468). Where the ends are parallel, the straight line.
    """
    cosine = torch.cosine_similarity(start.flatten(1), end.flatten(1))
    angle = torch.arccos(cosine.clamp(-1, 1))
    straight = angle.sin() < 1e-6
    sine = torch.where(straight, 1.0, angle.sin())
    first = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / sine)
    second = torch.where(straight, share, (share * angle).sin() / sine)
    return per_sample(first, start) * start + per_sample(second, end) * end


def encode(model: ScoreModel, images: Tensor, solver: DormandPrince, eps: float | None = None) -> Tensor:
    """Latents x(1), float64, of images in [0, 1]: the flow run from eps to 1. decode() is its inverse."""
    model = model.at_continuous_times()
    x = images * 2 - 1 if model.centered else images
    start = model.sde.sampling_eps if eps is None else eps
    with torch.no_grad():
        return solver.integrate(lambda t, y: drift(model, t, y), start, model.sde.T, x)


def decode(model: ScoreModel, latents: Tensor, solver: DormandPrince, eps: float | None = None) -> Tensor:
    """Images, nominally in [0, 1], of latents x(1): the flow run from 1 to eps, without a denoising step."""
    model = model.at_continuous_times()
    end = model.sde.sampling_eps if eps is None else eps
    with torch.no_grad():
        x = solver.integrate(lambda t, y: drift(model, t, y), model.sde.T, end, latents).to(model.dtype)
    return (x + 1) / 2 if model.centered else x
