"""Annealed Langevin dynamics: NCSN's own numbers, both conventions, the toy mixture of its replication."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_networks import GOLDEN, golden_config, relative_error
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, MixtureNetwork
from sdesampling.checkpoints import read_checkpoint
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import NonFiniteStateError, build_sampler, planned_evaluations
from sdesampling.sde import VE, VP

PAGE = Path(__file__).parents[2] / "docs" / "samplers.md"


def run(sampler, noise, steps=None):
    state = sampler.init(noise)
    for _ in range(sampler.steps if steps is None else steps):
        state = sampler.step(state, noise)
        sampler.check_finite(state)
    return state


def toy(sigma_max, sigma_min):
    """0.2 N((-5, -5), I) + 0.8 N((5, 5), I)."""
    means = torch.tensor([-5.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    network = MixtureNetwork(VE(sigma_min, sigma_max), torch.tensor([0.2, 0.8]), means, torch.ones(2))
    return network.model()


def gaussian(sde):
    return GaussianNetwork(sde, torch.full((1, 1, 2), 0.5), torch.tensor([[[0.2, 0.3]]])).model()


def test_run_of_the_released_code():
    config = golden_config("ncsn_refinenet_28")
    checkpoint = read_checkpoint(GOLDEN / "networks_ncsn_refinenet_28.pth")
    model = config.model({"network": checkpoint.network(config, "raw")})
    with np.load(GOLDEN / "samplers_annealed_langevin.npz") as arrays:
        golden = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "provenance"}
    each = int(golden["n_steps_each"])
    sampler = build_sampler(
        "annealed_langevin", model, steps_per_level=each, step_size=float(golden["step_lr"])
    )
    assert_close(torch.tensor(sampler.sigmas, dtype=torch.float64), golden["sigmas"], rtol=1e-12, atol=0)
    noise = RecordedNoise([golden["x0"], *golden["noise"]])
    state = sampler.init(noise)
    for level in range(10):
        for _ in range(each):
            state = sampler.step(state, noise)
        if f"x_after_level{level}" in golden:
            assert relative_error(state.tensors["x"], golden[f"x_after_level{level}"]) < 1e-5
    assert noise.remaining == 0
    assert torch.equal(sampler.finish(state), state.tensors["x"])  # no final denoising


def test_the_code_takes_steps_twice_as_long_as_the_paper():
    model, noise = gaussian(VE(0.01, 1.0)), NoiseStream(0, 0, range(4))
    hyper = {"steps_per_level": 3, "levels": 4}
    paper = build_sampler("annealed_langevin", model, convention="paper", step_size=4e-5, **hyper)
    code = build_sampler("annealed_langevin", model, convention="code", step_size=2e-5, **hyper)
    assert_close(run(paper, noise).tensors["x"], run(code, noise).tensors["x"])
    x = code.init(noise).tensors["x"]
    z = noise.normal(3, 0, model.shape)
    a = 2e-5 * (1.0 / 0.01) ** 2
    expected = x + a * model.score(x, torch.ones(4)) + math.sqrt(2 * a) * z
    assert_close(run(code, noise, steps=1).tensors["x"], expected)


def test_schedules():
    model = gaussian(VE(0.1, 0.9))
    sigmas = build_sampler("annealed_langevin", model, levels=5, schedule="linear").sigmas
    assert sigmas == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])
    sigmas = build_sampler("annealed_langevin", model, levels=3, sigma_max=4.0, sigma_min=0.25).sigmas
    assert sigmas == pytest.approx([4.0, 1.0, 0.25])


@pytest.mark.parametrize("schedule", ["geometric", "linear"])
def test_levels_ask_the_network_for_their_own_sigma(schedule):
    asked = []

    class Listening(GaussianNetwork):
        def forward(self, x, labels):
            asked.append(float(labels[0]))
            return super().forward(x, labels)

    model = Listening(VE(0.01, 50.0), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).model()
    sampler = build_sampler(
        "annealed_langevin",
        model,
        levels=6,
        steps_per_level=1,
        schedule=schedule,
        sigma_max=3.0,
        sigma_min=0.5,
    )
    run(sampler, NoiseStream(0, 0, range(2)))
    assert asked == pytest.approx(sampler.sigmas, rel=1e-5)


def test_the_toy_mixture_gets_its_weights_by_the_program_of_the_documentation(capsys):
    """With sigmas 20 to e^0.1; with 10 to 0.1 it ends in the error that the page shows."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    given = {}
    with pytest.raises(NonFiniteStateError) as error:
        exec(compile(code, PAGE.name, "exec"), given)
    told = " ".join(line.removeprefix("# ") for line in code.splitlines() if line.startswith("# "))
    assert told == f"NonFiniteStateError: {error.value}"
    x = given["x"].flatten(1)
    upper = x.sum(dim=1) > 0
    assert upper.double().mean() == pytest.approx(0.8, abs=4 * (0.16 / len(x)) ** 0.5)
    assert capsys.readouterr().out == f"{upper.float().mean()!r}\n"
    spread = math.sqrt(1 + math.exp(0.2))  # the data's and that of the last level, which stays
    for half, centre in ((x[upper], 5.0), (x[~upper], -5.0)):
        assert_close(half.mean(0), torch.full((2,), centre), rtol=0, atol=4 * spread / len(half) ** 0.5)
        assert_close(half.std(0), torch.full((2,), spread), rtol=0.1, atol=0)


