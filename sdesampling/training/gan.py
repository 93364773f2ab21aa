"""Adversarial training with the non-saturating logistic loss, an R1 penalty and an averaged generator.

Knows two networks and a tensor of images. Must not know files, data sets or latent samplers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sdesampling.training.averaging import ExponentialMovingAverage
from sdesampling.training.randomness import EVALUATION, keyed_randomness


@dataclass(frozen=True)
class GANSettings:
    """Hyper-parameters of adversarial training."""

    steps: int  # of the generator and the discriminator by turns
    closing_steps: int = 0  # more steps of the discriminator alone, against the averaged generator
    batch_size: int = 64
    generator_learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    r1_gamma: float = 0.0  # weight of the R1 penalty, gamma of Mescheder et al. 2018
    ema_decay: float = 0.999
    seed: int = 0


class GANTraining:
    """Adam on the non-saturating logistic losses (Goodfellow et al. 2014), one step of each network by turns.

    The discriminator's logit tends to log p_data - log p_generator. Latent Langevin dynamics needs it of the
    generator that is sampled from, so the closing steps train it alone, against the averaged generator.
    What step i draws is a function of (seed, i) alone, so a resumed training ends with the same bits.

    Args:
        generator: latents (batch, latent_dim) to images in [-1, 1]; trained in place.
        discriminator: images to logits (batch,); trained in place.
        latent_dim: dimension of the standard normal latent.
        images: (count, channels, height, width) uint8, on the networks' device.
        settings: hyper-parameters.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int,
        images: Tensor,
        settings: GANSettings,
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (count, channels, height, width), got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.images = images
        self.settings = settings
        self.steps = settings.steps + settings.closing_steps
        self.completed = 0
        self.average = ExponentialMovingAverage(generator, settings.ema_decay)
        self._generator_optimizer = torch.optim.Adam(
            generator.parameters(), lr=settings.generator_learning_rate, betas=settings.betas, fused=True
        )
        self._discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(),
            lr=settings.discriminator_learning_rate,
            betas=settings.betas,
            fused=True,
        )

    def advance(self) -> dict[str, float]:
        """One step; returns the losses and the mean logits of real and generated images."""
        closing = self.completed >= self.settings.steps
        self.generator.train()
        self.discriminator.train()
        with keyed_randomness(self.settings.seed, self.completed):
            losses = self._discriminator_step(self.average.network if closing else self.generator)
            if not closing:
                losses |= self._generator_step()
        self.completed += 1
        return losses

    def _discriminator_step(self, generator: nn.Module) -> dict[str, float]:
        settings, device = self.settings, self.images.device
        chosen = torch.randint(len(self.images), (settings.batch_size,), device=device)
        real = self.images[chosen].float() / 127.5 - 1
        with torch.no_grad():
            fake = generator(torch.randn(settings.batch_size, self.latent_dim, device=device))
        real.requires_grad_(settings.r1_gamma > 0)
        real_logit, fake_logit = self.discriminator(real), self.discriminator(fake)
        loss = softplus(-real_logit).mean() + softplus(fake_logit).mean()
        penalty = torch.zeros((), device=device)
        if settings.r1_gamma > 0:
            (gradient,) = torch.autograd.grad(real_logit.sum(), real, create_graph=True)
            penalty = settings.r1_gamma / 2 * gradient.square().flatten(1).sum(dim=1).mean()
        self._discriminator_optimizer.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        self._discriminator_optimizer.step()
        return {
            "discriminator_loss": loss.item(),
            "r1_penalty": penalty.item(),
            "real_logit": real_logit.mean().item(),
            "fake_logit": fake_logit.mean().item(),
        }

    def _generator_step(self) -> dict[str, float]:
        latents = torch.randn(self.settings.batch_size, self.latent_dim, device=self.images.device)
        loss = softplus(-self.discriminator(self.generator(latents))).mean()
        self._generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._generator_optimizer.step()
        self.average.update(self.generator)
        return {"generator_loss": loss.item()}

    @torch.no_grad()
    def logits(self, images: Tensor) -> tuple[float, float]:
        """Mean logits, in eval mode, of uint8 images and of as many images of the averaged generator."""
        self.discriminator.eval()
        with keyed_randomness(self.settings.seed, EVALUATION):
            latents = torch.randn(len(images), self.latent_dim, device=self.images.device)
            generated = self.discriminator(self.average.network(latents))
        real = self.discriminator(images.float() / 127.5 - 1)
        return real.mean().item(), generated.mean().item()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs: plain data and tensors."""
        return {
            "completed": self.completed,
            "average_updates": self.average.updates,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.network.state_dict(),
            "generator_optimizer": self._generator_optimizer.state_dict(),
            "discriminator_optimizer": self._discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.completed = state["completed"]
        self.average.updates = state["average_updates"]
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.network.load_state_dict(state["average"])
        self._generator_optimizer.load_state_dict(state["generator_optimizer"])
        self._discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
