"""Samplers on Gaussian data, where every step is affine: x' = a x + b + c z.

Mean and variance of what comes out then follow m' = a m + b and v' = a^2 v + c^2 exactly. The recursions
below are written from the papers' formulas alone, in scalar arithmetic; samples must agree within five
standard errors.
"""

import math
from itertools import product

import pytest
import torch

from sdesampling.analytic import GaussianNetwork
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run
from sdesampling.score import ScoreModel
from sdesampling.sde import VE, VP, SubVP

STEPS = 40
DATA_MEAN, DATA_STD = torch.tensor([0.3, -0.5]), torch.tensor([0.2, 0.6])
SDES = {"ve": VE(0.01, 8.0), "vp": VP(0.1, 20.0), "subvp": SubVP(0.1, 20.0)}
EPS = {"ve": 1e-5, "vp": 1e-3, "subvp": 1e-3}
PREDICTORS = ("ancestral", "reverse_diffusion", "euler_maruyama", "probability_flow")


class Levels:
    """Noise levels of one family at time t, by the formulas of Song et al. 2020, appendices B and C."""

    def __init__(self, family: str, t: float) -> None:
        index = int(torch.tensor(t, dtype=torch.float32) * (STEPS - 1))
        if family == "ve":
            self.mean, self.std = 1.0, 0.01 * 800**t
            self.g2 = self.std**2 * 2 * math.log(800)
            self.sigma2 = (0.01 * 800 ** (index / (STEPS - 1))) ** 2
            self.adjacent2 = (0.01 * 800 ** ((index - 1) / (STEPS - 1))) ** 2 if index > 0 else 0.0
            return
        beta = 0.1 + 19.9 * t
        integral = 0.1 * t + 19.9 * t**2 / 2
        self.beta_t, self.mean = beta, math.exp(-integral / 2)
        self.std = math.sqrt(1 - math.exp(-integral)) if family == "vp" else 1 - math.exp(-integral)
        self.g2 = beta if family == "vp" else beta * (1 - math.exp(-2 * integral))
        self.beta = (0.1 + 19.9 * index / (STEPS - 1)) / STEPS


def affine(slope_x: float, weight: float, level: Levels, mu: float, s0: float) -> tuple[float, float]:
    """a and b of slope_x x + weight score(x)."""
    variance = level.mean**2 * s0**2 + level.std**2
    return slope_x - weight / variance, weight * level.mean * mu / variance


def predictor_step(family: str, predictor: str, level: Levels, mu: float, s0: float):
    """a, b and c^2 of one predictor step."""
    if predictor == "ancestral":
        if family == "ve":
            gained = level.sigma2 - level.adjacent2
            return *affine(1.0, gained, level, mu, s0), level.adjacent2 * gained / level.sigma2
        root = math.sqrt(1 - level.beta)
        return *affine(1 / root, level.beta / root, level, mu, s0), level.beta
    if predictor == "euler_maruyama" or family == "subvp":
        slope = 1.0 if family == "ve" else 1 + level.beta_t / 2 / STEPS
        added = level.g2 / STEPS
    elif family == "ve":
        slope, added = 1.0, level.sigma2 - level.adjacent2
    else:
        slope, added = 2 - math.sqrt(1 - level.beta), level.beta
    if predictor == "probability_flow":
        return *affine(slope, added / 2, level, mu, s0), 0.0
    return *affine(slope, added, level, mu, s0), added


def corrector_step(family: str, snr: float, level: Levels, mu: float, s0: float):
    """a, b and c^2 of one step of annealed Langevin dynamics."""
    alpha = 1.0 if family == "ve" else 1 - level.beta
    step = 2 * alpha * (snr * level.std) ** 2
    return *affine(1.0, step, level, mu, s0), 2 * step


def exact(family, predictor, corrector_steps, snr, mu, s0, denoise):
    """Mean and variance of a run's samples."""
    mean, variance = 0.0, 64.0 if family == "ve" else 1.0
    for i in range(STEPS):
        t = 1 + (EPS[family] - 1) * i / (STEPS - 1)
        level = Levels(family, t)
        updates = [corrector_step(family, snr, level, mu, s0)] * corrector_steps
        if predictor != "none":
            updates.append(predictor_step(family, predictor, level, mu, s0))
        for j, (a, b, c2) in enumerate(updates):
            last = denoise and predictor != "none" and i == STEPS - 1 and j == len(updates) - 1
            mean, variance = a * mean + b, a * a * variance + (0 if last else c2)
    if denoise and predictor == "none":
        a, b = affine(1.0, level.std**2, level, mu, s0)
        mean, variance = (a * mean + b) / level.mean, (a / level.mean) ** 2 * variance
    return mean, variance


def drawn(sampler, samples=20_000):
    """Samples before and after denoising, (samples, values), in the range of the network."""
    state = run(sampler, NoiseStream(0, 0, range(samples)))
    images = sampler.finish(state)
    denoised = images * 2 - 1 if sampler.model.centered else images
    return state.tensors["x"].double().flatten(1), denoised.double().flatten(1)


def gaussian_model(family):
    return GaussianNetwork(SDES[family], DATA_MEAN.view(1, 1, 2), DATA_STD.view(1, 1, 2)).model()


