"""Whole predictor-corrector runs on recorded noise beside the published equations, written out in NumPy.

Song et al. 2020, algorithms 1, 4 and 5, in float64 and without a line of the library, for numbers of steps,
ratios r, shapes and families (a corrector with sub-VP among them) of which the reference code gave none.
"""

import numpy as np
import pytest
import torch

from sdesampling.analytic import GaussianNetwork
from sdesampling.noise import RecordedNoise
from sdesampling.samplers import build_sampler, run
from sdesampling.sde import VE, VP, SubVP

SHAPE, BATCH = (2, 5, 3), 3
MEAN, STD = 0.3, 0.4  # of every value of the data
SIGMA_MIN, SIGMA_MAX, BETA_MIN, BETA_MAX = 0.02, 11.0, 0.2, 15.0


class Equations:
    """One family in N steps, for data that are normal with MEAN and STD."""

    def __init__(self, family, N):
        self.family, self.N = family, N
        self.sigmas = np.exp(np.linspace(np.log(SIGMA_MIN), np.log(SIGMA_MAX), N))
        self.betas = np.linspace(BETA_MIN / N, BETA_MAX / N, N)

    def marginal(self, t):
        if self.family == "ve":
            return 1.0, SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** t
        m = np.exp(-(t**2) * (BETA_MAX - BETA_MIN) / 4 - t * BETA_MIN / 2)
        return m, np.sqrt(1 - m**2) if self.family == "vp" else 1 - m**2

    def score(self, x, t):
        m, std = self.marginal(t)
        return (m * MEAN - x) / (m**2 * STD**2 + std**2)

    def sde(self, x, t):
        beta = BETA_MIN + t * (BETA_MAX - BETA_MIN)
        if self.family == "ve":
            return 0 * x, self.marginal(t)[1] * np.sqrt(2 * np.log(SIGMA_MAX / SIGMA_MIN))
        discount = 1 if self.family == "vp" else 1 - np.exp(-2 * BETA_MIN * t - (BETA_MAX - BETA_MIN) * t**2)
        return -beta * x / 2, np.sqrt(beta * discount)

    def step(self, x, t):
        i = int(t * (self.N - 1))
        if self.family == "ve":
            below = self.sigmas[i - 1] if i else 0.0
            return 0 * x, np.sqrt(self.sigmas[i] ** 2 - below**2)
        if self.family == "vp":
            return (np.sqrt(1 - self.betas[i]) - 1) * x, np.sqrt(self.betas[i])
        drift, diffusion = self.sde(x, t)
        return drift / self.N, diffusion / np.sqrt(self.N)

    def predict(self, name, x, t, z):
        i, s = int(t * (self.N - 1)), self.score(x, t)
        if name == "euler_maruyama":
            drift, g = self.sde(x, t)
            mean = x - (drift - g**2 * s) / self.N
            return mean + g * z / np.sqrt(self.N), mean
        if name == "ancestral" and self.family == "vp":
            mean = (x + self.betas[i] * s) / np.sqrt(1 - self.betas[i])
            return mean + np.sqrt(self.betas[i]) * z, mean
        if name == "ancestral":
            high, low = self.sigmas[i], self.sigmas[i - 1] if i else 0.0
            mean = x + (high**2 - low**2) * s
            return mean + np.sqrt(low**2 * (high**2 - low**2) / high**2) * z, mean
        f, g = self.step(x, t)
        flow = name == "probability_flow"
        mean = x - f + g**2 * s * (0.5 if flow else 1)
        return mean + (0 if flow else g) * z, mean

    def correct(self, name, r, norm, x, t, z):
        s = self.score(x, t)
        alpha = 1 if self.family == "ve" else 1 - self.betas[int(t * (self.N - 1))]
        lengths = [np.sqrt((each**2).sum((1, 2, 3), keepdims=True)) for each in (z, s)]
        if norm == "batch":
            lengths = [length.mean() for length in lengths]
        ratio = r * lengths[0] / lengths[1] if name == "langevin" else r * self.marginal(t)[1]
        e = 2 * alpha * ratio**2
        return x + e * s + np.sqrt(2 * e) * z

    def run(self, draws, eps, predictor, corrector, corrector_steps, snr, corrector_norm):
        z = iter(draws)
        x = next(z) * (SIGMA_MAX if self.family == "ve" else 1)
        for t in np.linspace(1, eps, self.N):
            for _ in range(corrector_steps if corrector != "none" else 0):
                x = self.correct(corrector, snr, corrector_norm, x, t, next(z))
            if predictor != "none":
                x, mean = self.predict(predictor, x, t, next(z))
        if predictor == "none":
            m, std = self.marginal(eps)
            mean = (x + std**2 * self.score(x, eps)) / m
        return mean


@pytest.mark.parametrize(
    ("family", "N", "eps", "predictor", "corrector", "corrector_steps", "snr", "corrector_norm"),
    [
        ("ve", 37, 1e-5, "reverse_diffusion", "langevin", 1, 0.21, "batch"),
        ("ve", 23, 1e-3, "ancestral", "langevin", 3, 0.07, "sample"),
        ("ve", 41, 1e-5, "probability_flow", "annealed_langevin", 2, 0.11, "batch"),
        ("ve", 29, 1e-4, "euler_maruyama", "none", 1, 0.16, "batch"),
        ("vp", 53, 1e-3, "ancestral", "annealed_langevin", 1, 0.05, "batch"),
        ("vp", 31, 2e-3, "reverse_diffusion", "langevin", 2, 0.01, "batch"),
        ("vp", 47, 1e-3, "none", "langevin", 2, 0.13, "sample"),
        ("vp", 19, 1e-3, "probability_flow", "langevin", 1, 0.04, "batch"),
        ("subvp", 43, 1e-3, "euler_maruyama", "langevin", 1, 0.09, "batch"),
        ("subvp", 33, 1e-3, "reverse_diffusion", "langevin", 2, 0.03, "sample"),
        ("subvp", 27, 1e-2, "none", "annealed_langevin", 1, 0.1, "batch"),
        ("subvp", 61, 1e-3, "probability_flow", "none", 1, 0.16, "batch"),
    ],
)
def test_runs_are_those_of_the_published_equations(
    family, N, eps, predictor, corrector, corrector_steps, snr, corrector_norm
):
    choices = {"predictor": predictor, "corrector": corrector, "corrector_steps": corrector_steps}
    choices |= {"snr": snr, "corrector_norm": corrector_norm, "eps": eps}
    generator = np.random.default_rng(N)
    draws = generator.standard_normal((1 + N * (corrector_steps + 1), BATCH, *SHAPE)).astype(np.float32)
    expected = Equations(family, N).run(draws.astype(np.float64), **choices)
    sde = (
        VE(SIGMA_MIN, SIGMA_MAX) if family == "ve" else {"vp": VP, "subvp": SubVP}[family](BETA_MIN, BETA_MAX)
    )
    model = GaussianNetwork(sde, torch.full(SHAPE, MEAN), torch.full(SHAPE, STD)).model()
    sampler = build_sampler("predictor_corrector", model, steps=N, **choices)
    images = sampler.finish(run(sampler, RecordedNoise(list(torch.from_numpy(draws))))).numpy()
    expected = (expected + 1) / 2 if model.centered else expected
    assert np.abs(images - expected).max() < 1e-4 * np.abs(expected).max()