@pytest.mark.parametrize("convention", ["paper", "code"])
def test_overflow_names_level_and_step_size(convention):
    sampler = build_sampler("annealed_langevin", toy(10.0, 0.1), step_size=0.1, convention=convention)
    with pytest.raises(NonFiniteStateError) as error:
        run(sampler, NoiseStream(0, 0, range(10)))
    assert "at level 1 of 10, sigma = 10, with steps a = 1000; step_size = 0.1 is too large" in str(
        error.value
    )
    limit = {"paper": 0.04, "code": 0.02}[convention]
    assert f"take less than {limit:g}" in str(error.value)
    stable = build_sampler(
        "annealed_langevin",
        toy(10.0, 0.1),
        steps_per_level=20,
        step_size=0.9 * limit,
        convention=convention,
    )
    assert run(stable, NoiseStream(0, 0, range(10))).tensors["x"].abs().max() < 1000


def test_gaussian_data_are_met_up_to_the_last_noise_level():
    model = gaussian(VE(0.05, 1.0))
    hyper = {"levels": 8, "steps_per_level": 40, "step_size": 5e-4}
    plain = build_sampler("annealed_langevin", model, **hyper)
    images = plain.finish(run(plain, NoiseStream(0, 0, range(4000))))
    assert_close(images.mean(0), torch.full((1, 1, 2), 0.5), rtol=0, atol=0.03)
    assert_close(images.var(0), torch.tensor([[[0.2, 0.3]]]) ** 2 + 0.05**2, rtol=0.12, atol=0)


def test_denoising_ends_with_the_data_expected_at_the_last_level():
    model = gaussian(VE(0.05, 1.0))
    hyper = {"levels": 4, "steps_per_level": 5, "step_size": 1e-4, "denoise": True}
    sampler = build_sampler("annealed_langevin", model, **hyper)
    state = run(sampler, NoiseStream(0, 0, range(5)))
    variance = torch.tensor([[[0.2, 0.3]]]) ** 2
    x = state.tensors["x"]
    assert_close(sampler.finish(state), 0.5 + variance / (variance + 0.05**2) * (x - 0.5))
    assert state.evaluations == planned_evaluations("annealed_langevin", **hyper) == 21


def test_what_makes_no_sense_is_refused():
    discrete = gaussian(VE(0.01, 1.0))
    discrete.continuous = False
    for hyper in ({"sigma_max": 2.0}, {"schedule": "linear"}):
        with pytest.raises(ValueError, match="knows its own noise levels"):
            build_sampler("annealed_langevin", discrete, **hyper)
    model = gaussian(VE(0.01, 1.0))
    for hyper, message in (
        ({"levels": 1}, "levels = 1"),
        ({"steps_per_level": 0}, "steps_per_level = 0"),
        ({"step_size": 0.0}, "step_size = 0"),
        ({"convention": "papers"}, "did you mean 'paper'"),
        ({"schedule": "cosine"}, "not one of geometric, linear"),
        ({"sigma_min": 3.0}, "sigma_min = 3.0, sigma_max = 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            build_sampler("annealed_langevin", model, **hyper)
    with pytest.raises(ValueError, match="noise levels of VE, not of vp"):
        build_sampler("annealed_langevin", gaussian(VP()))
