"""Predictor-corrector sampling, with predictor-only and corrector-only sampling as its special cases."""

from typing import Any

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.correctors import CORRECTORS, AnnealedLangevin, Corrector, Langevin
from sdesampling.correctors.langevin import Norm
from sdesampling.noise import Noise, Purpose
from sdesampling.predictors import PREDICTORS, Predictor
from sdesampling.samplers.base import SamplerKind, State
from sdesampling.score import Labels, ScoreModel


class PredictorCorrector(SamplerKind):
    """At each time first the corrector, then the predictor (Song et al. 2020, alg. 1, as in its code).

    Times are N = `steps` values from 1 down to `eps`. `denoise` leaves out the noise of the last predictor
    step; without a predictor it is a step of its own by Tweedie's formula, as in the paper (the reference
    code leaves corrector-only samples noisy, which is `denoise` false). finish() of an unfinished
    corrector-only run makes that step at the state's own time, an evaluation that no state counts.

    Raises ValueError where predictor, corrector and SDE do not fit together.
    """

    kind = "predictor_corrector"

    def __init__(
        self,
        model: ScoreModel,
        *,
        predictor: str = "reverse_diffusion",
        corrector: str = "langevin",
        steps: int = 1000,
        corrector_steps: int = 1,
        snr: float = 0.16,
        corrector_norm: Norm = "batch",
        denoise: bool = True,
        eps: float | None = None,
        labels: Labels = "interpolated",
    ) -> None:
        self.planned_evaluations(  # raises where the combination makes no sense
            predictor=predictor,
            corrector=corrector,
            steps=steps,
            corrector_steps=corrector_steps,
            denoise=denoise,
        )
        self.model = model.with_steps(steps, labels)
        self.steps = steps
        self.predictor: Predictor | None = None if predictor == "none" else PREDICTORS[predictor]()
        self.corrector = _corrector(corrector, snr, corrector_norm)
        self.corrector_steps = corrector_steps
        self.denoise = denoise
        sde = self.model.sde
        if self.predictor is not None:
            self.predictor.check(sde)
        self.eps = sde.sampling_eps if eps is None else eps
        if not 0 <= self.eps < sde.T:
            raise ValueError(f"eps = {self.eps}: the last time must be in [0, 1)")
        self.times = torch.linspace(sde.T, self.eps, steps)
        if self.corrector is not None:
            sde.corrector_alpha(self.times)  # raises where the SDE has too few steps for its alphas

    @classmethod
    def planned_evaluations(
        cls,
        *,
        predictor: str = "reverse_diffusion",
        corrector: str = "langevin",
        steps: int = 1000,
        corrector_steps: int = 1,
        denoise: bool = True,
        **_: Any,
    ) -> int:
        one_of("predictor", predictor, [*PREDICTORS, "none"])
        one_of("corrector", corrector, [*CORRECTORS, "none"])
        if predictor == "none" and corrector == "none":
            raise ValueError("predictor and corrector are both 'none': nothing would be sampled")
        if steps < 1:
            raise ValueError(f"steps = {steps}: must be at least 1")
        if corrector_steps < 1:
            raise ValueError(
                f"corrector_steps = {corrector_steps}: must be at least 1; or take corrector 'none'"
            )
        a_step = (predictor != "none") + (corrector != "none") * corrector_steps
        return steps * a_step + (denoise and predictor == "none")

    @torch.no_grad()
    def init(self, noise: Noise) -> State:
        x = self.model.sde.prior_sampling(noise.normal(Purpose.PRIOR, 0, self.model.shape, self.model.dtype))
        return State(0, {"x": x, "x_mean": x.clone()})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        x, x_mean = state.tensors["x"], state.tensors["x_mean"]
        t = self.time(state.step, x)
        if self.corrector is not None:
            for j in range(self.corrector_steps):
                draw = state.step * self.corrector_steps + j
                z = noise.normal(Purpose.CORRECTOR, draw, self.model.shape, x.dtype)
                x, x_mean = self.corrector.update(self.model, x, t, z)
        if self.predictor is not None:
            z = noise.normal(Purpose.PREDICTOR, state.step, self.model.shape, x.dtype)
            x, x_mean = self.predictor.update(self.model, x, t, z)
            x_mean = x_mean.clone() if x_mean is x else x_mean
        elif self.denoise and state.step + 1 == self.steps:
            x_mean = self.model.denoise(x, t)
        evaluations = state.evaluations + self.model.evaluations - before
        return State(state.step + 1, {"x": x, "x_mean": x_mean}, evaluations)

    @torch.no_grad()
    def finish(self, state: State) -> Tensor:
        x, x_mean = state.tensors["x"], state.tensors["x_mean"]
        images = x_mean if self.denoise else x
        if self.denoise and self.predictor is None and 0 < state.step < self.steps:
            images = self.model.denoise(x, self.time(state.step - 1, x))
        return (images + 1) / 2 if self.model.centered else images.clone()

    def time(self, step: int, x: Tensor) -> Tensor:
        """The time of a step for all samples of x, (batch,)."""
        return self.model.times(float(self.times[step]), x)


def _corrector(name: str, snr: float, norm: Norm) -> Corrector | None:
    if name == "none":
        return None
    return Langevin(snr, norm) if name == Langevin.name else AnnealedLangevin(snr)
