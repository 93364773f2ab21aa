"""Latent Langevin dynamics: exact answers, golden trajectories, and the field's known bugs excluded."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdesampling.latent import LatentModel
from sdesampling.networks import MnistMLPDiscriminator, MnistMLPGenerator
from sdesampling.noise import NoiseStream, Purpose, RecordedNoise
from sdesampling.samplers import State, build_sampler, planned_evaluations, run


class Identity(nn.Module):
    """A generator whose images are its latents."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, z):
        return self.weight * z


class Quadratic(nn.Module):
    """Logit sum(b x - c x^2 / 2): under the prior the target is N(b / (1 + c), 1 / (1 + c))."""

    def __init__(self, b, c):
        super().__init__()
        self.b, self.c = nn.Parameter(torch.tensor(b)), nn.Parameter(torch.tensor(c))

    def forward(self, x):
        return (self.b * x - self.c * x**2 / 2).flatten(1).sum(dim=1, keepdim=True)


def quadratic(b=1.0, c=3.0, dimension=2):
    return LatentModel(Identity(), Quadratic(b, c), dimension, (1, 1, dimension), centered=False)


def nonlinear(dimension=4, seed=0):
    torch.manual_seed(seed)
    generator = nn.Sequential(
        nn.Linear(dimension, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh()
    )
    discriminator = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(8, 1))
    return LatentModel(generator, discriminator, dimension, (1, 2, 3))


def check_moments(z, mean, variance, relative=0.0):
    z = z.double().flatten()
    n = len(z)
    assert abs(float(z.mean()) - mean) < 5 * math.sqrt(variance / n) + relative * math.sqrt(variance)
    assert abs(float(z.var()) / variance - 1) < 5 * math.sqrt(2 / n) + relative


