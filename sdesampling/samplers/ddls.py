"""Discriminator-driven latent sampling: Langevin dynamics in the latent space of a GAN."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdesampling.calibration import Calibration
from sdesampling.latent import LatentModel
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import SamplerKind, State
from sdesampling.samplers.chains import effective_sample_size, r_hat


class Decay(NamedTuple):
    """The step size is multiplied by `factor` every `every` steps."""

    factor: float
    every: int


class DDLS(SamplerKind):
    """z <- z - eps/2 grad E(z) + sqrt(eps) s n with E(z) = -log p0(z) - d(G(z)).

    Che et al. 2020, algorithm 1. p0 is the standard normal prior, d the discriminator's logit, n standard
    normal, s `noise_scale`: the chain has effective temperature s^2, so below 1 it sharpens. Energies are
    summed over the batch, so that every chain has its own gradient.

    decay: {factor, every} for the step size, or None.
    metropolis: accept or reject each step (MALA) so that exp(-E / s^2) is the exact stationary density. A
        rejected chain stays where it is, and that state counts.
    kept: states kept per chain. 1: each image is the last state of a chain of its own. More: each chain gives
        `kept` consecutive images, its states after `burn_in` steps and then every `thin` steps, the last one
        after `steps`. Finishing earlier, those not reached yet show the chain's present state.
    burn_in: follows from the others, steps - (kept - 1) thin; if given, it must be that.

    calibration: d is slope * output + intercept of the discriminator; its very output without one.

    An evaluation is one of the gradient of d(G(z)) for the whole batch: one a step, and one more with
    metropolis.
    """

    kind = "ddls"

    def __init__(
        self,
        model: LatentModel,
        *,
        steps: int = 100,
        step_size: float = 0.01,
        decay: dict[str, Any] | None = None,
        noise_scale: float = 1.0,
        metropolis: bool = False,
        kept: int = 1,
        burn_in: int | None = None,
        thin: int = 1,
        calibration: Calibration | None = None,
    ) -> None:
        self.planned_evaluations(steps=steps)
        for name, value in (("step_size", step_size), ("noise_scale", noise_scale)):
            if not value > 0:
                raise ValueError(f"{name} = {value}: must be positive")
        self.model = model
        self.steps = steps
        self.step_size = step_size
        self.decay = None if decay is None else _decay(**decay)
        self.noise_scale = noise_scale
        self.metropolis = metropolis
        self.kept = kept
        self.thin = thin
        self.calibration = calibration
        self.burn_in = _burn_in(steps, kept, burn_in, thin)

    @classmethod
    def planned_evaluations(cls, *, steps: int = 100, metropolis: bool = False, **_: Any) -> int:
        if steps < 0:
            raise ValueError(f"steps = {steps}: must be at least 0")
        return steps + (metropolis and steps > 0)

    def init(self, noise: Noise) -> State:
        z = self._normal(noise, Purpose.PRIOR, 0)
        tensors = {"z": z, "energy_trace": z.new_zeros(len(z), self.steps)}
        if self.kept > 1:
            tensors["kept"] = self._keep(z.new_zeros(noise.batch, self.model.latent_dim), z, 0)
        if self.metropolis:
            tensors["energy"] = z.new_zeros(len(z))
            tensors["gradient"] = torch.zeros_like(z)
            tensors["accepted"] = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        return State(0, tensors)

    def step(self, state: State, noise: Noise) -> State:
        tensors, z = dict(state.tensors), state.tensors["z"]
        evaluations = state.evaluations
        if self.metropolis and state.step > 0:
            energy, gradient = tensors["energy"], tensors["gradient"]
        else:
            energy, gradient = self.energy_and_gradient(z)
            evaluations += 1
        step_size = self.step_size_at(state.step)
        std = math.sqrt(step_size) * self.noise_scale
        moved = z - step_size / 2 * gradient + std * self._normal(noise, Purpose.LANGEVIN, state.step)
        if self.metropolis:
            tensors |= self._accept_or_reject(state, noise, moved, energy, gradient)
            evaluations += 1
        else:
            tensors["z"] = moved
        tensors["energy_trace"] = tensors["energy_trace"].clone()
        tensors["energy_trace"][:, state.step] = energy
        if self.kept > 1:
            tensors["kept"] = self._keep(tensors["kept"], tensors["z"], state.step + 1)
        return State(state.step + 1, tensors, evaluations)

    def _accept_or_reject(
        self, state: State, noise: Noise, moved: Tensor, energy: Tensor, gradient: Tensor
    ) -> dict[str, Tensor]:
        """The state's tensors after each chain took its proposal or stayed (MALA, Roberts & Tweedie 1996).

        energy, gradient: at the present z; one evaluation finds those at the proposals `moved`.
        """
        z, step_size = state.tensors["z"], self.step_size_at(state.step)
        std = math.sqrt(step_size) * self.noise_scale
        new_energy, new_gradient = self.energy_and_gradient(moved)
        there = (moved - z + step_size / 2 * gradient).square().sum(dim=1)
        back = (z - moved + step_size / 2 * new_gradient).square().sum(dim=1)
        log_ratio = (energy - new_energy) / self.noise_scale**2 + (there - back) / (2 * std**2)
        u = noise.uniform(Purpose.METROPOLIS, state.step, (), z.dtype)[:: self.kept]
        accepted = u.log() <= log_ratio  # false for a proposal whose energy is NaN
        return {
            "z": torch.where(accepted[:, None], moved, z),
            "energy": torch.where(accepted, new_energy, energy),
            "gradient": torch.where(accepted[:, None], new_gradient, gradient),
            "accepted": state.tensors["accepted"] + accepted,
        }

    def finish(self, state: State) -> Tensor:
        z = state.tensors["z"]
        if self.kept == 1:
            return self.model.images(z)
        kept = state.tensors["kept"].clone()
        for j in range(self.kept):
            if self.burn_in + j * self.thin > state.step:
                slot = kept[j :: self.kept]
                slot.copy_(z[: len(slot)])
        return self.model.images(kept)

    def step_size_at(self, step: int) -> float:
        """The step size eps of a step, counted from 0."""
        if self.decay is None:
            return self.step_size
        return self.step_size * self.decay.factor ** (step // self.decay.every)

    def energy_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """E(z), (chains,), in nats and its gradient, (chains, latent_dim). Parameters get none."""
        size = len(z) if self.model.micro_batch is None else self.model.micro_batch
        logits, gradients = [], []
        for piece, *conditions in zip(
            *(each.split(size) for each in (z, *self.model.conditions)), strict=True
        ):
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                logit = self._calibrated(self.model.logit(leaf, *conditions))
                gradients += torch.autograd.grad(logit.sum(), leaf)
            logits.append(logit.detach())
        log_prior = -z.square().sum(dim=1) / 2 - self.model.latent_dim / 2 * math.log(2 * math.pi)
        return -log_prior - torch.cat(logits), z - torch.cat(gradients)

    def diagnostics(self, state: State) -> dict[str, float]:
        """The calibration, temperature, present step size, mean energy, acceptance, sample size and R-hat.

        Effective sample size and R-hat are told from the energies of the states after burn-in, for chains of
        one image each of the second half of the run, and left out below 4 steps.
        """
        trace, chains = state.tensors["energy_trace"][:, : state.step], len(state.tensors["z"])
        result = {
            "chains": float(chains),
            "effective_temperature": self.noise_scale**2,
            "effective_sample_size": float(chains),
        }
        if self.calibration is not None:
            result |= {
                f"calibration_{name}": float(value) for name, value in self.calibration._asdict().items()
            }
        if state.step == 0:
            return result
        result["step_size"] = self.step_size_at(state.step - 1)
        result["energy"] = float(trace[:, -1].mean())
        if self.metropolis:
            result["acceptance_rate"] = float(state.tensors["accepted"].sum()) / (chains * state.step)
        mixed = trace[:, self.burn_in if self.kept > 1 else state.step // 2 :]
        if mixed.shape[1] >= 4:
            result["r_hat"] = r_hat(mixed)
            if self.kept > 1:
                images = float(len(state.tensors["kept"]))
                result["effective_sample_size"] = min(effective_sample_size(mixed), images)
        return result

    def _calibrated(self, output: Tensor) -> Tensor:
        if self.calibration is None:
            return output
        return self.calibration.slope * output + self.calibration.intercept

    def chains(self, batch: int) -> Tensor:
        return torch.arange(batch) // self.kept

    def _normal(self, noise: Noise, purpose: Purpose, step: int) -> Tensor:
        """Latent noise of every chain, (chains, latent_dim): that of the chain's first image."""
        return noise.normal(purpose, step, (self.model.latent_dim,), self.model.dtype)[
            :: self.kept
        ].contiguous()

    def _keep(self, kept: Tensor, z: Tensor, step: int) -> Tensor:
        """The kept states, (batch, latent_dim), after `step` steps that led to z."""
        after = step - self.burn_in
        if after < 0 or after % self.thin:
            return kept
        kept = kept.clone()
        slot = kept[after // self.thin :: self.kept]
        slot.copy_(z[: len(slot)])
        return kept


def _decay(factor: float, every: int) -> Decay:
    if not 0 < factor <= 1 or every < 1:
        raise ValueError(f"decay: factor = {factor} must be in (0, 1] and every = {every} at least 1")
    return Decay(factor, every)


def _burn_in(steps: int, kept: int, burn_in: int | None, thin: int) -> int:
    """Steps before the first kept state."""
    if kept < 1 or thin < 1:
        raise ValueError(f"kept = {kept}, thin = {thin}: both must be at least 1")
    if kept == 1 and thin != 1:
        raise ValueError(f"thin = {thin} needs kept > 1: a chain of one image is not thinned")
    found = steps - (kept - 1) * thin
    if found < 0:
        raise ValueError(
            f"steps = {steps}: {kept} kept states, every {thin} steps, need {(kept - 1) * thin} or more"
        )
    if burn_in is not None and burn_in != found:
        raise ValueError(
            f"burn_in = {burn_in} does not fit steps = {steps}, kept = {kept}, thin = {thin}: "
            f"steps = burn_in + (kept - 1) thin, so take burn_in {found}, "
            f"or steps {burn_in + (kept - 1) * thin}"
        )
    return found
