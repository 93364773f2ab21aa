"""GAN networks: shapes, ranges, layouts of published state dicts, and golden outputs of the MNIST MLP GAN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sdesampling.networks.dcgan import DCGANDiscriminator, DCGANGenerator, Normalisation
from sdesampling.networks.mnist_mlp import (
    MnistMLPDiscriminator,
    MnistMLPGenerator,
    MnistVAEDecoder,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "gan_mnist_mlp.npz"  # states its provenance
WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"  # third-party, beside the checkout


@pytest.mark.parametrize("image_size", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("refinements", [0, 1])
@pytest.mark.parametrize("normalisation", ["batch", "spectral", "none"])
def test_dcgan_shapes_and_range(
    image_size: int, channels: int, refinements: int, normalisation: Normalisation
) -> None:
    generator = DCGANGenerator(image_size, channels, latent_dim=5, width=4, refinements=refinements)
    discriminator = DCGANDiscriminator(image_size, channels, 4, refinements, normalisation)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, image_size, image_size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3,)


def test_dcgan_at_64_pixels_has_the_layout_of_the_published_example() -> None:
    """Keys and shapes of PyTorch's DCGAN example (nz 100, ngf = ndf = 64, nc 3)."""
    generator = {key: tuple(value.shape) for key, value in DCGANGenerator(64, 3).state_dict().items()}
    weights = {key: shape for key, shape in generator.items() if len(shape) == 4}
    assert weights == {
        "main.0.weight": (100, 512, 4, 4),
        "main.3.weight": (512, 256, 4, 4),
        "main.6.weight": (256, 128, 4, 4),
        "main.9.weight": (128, 64, 4, 4),
        "main.12.weight": (64, 3, 4, 4),
    }
    assert {key.split(".")[1] for key in generator if "running_mean" in key} == {"1", "4", "7", "10"}
    discriminator = {key: tuple(value.shape) for key, value in DCGANDiscriminator(64, 3).state_dict().items()}
    weights = {key: shape for key, shape in discriminator.items() if len(shape) == 4}
    assert weights == {
        "main.0.weight": (64, 3, 4, 4),
        "main.2.weight": (128, 64, 4, 4),
        "main.5.weight": (256, 128, 4, 4),
        "main.8.weight": (512, 256, 4, 4),
        "main.11.weight": (1, 512, 4, 4),
    }
    assert {key.split(".")[1] for key in discriminator if "running_mean" in key} == {"3", "6", "9"}


def test_discriminator_gives_a_logit_and_in_eval_mode_samples_do_not_meet() -> None:
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(8, 1, 8, 1, "none")
    images = torch.randn(64, 1, 8, 8) * 20
    logits = discriminator(images)
    assert logits.min() < 0
    assert logits.max() > 1
    batch_norm = DCGANDiscriminator(16, 1, 8).eval()
    pair = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(batch_norm(pair)[:1], batch_norm(pair[:1]))


@pytest.mark.parametrize("image_size", [4, 12, 28, 48])
def test_other_image_sizes_are_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size = {image_size}"):
        DCGANGenerator(image_size, 1)
    with pytest.raises(ValueError, match=f"image_size = {image_size}"):
        DCGANDiscriminator(image_size, 1)


def test_unknown_normalisation_is_refused() -> None:
    unknown: Any = "layer"
    with pytest.raises(ValueError, match="'layer' is not one of"):
        DCGANDiscriminator(8, 1, normalisation=unknown)


def published(path: str) -> dict[str, Tensor]:
    file = WEIGHTS / path
    if not file.is_file():
        pytest.skip(f"third-party weights {path} are not here")
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def golden_tensors() -> dict[str, Tensor]:
    with np.load(GOLDEN) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive if key != "provenance"}


def test_mnist_gan_reproduces_published_outputs() -> None:
    golden = golden_tensors()
    generator, discriminator = MnistMLPGenerator(), MnistMLPDiscriminator()
    generator.load_state_dict(published("mnist_mlp_gan/G--300.ckpt"))
    discriminator.load_state_dict(published("mnist_mlp_gan/D--300.ckpt"))
    with torch.no_grad():
        images = generator(golden["z"])
        torch.testing.assert_close(
            images.flatten(1), golden["images"], rtol=0, atol=1e-5
        )  # other kernels for other batch sizes
        torch.testing.assert_close(discriminator(images), golden["logits"], rtol=1e-5, atol=2e-5)


def test_mnist_vae_decoder_reproduces_published_outputs() -> None:
    golden = golden_tensors()
    decoder = MnistVAEDecoder()
    decoder.load_state_dict(MnistVAEDecoder.own_part(published("mnist_vae/vae_epoch_25.pth")))
    with torch.no_grad():
        decoded = decoder(golden["vae_z"])
    torch.testing.assert_close(decoded.flatten(1), golden["vae_decoded"], rtol=0, atol=2e-6)


def test_vae_weights_of_another_network_are_refused() -> None:
    with pytest.raises(KeyError, match=r"fc1\.bias"):
        MnistVAEDecoder.own_part(MnistVAEDecoder().state_dict())


def test_mnist_networks_without_published_weights() -> None:
    torch.manual_seed(0)
    images = MnistMLPGenerator()(torch.randn(3, 64))
    assert images.shape == (3, 1, 28, 28)
    assert images.abs().max() <= 1
    assert MnistMLPDiscriminator()(images).shape == (3,)
    decoded = MnistVAEDecoder()(torch.randn(3, 20))
    assert decoded.shape == (3, 1, 28, 28)
    assert 0 <= decoded.min() <= decoded.max() <= 1
