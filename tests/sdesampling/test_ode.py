"""The probability flow: exact on Gaussian data, like scipy's RK45, like the reference code."""

import math

import numpy as np
import pytest
import torch
from golden_samplers import golden_model, manifest, relative_difference, runs_case
from scipy.integrate import solve_ivp
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork
from sdesampling.dormand_prince import DormandPrince
from sdesampling.noise import NoiseStream, Purpose, RecordedNoise
from sdesampling.samplers import build_sampler, planned_evaluations, run
from sdesampling.samplers.ode import decode, encode, spherical
from sdesampling.sde import VE, VP, SubVP

MEAN, STD = torch.tensor([[[0.3, -0.5, 0.1]]]), torch.tensor([[[0.2, 0.6, 1.0]]])
SDES = {"ve": VE(0.01, 8.0), "vp": VP(), "subvp": SubVP()}


def gaussian(family):
    return GaussianNetwork(SDES[family], MEAN, STD).model()


def exact(family, x, start, end):
    """The flow of Gaussian data keeps (x - m mean) / total std: it moves quantiles to quantiles."""
    model = gaussian(family)
    times = torch.tensor([start, end], dtype=torch.float64)
    m, std = model.marginal(times)
    total = [torch.sqrt(m[i] ** 2 * STD**2 + std[i] ** 2) for i in (0, 1)]
    return m[1] * MEAN + total[1] * (x - m[0] * MEAN) / total[0]


