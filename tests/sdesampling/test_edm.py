"""EDM's sampler: its own formulas, the exact flow of Gaussian data, discretely trained networks."""

import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import build_sampler, planned_evaluations, run
from sdesampling.score import ScoreModel
from sdesampling.sde import VE, VP, SubVP

MEAN, STD = torch.tensor([[[0.3, -0.5, 0.1]]]).double(), torch.tensor([[[0.2, 0.6, 1.0]]]).double()
SDES = {"ve": VE(0.01, 50.0), "vp": VP(), "subvp": SubVP()}


def gaussian(family):
    return GaussianNetwork(SDES[family], MEAN, STD).model()


def denoiser(x, sigma):
    """E[data | data + sigma n = x] for the Gaussian data."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def reference(z, draws, levels, churn=0.0, low=0.0, high=math.inf, inflation=1.0):
    """Algorithm 2 of Karras et al. 2022, written out."""
    x, steps = z * levels[0], len(levels) - 1
    for i, (now, then) in enumerate(pairwise(levels)):
        gamma = min(churn / steps, math.sqrt(2) - 1) if low <= now <= high else 0
        hat = now * (1 + gamma)
        x_hat = x + math.sqrt(hat**2 - now**2) * inflation * draws[i]
        d = (x_hat - denoiser(x_hat, hat)) / hat
        x = x_hat + (then - hat) * d
        if then != 0:
            d = (d + (x - denoiser(x, then)) / then) / 2
            x = x_hat + (then - hat) * d
    return x


@pytest.mark.parametrize("family", SDES)
@pytest.mark.parametrize("churn", [{}, {"s_churn": 9.0, "s_tmin": 0.05, "s_tmax": 10.0, "s_noise": 1.007}])
def test_it_is_algorithm_2_whatever_the_sde(family, churn):
    steps, rho = 9, 5.0
    sampler = build_sampler(
        "edm", gaussian(family), steps=steps, rho=rho, sigma_max=30.0, sigma_min=0.02, **churn
    )
    a, b = 30.0 ** (1 / rho), 0.02 ** (1 / rho)
    levels = [(a + i / (steps - 1) * (b - a)) ** rho for i in range(steps)] + [0.0]
    assert sampler.sigmas == pytest.approx(levels)
    draws = torch.randn(steps + 1, 6, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    noise = RecordedNoise(list(draws))
    x = run(sampler, noise).tensors["x"]
    assert noise.remaining == (0 if churn else steps)
    expected = reference(draws[0].double(), draws[1:].double(), levels, *churn.values())
    # VP and sub-VP networks see 1 - exp(..) in double precision, but times rounded to the label's
    assert_close(x, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", SDES)
def test_convergence_order_is_two(family):
    """Against the exact flow, which keeps (x - mean) / sqrt(std^2 + sigma^2), before the last step."""
    errors = []
    for steps in (24, 48):
        sampler = build_sampler("edm", gaussian(family), steps=steps, sigma_max=20.0, sigma_min=0.1)
        noise = NoiseStream(0, 0, range(20))
        start = sampler.init(noise).tensors["x"]
        x = run(sampler, noise, steps - 1).tensors["x"]
        exact = MEAN + torch.sqrt((STD**2 + 0.1**2) / (STD**2 + 400)) * (start - MEAN)
        errors.append(float((x - exact).abs().max()))
    # rho-spaced levels of n and 2 n steps: the step shrinks by (2 n - 2) / (n - 2)
    assert math.log(errors[0] / errors[1]) / math.log(46 / 22) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("family", SDES)
@pytest.mark.parametrize("s_churn", [0.0, 40.0])
def test_samples_of_gaussian_data_have_its_moments(family, s_churn):
    sampler = build_sampler("edm", gaussian(family), steps=40, s_churn=s_churn)
    images = sampler.finish(run(sampler, NoiseStream(0, 0, range(8000)))).double()
    x = images * 2 - 1 if sampler.model.centered else images
    assert_close(x.mean(0), MEAN, rtol=0, atol=5 * 1.0 / 8000**0.5)
    # the start leaves out the data's own mean and variance: 1 / 50^2 of it is missing for VE
    assert_close(x.std(0), STD, rtol=5 / 16000**0.5 + 0.01, atol=0)


def test_churn_at_its_most_is_limited_by_the_models_range():
    sampler = build_sampler("edm", gaussian("ve"), steps=2, s_churn=100.0)
    asked = []
    sampler.denoised = lambda x, sigma: asked.append(sigma) or x
    run(sampler, NoiseStream(0, 0, range(2)))
    assert asked == pytest.approx([50.0, 0.01, 0.01 * math.sqrt(2)], rel=1e-3)


def test_discretely_trained_ve_networks_are_asked_at_their_own_scales():
    asked = []

    class Listening(GaussianNetwork):
        def forward(self, x, labels):
            asked.append(labels)
            return super().forward(x, self.sde.discrete_sigmas.flip(0)[labels].to(x.dtype))

    sde = VE(0.01, 50.0, 200)
    model = ScoreModel(Listening(sde, MEAN, STD), sde, (1, 1, 3), continuous=False)
    sampler = build_sampler("edm", model, steps=12, s_churn=4.0)
    images = sampler.finish(run(sampler, NoiseStream(0, 0, range(500))))
    assert all(not labels.is_floating_point() for labels in asked)
    indices = [
        min(range(200), key=lambda i: abs(math.log(s / sde.discrete_sigmas[i]))) for s in sampler.sigmas[:-1]
    ]
    assert_close(
        sde.discrete_sigmas[indices].double(), torch.tensor(sampler.sigmas[:-1]).double(), rtol=1e-5, atol=0
    )
    assert_close(images.double().mean(0), MEAN, rtol=0, atol=0.2)


def test_stages_show_the_data_predicted_last():
    sampler, noise = build_sampler("edm", gaussian("ve"), steps=10), NoiseStream(0, 0, range(4))
    state = run(sampler, noise, 4)
    before = run(sampler, noise, 3).tensors["x"]
    slope = (before - denoiser(before, sampler.sigmas[3])) / sampler.sigmas[3]
    ahead = before + (sampler.sigmas[4] - sampler.sigmas[3]) * slope
    assert_close(sampler.finish(state).double(), denoiser(ahead, sampler.sigmas[4]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7])
def test_planned_evaluations_are_those_made(steps):
    state = run(build_sampler("edm", gaussian("vp"), steps=steps), NoiseStream(0, 0, range(2)))
    assert state.evaluations == planned_evaluations("edm", steps=steps) == 2 * steps - 1


def test_the_range_is_that_of_the_model_unless_given():
    assert build_sampler("edm", gaussian("ve")).sigmas[0] == pytest.approx(50)
    assert build_sampler("edm", gaussian("vp")).sigmas[0] == pytest.approx(80)
    small = math.sqrt(math.expm1(0.1e-3 + 19.9e-6 / 2))
    assert build_sampler("edm", gaussian("vp")).sigmas[-2] == pytest.approx(small)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"rho": 0.0}, "rho = 0.0: must be positive"),
        ({"s_churn": -1.0}, "s_churn = -1.0"),
        ({"sigma_max": 60.0}, "sigma_max = 60: .* range, 0.01.* to 50"),
        ({"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min = 3, sigma_max = 2: must be ascending"),
    ],
)
def test_what_makes_no_sense_is_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        build_sampler("edm", gaussian("ve"), **hyper)
