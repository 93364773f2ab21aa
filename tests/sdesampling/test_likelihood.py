"""Likelihoods: the closed form on Gaussian data, the numbers of the reference code, what bits count."""

import math

import pytest
import torch
from golden_samplers import golden_model, manifest, relative_difference, runs_case
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, MixtureNetwork
from sdesampling.dormand_prince import DormandPrince
from sdesampling.likelihood import dequantise, likelihood
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.sde import VE, VP, SubVP

SDES = {"ve": VE(0.01, 8.0), "vp": VP(), "subvp": SubVP()}
MEAN = torch.tensor([[[0.3, 0.5, 0.6]]], dtype=torch.float64)
STD = torch.tensor([[[0.2, 0.3, 0.1]]], dtype=torch.float64)
EPS = 1e-3


def gaussian(family):
    return GaussianNetwork(SDES[family], MEAN, STD).model()


def images_in(model, x):
    return (x + 1) / 2 if model.centered else x


def exact(model, x):
    """The flow moves quantiles to quantiles: a linear map of known slopes, and the prior beyond it."""
    m, std = model.marginal(torch.tensor([EPS, 1.0], dtype=torch.float64))
    total = [torch.sqrt(m[i] ** 2 * STD**2 + std[i] ** 2) for i in (0, 1)]
    slopes = total[1] / total[0]
    latents = m[1] * MEAN + slopes * (x - m[0] * MEAN)
    nats = -(model.sde.prior_logp(latents) + slopes.log().sum()) / 3
    return nats / math.log(2) + (7 if model.centered else 8), latents


@pytest.mark.parametrize("trace", ["exact", "rademacher"])  # signs are exact where the Jacobian is diagonal
@pytest.mark.parametrize("family", SDES)
def test_closed_form_on_gaussian_data(family, trace):
    model, noise = gaussian(family), NoiseStream(0, 0, range(6))
    x = MEAN + STD * noise.normal(0, 0, (1, 1, 3), torch.float64)
    found = likelihood(model, images_in(model, x), noise, trace=trace, eps=EPS)
    bits, latents = exact(model, x)
    assert_close(found.bits_per_dimension, bits, rtol=0, atol=1e-4)
    assert_close(found.latents, latents, rtol=1e-3, atol=1e-3)


def test_images_of_another_precision_than_the_networks():
    """Probes and images take the network's."""
    model, noise = gaussian("ve"), NoiseStream(0, 0, range(2))
    images = MEAN.expand(2, 1, 1, 3)
    found = likelihood(model, images.float(), noise, trace="gaussian", eps=EPS).bits_per_dimension
    assert_close(found, likelihood(model, images, noise, trace="gaussian", eps=EPS).bits_per_dimension)


def test_gaussian_probes_are_right_on_average():
    model, noise = gaussian("vp"), NoiseStream(0, 0, range(400))
    x = MEAN.expand(400, 1, 1, 3)
    found = likelihood(model, images_in(model, x), noise, trace="gaussian", eps=EPS)
    bits, _ = exact(model, x)
    error = found.bits_per_dimension.std() / 400**0.5
    assert float(found.bits_per_dimension.mean() - bits[0]) == pytest.approx(0, abs=float(4 * error))
    assert error < 0.2


def test_estimates_agree_with_the_exact_trace_where_values_depend_on_each_other():
    means = torch.tensor([[0.2, 0.8], [0.7, 0.1]]).double().view(2, 1, 1, 2)
    weights, stds = torch.tensor([0.3, 0.7]).double(), torch.tensor([0.1, 0.2]).double()
    model = MixtureNetwork(VE(0.01, 8.0), weights, means, stds).model()
    noise, images = NoiseStream(0, 0, range(300)), torch.tensor([[[0.5, 0.5]]]).expand(300, 1, 1, 2)
    exactly = likelihood(model, images[:1], noise, trace="exact", eps=EPS).bits_per_dimension
    found = likelihood(model, images, noise, trace="rademacher", eps=EPS).bits_per_dimension
    assert found.std() > 0.01
    assert float(found.mean()) == pytest.approx(float(exactly), abs=4 * float(found.std()) / 300**0.5)


def test_the_data_range_of_a_network_changes_no_bits():
    sde, shift = VE(0.01, 8.0), VE(0.02, 16.0)
    plain = GaussianNetwork(sde, MEAN, STD).model()
    centred = GaussianNetwork(shift, 2 * MEAN - 1, 2 * STD).model()
    centred.centered = True
    images, noise = MEAN.expand(2, 1, 1, 3), NoiseStream(0, 0, range(2))
    found = [likelihood(model, images, noise, eps=EPS).bits_per_dimension for model in (plain, centred)]
    assert_close(
        found[0], found[1], rtol=0, atol=1e-2
    )  # latents differ by the mean, which is not scaled alone


@pytest.mark.parametrize("name", [name for name in manifest()["runs"] if name.startswith("likelihood/")])
def test_runs_of_the_reference(name):
    golden, case = runs_case(name), manifest()["runs"][name]
    model = golden_model({**case, "continuous": True})
    found = likelihood(
        model,
        images_in(model, golden["data"]),
        RecordedNoise([golden["draw"]]),
        trace=case["hutchinson"].lower(),
        solver=DormandPrince(case["rtol"], case["atol"]),
        eps=case["eps"],
    )
    assert_close(found.bits_per_dimension.float(), golden["bpd"], rtol=0, atol=5e-3)
    assert relative_difference(found.latents, golden["z"].double()) < 5e-3
    assert found.evaluations == pytest.approx(case["nfe"], rel=0.1)


def test_dequantised_bytes_stay_inside_their_level():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    found = dequantise(images, NoiseStream(0, 0, range(1)))
    assert torch.equal((found * 256).ceil().long() - 1, images.long())
    assert 0.4 < float((found * 256 - images).mean()) < 0.6


def test_what_makes_no_sense_is_refused():
    model, noise = gaussian("vp"), NoiseStream(0, 0, range(1))
    with pytest.raises(ValueError, match=r"images are \(1, 1, 3, 1\): the model's"):
        likelihood(model, torch.zeros(1, 1, 3, 1), noise)
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        likelihood(model, torch.zeros(1, 1, 1, 3), noise, trace="gausian")
    with pytest.raises(ValueError, match="eps = 0"):
        likelihood(model, torch.zeros(1, 1, 1, 3), noise, eps=0)
    with pytest.raises(ValueError, match="wants uint8"):
        dequantise(torch.zeros(1, 1, 1, 3), noise)
    large = GaussianNetwork(VP(), torch.zeros(1, 1, 1025), torch.ones(1, 1, 1025)).model()
    with pytest.raises(ValueError, match="each of 1025 values"):
        likelihood(large, torch.zeros(1, 1, 1, 1025), noise, trace="exact")