@pytest.mark.parametrize("error_norm", ["group", "sample"])
@pytest.mark.parametrize("family", SDES)
def test_adaptive_flow_is_exact_on_gaussian_data(family, error_norm):
    sampler = build_sampler("ode", gaussian(family), error_norm=error_norm, denoise=False)
    noise = NoiseStream(0, 0, range(20))
    start = sampler.init(noise).tensors["y"]
    y = run(sampler, noise).tensors["y"]
    # the network sees float32, whose rounding of 1 - exp(..) near eps is about 5e-4 of the variance there
    assert_close(y, exact(family, start, 1.0, sampler.eps), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_convergence_order_of_fixed_steps(method, order):
    errors = []
    for steps in (40, 80):
        sampler = build_sampler("ode", gaussian("vp"), method=method, steps=steps, eps=0.1, denoise=False)
        noise = NoiseStream(0, 0, range(20))
        start = sampler.init(noise).tensors["y"]
        y = run(sampler, noise).tensors["y"]
        errors.append(float((y - exact("vp", start, 1.0, 0.1)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def pendulum(t, y):
    return np.stack([y[1], -np.sin(y[0]) * (1 + t)])


@pytest.mark.parametrize(("start", "end"), [(0.0, 6.0), (6.0, 0.0)])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_steps_are_those_of_scipy(start, end, tolerance):
    begin, calls = np.array([1.0, 0.3]), []

    def f(t, y):
        calls.append(1)
        return torch.from_numpy(pendulum(float(t), y[0].numpy()))[None]

    y = DormandPrince(tolerance, tolerance).integrate(f, start, end, torch.from_numpy(begin)[None])
    reference = solve_ivp(pendulum, (start, end), begin, rtol=tolerance, atol=tolerance)
    assert_close(y[0], torch.from_numpy(reference.y[:, -1]), rtol=1e-12, atol=1e-12)
    assert len(calls) == reference.nfev


def test_samples_with_steps_of_their_own_do_not_feel_each_other():
    def f(t, y):
        return -y * torch.tensor([[1.0], [50.0]], dtype=torch.float64)[: len(y)]

    y = torch.ones(2, 1, dtype=torch.float64)
    solver = DormandPrince(1e-6, 1e-9, "sample")
    both = solver.integrate(f, 0.0, 1.0, y)
    assert_close(both[:1], solver.integrate(f, 0.0, 1.0, y[:1]), rtol=0, atol=0)
    assert_close(
        both.flatten(), torch.exp(torch.tensor([-1.0, -50.0], dtype=torch.float64)), rtol=1e-4, atol=1e-7
    )


def test_the_host_asks_every_few_steps_and_hardly_any_step_is_wasted():
    asked, steps = [], []

    class Asking(DormandPrince):
        def _steps_ahead(self, *arguments):
            asked.append(1)
            return super()._steps_ahead(*arguments)

        def attempt(self, f, now, end):
            steps.append(bool((now.t == end).all()))
            return super().attempt(f, now, end)

    solver = Asking(1e-8, 1e-8)
    y = solver.integrate(lambda t, y: -y * (1 + t[:, None]), 0.0, 30.0, torch.ones(3, 2).double())
    assert_close(y, torch.full((3, 2), math.exp(-480.0)).double(), rtol=0, atol=1e-7)
    assert len(asked) < 0.5 * len(steps)
    assert sum(steps) <= 1  # made after the end was reached


def test_right_hand_sides_that_are_not_finite_are_reported():
    with pytest.raises(FloatingPointError, match=r"step size fell to .* at t = "):
        DormandPrince().integrate(lambda t, y: y / (0.5 - t)[:, None] ** 2, 0.0, 1.0, torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"rtol = 0"):
        DormandPrince(rtol=0)


@pytest.mark.parametrize("family", SDES)
def test_latents_of_images_and_back(family):
    model, solver = gaussian(family), DormandPrince(1e-6, 1e-6)
    images = torch.rand(5, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    latents = encode(model, images, solver, eps=0.01)
    x = (images * 2 - 1 if model.centered else images).double()
    assert_close(latents, exact(family, x, 0.01, 1.0), rtol=2e-3, atol=2e-3)
    assert_close(decode(model, latents, solver, eps=0.01), images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in manifest()["runs"] if name.startswith("ode/")])
def test_runs_of_the_reference(name):
    golden, case = runs_case(name), manifest()["runs"][name]
    hyper = {key: case[key] for key in ("rtol", "atol", "eps", "denoise")}
    sampler = build_sampler("ode", golden_model({**case, "continuous": True}), **hyper)
    state = run(sampler, RecordedNoise(golden["noise"][:1]))
    assert relative_difference(sampler.finish(state), golden["out"]) < 5e-3  # adaptive steps amplify rounding
    assert state.evaluations - case["denoise"] == pytest.approx(case["nfe"], rel=0.1)
    sampler.check_finite(state)


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_planned_evaluations_of_fixed_steps_are_those_made(method, denoise):
    hyper = {"method": method, "steps": 7, "denoise": denoise}
    state = run(build_sampler("ode", gaussian("ve"), **hyper), NoiseStream(0, 0, range(2)))
    assert state.evaluations == planned_evaluations("ode", **hyper)


def test_stages_do_not_change_the_steps():
    finals = [
        run(build_sampler("ode", gaussian("vp"), steps=steps), NoiseStream(0, 0, range(4)))
        for steps in (1, 7, 100)
    ]
    assert len({state.evaluations for state in finals}) == 1
    for state in finals[1:]:
        assert torch.equal(state.tensors["denoised"], finals[0].tensors["denoised"])


def test_paths_between_latents():
    hyper = {"method": "euler", "steps": 5, "interpolate": 4, "denoise": False}
    sampler, noise = build_sampler("ode", gaussian("ve"), **hyper), NoiseStream(0, 0, range(8, 18))
    latents = sampler.init(noise).tensors["y"] / 8.0
    starts, ends = (noise.normal(Purpose.PRIOR, step, (1, 1, 3)).double() for step in (0, 1))
    assert sampler.chains(10).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    for first in (0, 4):
        assert_close(latents[first], starts[first])
        assert_close(latents[first + 3], ends[first])
        cosine = torch.cosine_similarity(starts[first].flatten(), ends[first].flatten(), dim=0)
        angles = [
            torch.arccos(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))
            for a, b in zip(latents[first : first + 3], latents[first + 1 : first + 4], strict=True)
        ]
        assert float(sum(angles)) == pytest.approx(float(torch.arccos(cosine)), abs=1e-4)
    assert_close(latents[8], starts[8])  # the beginning of a path that a ragged group cuts off
    alone = build_sampler("ode", gaussian("ve"), **hyper).init(NoiseStream(0, 0, range(12, 16)))
    assert torch.equal(alone.tensors["y"] / 8.0, latents[4:8])
    with pytest.raises(ValueError, match="samples from 9: a group starts at a multiple of interpolate = 4"):
        sampler.init(NoiseStream(0, 0, range(9, 12)))


def test_points_of_a_path_are_normal_like_its_ends():
    ends = torch.randn(2, 4000, 32, generator=torch.Generator().manual_seed(0))
    middle = spherical(ends[0], ends[1], torch.full((4000,), 0.5))
    assert float(middle.std()) == pytest.approx(1, abs=0.01)
    assert_close(spherical(ends[0], ends[0], torch.full((4000,), 0.3)), ends[0])


@pytest.mark.parametrize("family", SDES)
def test_temperature_scales_the_latents(family):
    """Quantiles move to quantiles: the spread at the end is the temperature's, the mean shifts where the
    prior leaves out what is left of the data."""
    noise = NoiseStream(0, 0, range(6))
    cold, warm = (
        build_sampler("ode", gaussian(family), temperature=each, eps=0.01, denoise=False)
        for each in (0.5, 1.0)
    )
    start = warm.init(noise).tensors["y"]
    assert_close(cold.init(noise).tensors["y"], start / 2)
    y = run(cold, noise).tensors["y"]
    assert_close(y, exact(family, start / 2, 1.0, 0.01), rtol=2e-3, atol=2e-3)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="interpolate = 1: a path has at least 2"):
        build_sampler("ode", gaussian("ve"), interpolate=1)
    with pytest.raises(ValueError, match=r"temperature = 0: must be positive"):
        build_sampler("ode", gaussian("ve"), temperature=0)
    discrete = gaussian("ve")
    discrete.continuous = False
    with pytest.raises(ValueError, match="discretely trained VE"):
        build_sampler("ode", discrete)
    with pytest.raises(ValueError, match="did you mean 'heun'"):
        build_sampler("ode", gaussian("ve"), method="huen")
    with pytest.raises(ValueError, match=r"eps = 0: .* \(0, 1\)"):
        build_sampler("ode", gaussian("ve"), eps=0)
    few = GaussianNetwork(VP(N=10), MEAN, STD).model()
    with pytest.raises(ValueError, match=r"N = 10 steps with beta_max = 20"):
        build_sampler("ode", few)  # the denoising step at the end would not exist
    assert build_sampler("ode", few, denoise=False).steps == 20
