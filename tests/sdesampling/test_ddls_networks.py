"""Latent Langevin dynamics with every GAN that is there: what their discriminators must be for it."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdesampling.latent import LatentModel
from sdesampling.networks import build_network
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler

SQUARE = {"image_size": 8, "channels": 1}
GANS = {
    "csinva_dcgan, CIFAR-10": ("csinva_dcgan", {"latent_dim": 5, "width": 4}, {"width": 4}, (3, 32, 32)),
    "csinva_dcgan, MNIST": (
        "csinva_dcgan",
        {"data": "mnist", "latent_dim": 5, "width": 4},
        {"data": "mnist", "width": 4},
        (1, 28, 28),
    ),
    "mnist_mlp": ("mnist_mlp", {}, {}, (1, 28, 28)),
    "sngan": ("sngan", {"latent_dim": 5, "width": 8}, {"width": 8}, (3, 32, 32)),
    "dcgan": (
        "dcgan",
        {"latent_dim": 5, "width": 4, **SQUARE},
        {"width": 4, "normalisation": "spectral", **SQUARE},
        (1, 8, 8),
    ),
}


def gan(name: str) -> LatentModel:
    prefix, generator, discriminator, shape = GANS[name]
    torch.manual_seed(0)
    return LatentModel(
        build_network(f"{prefix}_generator", **generator),
        build_network(f"{prefix}_discriminator", **discriminator),
        generator.get("latent_dim", 64),
        shape,
    )


def buffers(model):
    networks = (model.generator, model.discriminator)
    return [buffer.clone() for network in networks for buffer in network.buffers()]


@pytest.mark.parametrize("name", GANS)
def test_chains_move_by_a_logit_that_stays_the_same(name):
    """No sigmoid at the end, and no statistics, dropout or power iteration that moves while chains run."""
    model = gan(name)
    modules = list(model.discriminator.modules())
    assert not any(isinstance(module, nn.Sigmoid) for module in modules)
    assert not any(module.training for module in modules)
    before, z = buffers(model), torch.randn(4, model.latent_dim, generator=torch.Generator().manual_seed(1))
    sampler = build_sampler("ddls", model, steps=2, step_size=0.05, metropolis=True)
    first = sampler.energy_and_gradient(z)
    noise = NoiseStream(0, 0, range(4))
    state = sampler.init(noise)
    for _ in range(2):
        state = sampler.step(state, noise)
    for old, new in zip(before, buffers(model), strict=True):
        assert torch.equal(old, new)
    for old, new in zip(first, sampler.energy_and_gradient(z), strict=True):
        assert torch.equal(old, new)
    images = sampler.finish(state)
    assert images.shape == (4, *model.shape)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


@pytest.mark.parametrize("name", GANS)
def test_every_chain_has_the_gradient_it_has_alone(name):
    model = gan(name)
    z = torch.randn(3, model.latent_dim, generator=torch.Generator().manual_seed(2))
    sampler = build_sampler("ddls", model, steps=1)
    energy, gradient = sampler.energy_and_gradient(z)
    for k in range(3):
        alone = sampler.energy_and_gradient(z[k : k + 1])
        assert_close(alone[0][0], energy[k], rtol=1e-4, atol=1e-4)
        assert_close(alone[1][0], gradient[k], rtol=1e-3, atol=1e-4)
    assert float((gradient - z).abs().max()) > 0  # the discriminator has its say beside the prior