@pytest.mark.parametrize("decay", [None, {"factor": 0.5, "every": 10}])
@pytest.mark.parametrize("noise_scale", [1.0, 0.6])
def test_unadjusted_chains_follow_their_recursion(noise_scale, decay):
    """E' = (1 + c) z - b, so each step is affine: mean and variance are exact. Excludes a missing prior term,
    a missing half in the step, and variance taken for standard deviation."""
    b, c, steps, step_size = 1.0, 3.0, 30, 0.05
    sampler = build_sampler(
        "ddls", quadratic(b, c), steps=steps, step_size=step_size, noise_scale=noise_scale, decay=decay
    )
    state = run(sampler, NoiseStream(0, 0, range(10_000)))
    mean, variance = 0.0, 1.0
    for i in range(steps):
        eps = step_size * (0.5 ** (i // 10) if decay else 1)
        slope = 1 - eps / 2 * (1 + c)
        mean, variance = slope * mean + eps / 2 * b, slope**2 * variance + eps * noise_scale**2
    check_moments(state.tensors["z"], mean, variance)
    assert_close(sampler.finish(state), state.tensors["z"].view(-1, 1, 1, 2))


@pytest.mark.parametrize("noise_scale", [1.0, 0.5])
def test_metropolis_makes_the_stationary_density_exact(noise_scale):
    """Where the unadjusted chain's variance is far off, 1 / (1 - eps (1 + c) / 4) times the target's."""
    b, c, step_size = 1.0, 3.0, 0.5
    sampler = build_sampler(
        "ddls", quadratic(b, c), steps=25, step_size=step_size, noise_scale=noise_scale, metropolis=True
    )
    state = run(sampler, NoiseStream(1, 0, range(10_000)))
    check_moments(state.tensors["z"], b / (1 + c), noise_scale**2 / (1 + c))
    assert 0.3 < sampler.diagnostics(state)["acceptance_rate"] < 0.99
    unadjusted = build_sampler(
        "ddls", quadratic(b, c), steps=25, step_size=step_size, noise_scale=noise_scale
    )
    wrong = run(unadjusted, NoiseStream(1, 0, range(10_000))).tensors["z"].var()
    assert float(wrong) == pytest.approx(noise_scale**2 / (1 + c) / (1 - step_size * (1 + c) / 4), rel=0.1)


def test_metropolis_on_a_density_that_is_not_gaussian():
    """E = z^2 / 2 + |z|^2 cut: moments by numerical integration."""

    class Kink(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return -(self.weight * x.flatten(1)).abs().sum(dim=1)

    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    density = torch.exp(-(grid**2) / 2 - 2 * grid.abs())
    variance = float((density * grid**2).sum() / density.sum())
    model = LatentModel(Identity(), Kink(), 1, (1, 1, 1), centered=False)
    sampler = build_sampler("ddls", model, steps=40, step_size=0.4, metropolis=True)
    z = run(sampler, NoiseStream(2, 0, range(10_000))).tensors["z"].double()
    assert float(z.var()) == pytest.approx(variance, rel=0.06)


def test_rejected_states_stay_and_count():
    sampler = build_sampler("ddls", quadratic(c=50.0), steps=8, step_size=0.3, metropolis=True, kept=9)
    assert (sampler.burn_in, sampler.thin) == (0, 1)
    noise = NoiseStream(0, 0, range(900))
    state = sampler.init(noise)
    rejected = 0
    for _ in range(8):
        following = sampler.step(state, noise)
        stayed = (following.tensors["z"] == state.tensors["z"]).all(dim=1)
        accepted = following.tensors["accepted"] - state.tensors["accepted"]
        assert torch.equal(stayed, accepted == 0)
        if state.step > 0:  # the first step finds the energy out
            assert torch.equal(following.tensors["energy"][stayed], state.tensors["energy"][stayed])
        rejected += int(stayed.sum())
        state = following
    assert rejected > 50
    assert sampler.diagnostics(state)["acceptance_rate"] == pytest.approx(1 - rejected / 800)
    kept = sampler.finish(state).view(100, 9, 2)
    assert int((kept.diff(dim=1) == 0).all(dim=2).sum()) == rejected  # a rejection gives the same image again


def test_energy_is_minus_log_prior_minus_logit_with_its_own_gradient_per_chain():
    model = nonlinear()
    sampler = build_sampler("ddls", model, steps=1)
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    energy, gradient = sampler.energy_and_gradient(z)
    with torch.no_grad():
        logit = model.discriminator(model.generator(z)).squeeze(1)
    prior = torch.distributions.Normal(0, 1).log_prob(z).sum(dim=1)
    assert_close(energy, -prior - logit)
    for i in range(6):  # summed over the batch, never averaged
        assert_close(sampler.energy_and_gradient(z[i : i + 1])[1][0], gradient[i])
    numerical = torch.zeros_like(z, dtype=torch.float64)
    doubled = nonlinear()
    doubled.generator.double()
    doubled.discriminator.double()
    exact = build_sampler("ddls", doubled, steps=1)
    for j in range(4):
        h = torch.zeros(4, dtype=torch.float64)
        h[j] = 1e-5
        up, down = exact.energy_and_gradient(z.double() + h)[0], exact.energy_and_gradient(z.double() - h)[0]
        numerical[:, j] = (up - down) / 2e-5
    assert_close(exact.energy_and_gradient(z.double())[1], numerical, rtol=1e-6, atol=1e-7)


def test_networks_are_in_eval_mode_and_chains_independent():
    model = nonlinear()
    assert not any(
        module.training for net in (model.generator, model.discriminator) for module in net.modules()
    )
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    sampler = build_sampler("ddls", model, steps=5, step_size=0.05)
    whole = run(sampler, NoiseStream(0, 0, range(10))).tensors["z"]
    alone = run(sampler, NoiseStream(0, 0, range(4, 6))).tensors["z"]
    assert_close(whole[4:6], alone)
    for key, value in model.generator.state_dict().items():  # no running statistics moved
        assert torch.equal(before[key], value)


def test_gradients_of_parameters_are_never_accumulated():
    model = nonlinear()
    run(build_sampler("ddls", model, steps=3, metropolis=True), NoiseStream(0, 0, range(5)))
    for network in (model.generator, model.discriminator):
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_states_carry_no_autograd_graph():
    state = run(build_sampler("ddls", nonlinear(), steps=2, metropolis=True), NoiseStream(0, 0, range(5)))
    assert not any(tensor.requires_grad for tensor in state.tensors.values())


def test_micro_batches_change_nothing_but_rounding():
    def final(micro_batch):
        model = nonlinear()
        model.micro_batch = micro_batch
        return run(build_sampler("ddls", model, steps=4), NoiseStream(0, 0, range(7))).tensors["z"]

    assert_close(final(3), final(None))


@pytest.mark.parametrize("metropolis", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 9])
def test_planned_evaluations_are_those_made(steps, metropolis):
    model = nonlinear()
    calls = []
    model.discriminator.register_forward_hook(lambda *_: calls.append(1))
    sampler = build_sampler("ddls", model, steps=steps, metropolis=metropolis)
    state = run(sampler, NoiseStream(0, 0, range(3)))
    assert state.evaluations == len(calls) == planned_evaluations("ddls", steps=steps, metropolis=metropolis)


def test_no_steps_give_the_gan_itself():
    model = nonlinear()
    sampler, noise = build_sampler("ddls", model, steps=0), NoiseStream(0, 0, range(3))
    z = noise.normal(Purpose.PRIOR, 0, (4,))
    images = sampler.finish(sampler.init(noise))
    with torch.no_grad():
        assert_close(images, (model.generator(z).view(3, 1, 2, 3) + 1) / 2)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1


def test_long_chains_keep_their_states_in_order():
    sampler = build_sampler("ddls", quadratic(), steps=10, step_size=0.1, kept=3, thin=3)
    assert sampler.burn_in == 4
    noise = NoiseStream(0, 0, range(6))
    state = sampler.init(noise)
    assert state.tensors["z"].shape == (2, 2)  # two chains of three images
    states = [state.tensors["z"]]
    for step in range(10):
        state = sampler.step(state, noise)
        states.append(state.tensors["z"])
        images = sampler.finish(state).view(2, 3, 2)
        for j, at in enumerate((4, 7, 10)):
            assert torch.equal(images[:, j], states[min(at, step + 1)])
    assert sampler.chains(6).tolist() == [0, 0, 0, 1, 1, 1]
    assert build_sampler("ddls", quadratic(), steps=10).chains(3).tolist() == [0, 1, 2]


def test_a_ragged_group_of_long_chains_ends_in_a_short_one():
    sampler = build_sampler("ddls", quadratic(), steps=6, kept=4)
    state = run(sampler, NoiseStream(0, 0, range(8, 14)))
    assert state.tensors["z"].shape == (2, 2)
    assert sampler.finish(state).shape == (6, 1, 1, 2)
    assert sampler.diagnostics(state)["chains"] == 2


def test_long_chains_are_not_counted_as_independent_images():
    """Steps of 0.02 move a chain of unit relaxation rate by about 1 %: 200 kept states are worth a few."""
    sampler = build_sampler("ddls", quadratic(0.0, 0.0), steps=499, step_size=0.02, kept=200)
    report = sampler.diagnostics(run(sampler, NoiseStream(0, 0, range(800))))
    assert report["chains"] == 4
    assert report["effective_sample_size"] < 60
    assert report["r_hat"] > 1.01
    mixed = build_sampler("ddls", quadratic(0.0, 0.0), steps=1194, step_size=1.0, kept=200, thin=6)
    report = mixed.diagnostics(run(mixed, NoiseStream(0, 0, range(800))))
    assert report["effective_sample_size"] == 800
    assert report["r_hat"] == pytest.approx(1, abs=0.01)


def test_diagnostics_of_independent_chains():
    sampler = build_sampler(
        "ddls",
        quadratic(),
        steps=20,
        step_size=0.02,
        noise_scale=math.sqrt(0.5),
        decay={"factor": 0.1, "every": 10},
    )
    noise = NoiseStream(0, 0, range(50))
    state = sampler.init(noise)
    start = sampler.diagnostics(state)
    assert start == {
        "chains": 50.0,
        "effective_temperature": pytest.approx(0.5),
        "effective_sample_size": 50.0,
    }
    report = sampler.diagnostics(run(sampler, noise))
    assert report["step_size"] == pytest.approx(0.002)
    assert report["r_hat"] > 1
    assert "acceptance_rate" not in report
    assert all(math.isfinite(value) for value in report.values())


def test_step_point_01_with_noise_point_1_has_temperature_one_half():
    """z - 0.01 grad + 0.1 n in this project's terms: eps = 0.02 and s = 0.1 / sqrt(0.02)."""
    sampler = build_sampler("ddls", quadratic(), steps=1, step_size=0.02, noise_scale=0.1 / math.sqrt(0.02))
    z, n = torch.randn(3, 2), torch.randn(3, 2)
    noise = RecordedNoise([z, n])
    state = sampler.step(sampler.init(noise), noise)
    assert_close(state.tensors["z"], z - 0.01 * (4 * z - 1) + 0.1 * n)
    assert sampler.diagnostics(state)["effective_temperature"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"steps": -1}, "steps = -1"),
        ({"step_size": 0.0}, "step_size = 0.0: must be positive"),
        ({"noise_scale": -1.0}, "noise_scale = -1.0: must be positive"),
        ({"decay": {"factor": 1.5, "every": 10}}, "factor = 1.5"),
        ({"decay": {"factor": 0.5, "every": 0}}, "every = 0"),
        ({"kept": 0}, "kept = 0"),
        ({"thin": 2}, "thin = 2 needs kept > 1"),
        ({"steps": 10, "kept": 12}, "steps = 10: .* need 11 or more"),
        ({"steps": 10, "kept": 3, "thin": 2, "burn_in": 5}, "take burn_in 6, or steps 9"),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        build_sampler("ddls", quadratic(), **hyper)


def test_a_burn_in_that_fits_is_taken():
    sampler = build_sampler("ddls", quadratic(), steps=10, kept=3, thin=2, burn_in=6)
    assert sampler.burn_in == 6


def test_latent_models_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="latent_dim = 0"):
        LatentModel(Identity(), Quadratic(1.0, 1.0), 0, (1, 1, 1))
    with pytest.raises(ValueError, match="micro_batch = 0"):
        LatentModel(Identity(), Quadratic(1.0, 1.0), 1, (1, 1, 1), micro_batch=0)


