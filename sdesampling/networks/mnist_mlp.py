"""Fully connected MNIST networks of published small checkpoints (csinva/gan-vae-pretrained-pytorch).

A GAN (generator and discriminator) and the decoder of a VAE, for 1x28x28 images. The layers are parameter-
compatible with the published state dicts, which load strictly. Knows neither files nor sampling.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

PIXELS = 28 * 28


class MnistMLPGenerator(nn.Sequential):
    """Latents (batch, 64) to images (batch, 1, 28, 28) in [-1, 1]."""

    latent_dim = 64

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, PIXELS), nn.Tanh()
        )

    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(latents).view(-1, 1, 28, 28)


class MnistMLPDiscriminator(nn.Sequential):
    """Images (batch, 1, 28, 28) in [-1, 1] to logits (batch,).

    The published network ends in a sigmoid, which has no parameters; it is left out, because latent Langevin
    dynamics needs the logit.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(PIXELS, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1)).squeeze(1)


class MnistVAEDecoder(nn.Module):
    """Latents (batch, 20) to images (batch, 1, 28, 28) in [0, 1] (Kingma & Welling 2013, appendix C)."""

    latent_dim = 20

    def __init__(self) -> None:
        super().__init__()
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, PIXELS)

    def forward(self, latents: Tensor) -> Tensor:
        return self.fc4(self.fc3(latents).relu()).sigmoid().view(-1, 1, 28, 28)

    @staticmethod
    def own_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The decoder's part of a whole VAE's published state dict.

        Raises:
            KeyError: the encoder's tensors are not all there, so that this is no such state dict.
        """
        missing = VAE_ENCODER_KEYS - state.keys()
        if missing:
            raise KeyError(f"no MNIST VAE: the encoder's {', '.join(sorted(missing))} are missing")
        return {key: value for key, value in state.items() if key not in VAE_ENCODER_KEYS}


VAE_ENCODER_KEYS = frozenset(
    f"{layer}.{kind}" for layer in ("fc1", "fc21", "fc22") for kind in ("weight", "bias")
)
