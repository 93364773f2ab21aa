"""One pass through a decoder: published outputs, the GAN's own samples, what it starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_samplers import GOLDEN
from torch import nn
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork
from sdesampling.latent import Decoder, LatentModel
from sdesampling.networks.mnist_mlp import MnistVAEDecoder
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import build_sampler, planned_evaluations
from sdesampling.sde import VE

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"  # third-party, beside the checkout


def decoded(model, noise):
    sampler = build_sampler("prior", model)
    return sampler.finish(sampler.step(sampler.init(noise), noise))


def gan():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
    return LatentModel(generator, nn.Linear(6, 1), latent_dim=5, shape=(1, 2, 3))


def test_images_of_a_published_vae():
    path = WEIGHTS / "mnist_vae" / "vae_epoch_25.pth"
    if not path.exists():
        pytest.skip(f"needs the VAE's weights, {path}")
    network = MnistVAEDecoder()
    network.load_state_dict(MnistVAEDecoder.own_part(torch.load(path, weights_only=True)))
    with np.load(GOLDEN / "gan_mnist_mlp.npz") as arrays:
        z, expected = torch.from_numpy(arrays["vae_z"]), torch.from_numpy(arrays["vae_decoded"])
    images = decoded(Decoder(network, 20, (1, 28, 28), centered=False), RecordedNoise([z]))
    assert_close(images.flatten(1), expected, rtol=0, atol=2e-6)


def test_linear_decoders_give_their_gaussian():
    network = nn.Linear(3, 2)
    images = decoded(Decoder(network, 3, (1, 1, 2)), NoiseStream(0, 0, range(20_000))) * 2 - 1
    weight, bias = network.weight.detach(), network.bias.detach()
    x = images.flatten(1)
    assert_close(x.mean(0), bias, rtol=0, atol=0.03)
    assert_close(torch.cov(x.T), weight @ weight.T, rtol=0, atol=0.05)


def test_the_images_are_those_of_ddls_before_its_first_step():
    model, noise = gan(), NoiseStream(3, 1, range(7, 12))
    chains = build_sampler("ddls", model, steps=0, step_size=0.01)
    assert torch.equal(decoded(model, noise), chains.finish(chains.init(noise)))


def test_one_pass_is_one_evaluation_and_micro_batches_change_nothing():
    model, noise = gan(), NoiseStream(3, 1, range(5))
    sampler = build_sampler("prior", model)
    state = sampler.step(sampler.init(noise), noise)
    assert state.evaluations == planned_evaluations("prior") == sampler.steps == 1
    assert torch.equal(sampler.finish(sampler.init(noise)), sampler.finish(state))
    whole = sampler.finish(state)
    model.micro_batch = 2
    assert_close(decoded(model, noise), whole)


def test_models_without_a_decoder_and_decoders_without_discriminator_are_refused():
    score = GaussianNetwork(VE(), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).model()
    with pytest.raises(ValueError, match="works on a LatentDecoder, not on a ScoreModel"):
        build_sampler("prior", score)
    decoder = Decoder(nn.Linear(3, 2), 3, (1, 1, 2))
    with pytest.raises(ValueError, match="works on a LatentModel, not on a Decoder"):
        build_sampler("ddls", decoder, steps=1, step_size=0.1)
    with pytest.raises(ValueError, match="latent_dim = 0"):
        Decoder(nn.Linear(3, 2), 0, (1, 1, 2))