def check_moments(x, expected):
    """x: (samples, 2); expected: [(mean, variance)] of both."""
    for column, (mean, variance) in zip(x.T, expected, strict=True):
        n = len(column)
        assert abs(float(column.mean()) - mean) < 5 * math.sqrt(variance / n)
        assert abs(float(column.var()) / variance - 1) < 5 * math.sqrt(2 / n)


def expected(family, predictor, corrector_steps, snr, denoise):
    pairs = zip(DATA_MEAN.tolist(), DATA_STD.tolist(), strict=True)
    return [exact(family, predictor, corrector_steps, snr, mu, s0, denoise) for mu, s0 in pairs]


@pytest.mark.parametrize(
    ("family", "predictor"), [pair for pair in product(SDES, PREDICTORS) if pair != ("subvp", "ancestral")]
)
def test_predictors_follow_their_recursion(family, predictor):
    sampler = build_sampler(
        "predictor_corrector", gaussian_model(family), predictor=predictor, corrector="none", steps=STEPS
    )
    noisy, denoised = drawn(sampler)
    check_moments(noisy, expected(family, predictor, 0, 0, denoise=False))
    check_moments(denoised, expected(family, predictor, 0, 0, denoise=True))


@pytest.mark.parametrize("family", SDES)
@pytest.mark.parametrize(("predictor", "corrector_steps"), [("none", 2), ("reverse_diffusion", 1)])
def test_correctors_of_fixed_step_follow_their_recursion(family, predictor, corrector_steps):
    sampler = build_sampler(
        "predictor_corrector",
        gaussian_model(family),
        predictor=predictor,
        corrector="annealed_langevin",
        corrector_steps=corrector_steps,
        snr=0.3,
        steps=STEPS,
    )
    noisy, denoised = drawn(sampler)
    check_moments(noisy, expected(family, predictor, corrector_steps, 0.3, denoise=False))
    check_moments(denoised, expected(family, predictor, corrector_steps, 0.3, denoise=True))


@pytest.mark.parametrize("norm", ["batch", "sample"])
@pytest.mark.parametrize("family", SDES)
def test_langevin_step_in_many_dimensions(family, norm):
    """For d values the norms tend to sqrt(d) and sqrt(d E score^2), so the step size is exact."""
    side, samples, mu, s0, snr = 48, 48, 0.3, 0.4, 0.2
    flat = torch.ones(1, side, side)
    sampler = build_sampler(
        "predictor_corrector",
        GaussianNetwork(SDES[family], mu * flat, s0 * flat).model(),
        predictor="none",
        corrector="langevin",
        corrector_norm=norm,
        snr=snr,
        steps=STEPS,
    )
    mean, variance = 0.0, 64.0 if family == "ve" else 1.0
    for i in range(STEPS):
        level = Levels(family, 1 + (EPS[family] - 1) * i / (STEPS - 1))
        target = level.mean**2 * s0**2 + level.std**2
        score2 = (variance + (mean - level.mean * mu) ** 2) / target**2
        alpha = 1.0 if family == "ve" else 1 - level.beta
        step = 2 * alpha * snr**2 / score2
        a, b = affine(1.0, step, level, mu, s0)
        mean, variance = a * mean + b, a * a * variance + 2 * step
    x = drawn(sampler, samples)[0].flatten()
    # beside the sampling error, norms of 2304 values fluctuate by 1.5 %, which moves step sizes by 3 %
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / len(x)) + 0.003 * math.sqrt(variance)
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / len(x)) + 0.005


@pytest.mark.parametrize("family", SDES)
def test_many_steps_give_the_data_back(family):
    sampler = build_sampler("predictor_corrector", gaussian_model(family), corrector="none", steps=300)
    _, denoised = drawn(sampler, samples=4000)
    for column, mean, std in zip(denoised.T, DATA_MEAN.tolist(), DATA_STD.tolist(), strict=True):
        assert abs(float(column.mean()) - mean) < 0.05
        assert abs(float(column.std()) / std - 1) < 0.07


class TrainedScales(GaussianNetwork):
    """The network of VE data as one trained on half the steps' scales knows it: by their labels."""

    def forward(self, x, labels):
        index = (STEPS // 2 - 1) - labels.to(x.dtype)  # labels count from the largest scale
        return super().forward(x, 0.01 * 800 ** (index / (STEPS // 2 - 1)))


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_twice_the_trained_scales_follow_the_recursion_of_all_steps(predictor):
    """P2000 in small: interpolated labels name the noise levels between the trained ones exactly."""
    sde = VE(0.01, 8.0, STEPS // 2)
    network = TrainedScales(sde, DATA_MEAN.view(1, 1, 2), DATA_STD.view(1, 1, 2))
    model = ScoreModel(network, sde, (1, 1, 2), continuous=False)
    sampler = build_sampler("predictor_corrector", model, predictor=predictor, corrector="none", steps=STEPS)
    noisy, denoised = drawn(sampler)
    check_moments(noisy, expected("ve", predictor, 0, 0, denoise=False))
    check_moments(denoised, expected("ve", predictor, 0, 0, denoise=True))
