"""Denoising score matching on a continuous SDE: training of score networks.

Knows a score model and a tensor of images. Must not know files, data sets or samplers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample
from sdesampling.training.averaging import ExponentialMovingAverage
from sdesampling.training.randomness import EVALUATION, keyed_randomness


@dataclass(frozen=True)
class ScoreMatchingSettings:
    """Hyper-parameters of score matching; the defaults are those of Song et al. 2020 for CIFAR-10."""

    steps: int
    batch_size: int = 128
    learning_rate: float = 2e-4
    warmup: int = 5000  # steps over which the learning rate rises from 0
    cosine_decay: bool = False  # of the learning rate to 0 at the last step; otherwise it stays
    gradient_clip: float = 1.0  # largest norm of the gradient
    ema_decay: float = 0.9999
    likelihood_weighting: bool = False  # weight g(t)^2 in place of the variance (Song et al. 2021)
    smallest_time: float = 1e-5  # times are uniform between this and 1
    seed: int = 0


def denoising_loss(model: ScoreModel, x: Tensor, settings: ScoreMatchingSettings) -> Tensor:
    """Loss of data (batch, channels, height, width), in the network's range: mean over batch and pixels.

    With score s, noise z and standard deviation v of x(t) given x(0): |v s + z|^2, or with likelihood
    weighting |g (s + z / v)|^2, at one uniform time for each sample.
    """
    t = settings.smallest_time + torch.rand(len(x), device=x.device) * (1 - settings.smallest_time)
    z = torch.randn_like(x)
    mean, std = model.sde.marginal_prob(x, t)
    residual = per_sample(std, x) * model.score(mean + per_sample(std, x) * z, t) + z
    if settings.likelihood_weighting:
        _, diffusion = model.sde.sde(x, t)
        residual = per_sample(diffusion / std, x) * residual
    return residual.square().mean()


class ScoreMatching:
    """Adam on the weighted denoising score matching loss (Song et al. 2020, eq. 7).

    What step i draws is a function of (seed, i) alone, so a resumed training ends with the same bits.

    Args:
        model: a score model of a continuous SDE; its network is trained in place.
        images: (count, channels, height, width) uint8, on the network's device.
        settings: hyper-parameters.
    """

    def __init__(self, model: ScoreModel, images: Tensor, settings: ScoreMatchingSettings) -> None:
        if not model.continuous:
            raise ValueError("score matching here trains on continuous times; the model has discrete labels")
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != model.shape:
            raise ValueError(
                f"images must be uint8 (count, *{model.shape}), got {images.dtype} {tuple(images.shape)}"
            )
        self.model = model
        self.images = images
        self.settings = settings
        self.steps = settings.steps
        self.completed = 0
        self.average = ExponentialMovingAverage(model.network, settings.ema_decay)
        self._optimizer = torch.optim.Adam(model.network.parameters(), lr=settings.learning_rate, fused=True)

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns the batch's loss."""
        settings, network = self.settings, self.model.network
        network.train()
        with keyed_randomness(settings.seed, self.completed):
            chosen = torch.randint(len(self.images), (settings.batch_size,), device=self.images.device)
            loss = denoising_loss(self.model, self._scaled(self.images[chosen]), settings)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * self._rate(self.completed)
        self._optimizer.step()
        self.average.update(network)
        self.completed += 1
        return {"loss": loss.item()}

    @torch.no_grad()
    def averaged_loss(self, images: Tensor, repetitions: int = 16) -> float:
        """Loss of the averaged network over images (count, channels, height, width) uint8; fixed noise."""
        model = copy.copy(self.model)
        model.network = self.average.network
        with keyed_randomness(self.settings.seed, EVALUATION):
            losses = [denoising_loss(model, self._scaled(images), self.settings) for _ in range(repetitions)]
        return torch.stack(losses).mean().item()

    def _scaled(self, images: Tensor) -> Tensor:
        """uint8 images in the network's range."""
        x = images.float() / 255
        return 2 * x - 1 if self.model.centered else x

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs: plain data and tensors."""
        return {
            "completed": self.completed,
            "network": self.model.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.completed = self.average.updates = state["completed"]
        self.model.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _rate(self, step: int) -> float:
        """Learning rate of a step as a share of the peak."""
        rise = min(1.0, (step + 1) / max(1, self.settings.warmup))
        if not self.settings.cosine_decay:
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.settings.steps))
