"""Images from latents: a decoder with a standard normal prior, alone or with a discriminator, as in a GAN."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdesampling.score import in_micro_batches


class LatentDecoder:
    """What a GAN and a VAE's decoder share: a network from standard normal latents to images.

    A generator with an attribute `num_classes` that is not None is class-conditional: it and the
    discriminator are called with `class_labels`, int64 (batch,), too, which have to be set before.
    """

    class_labels: Tensor | None = None
    generator: nn.Module
    latent_dim: int
    shape: tuple[int, int, int]
    centered: bool
    micro_batch: int | None

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim = {self.latent_dim}: must be at least 1")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(
                f"micro_batch = {self.micro_batch}: must be at least 1, or None for whole batches"
            )
        self.generator.eval()

    @property
    def classes(self) -> int | None:
        """Number of classes of a class-conditional generator."""
        return getattr(self.generator, "num_classes", None)

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the generator's weights, and so of its latents."""
        return next(self.generator.parameters()).dtype

    @property
    def conditions(self) -> tuple[Tensor, ...]:
        """What the networks are told beside their input: nothing, or the classes."""
        return () if self.class_labels is None else (self.class_labels,)

    def images(self, z: Tensor) -> Tensor:
        """G(z), (batch, *shape), in [0, 1]."""
        with torch.no_grad():
            output = in_micro_batches(self.generator, self.micro_batch, z, *self.conditions)
            output = output.reshape(len(z), *self.shape)
        return (output + 1) / 2 if self.centered else output


@dataclass
class Decoder(LatentDecoder):
    """A decoder alone, such as a VAE's; the arguments are those of LatentModel."""

    generator: nn.Module
    latent_dim: int
    shape: tuple[int, int, int]
    centered: bool = True
    micro_batch: int | None = None


@dataclass
class LatentModel(LatentDecoder):
    """Generator and discriminator, put into eval mode here: in train mode batch norm would couple the chains.

    generator: latents (batch, latent_dim) to images, which are reshaped to (batch, *shape).
    discriminator: the generator's output to the *logit*, never the probability, of being real, one per
        sample; the critic's value for a Wasserstein GAN.
    shape: (channels, height, width) of one image.
    centered: the generator's images are in [-1, 1] rather than [0, 1].
    micro_batch: samples that pass through the networks together; None: all of them.
    """

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int
    shape: tuple[int, int, int]
    centered: bool = True
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.eval()

    def logit(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """d(G(z)), (batch,), of latents and their part of `conditions`."""
        return self.discriminator(self.generator(z, *conditions), *conditions).reshape(len(z))