SHARED = Path(__file__).parents[3] / "shared"  # third-party weights, beside the checkout
WEIGHTS = SHARED / "data" / "weights" / "mnist_mlp_gan"
TRAJECTORIES = SHARED / "golden" / "gan" / "mnist_mlp_gan.npz"


def published_gan(dtype):
    generator, discriminator = MnistMLPGenerator(), MnistMLPDiscriminator()
    for network, file in ((generator, "G--300.ckpt"), (discriminator, "D--300.ckpt")):
        network.load_state_dict(torch.load(WEIGHTS / file, map_location="cpu", weights_only=True))
    return LatentModel(generator.to(dtype), discriminator.to(dtype), 64, (1, 28, 28))


needs_weights = pytest.mark.skipif(
    not (WEIGHTS.exists() and TRAJECTORIES.exists()), reason="needs the weights of the published MNIST GAN"
)


@needs_weights
@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_every_step_of_the_published_mnist_gan(eps):
    """In float64, each step from the golden state before it: ReLU kinks make whole trajectories chaotic."""
    prefix = f"ddls_eps{eps:g}"
    with np.load(TRAJECTORIES) as arrays:
        states = torch.from_numpy(arrays[f"{prefix}/f64/z_all"])
        draws = torch.from_numpy(arrays[f"{prefix}/noise"])
        energies = torch.from_numpy(arrays[f"{prefix}/f64/energy"])
    sampler = build_sampler("ddls", published_gan(torch.float64), steps=len(draws), step_size=eps)
    for step, draw in enumerate(draws):
        before = sampler.init(RecordedNoise([states[step]]))
        after = sampler.step(State(step, before.tensors), RecordedNoise([draw]))
        assert_close(after.tensors["z"], states[step + 1], rtol=1e-12, atol=1e-12)
        assert_close(after.tensors["energy_trace"][:, step], energies[step], rtol=1e-9, atol=1e-9)


@needs_weights
def test_ten_steps_of_the_published_mnist_gan_in_float32():
    with np.load(TRAJECTORIES) as arrays:
        start, draws = (torch.from_numpy(arrays[f"ddls_eps0.01/{name}"]) for name in ("z0", "noise"))
        expected = torch.from_numpy(arrays["ddls_eps0.01/f32/z_every10"])[1]
    sampler = build_sampler("ddls", published_gan(torch.float32), steps=10, step_size=0.01)
    state = run(sampler, RecordedNoise([start, *draws[:10]]))
    assert float((state.tensors["z"] - expected).abs().max() / expected.abs().max()) < 1e-4
