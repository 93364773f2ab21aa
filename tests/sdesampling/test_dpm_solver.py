"""DPM-Solver: the numbers of the reference code, orders of convergence, adaptive steps."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from golden_samplers import GOLDEN, relative_difference
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import build_sampler, planned_evaluations, run
from sdesampling.sde import VE, VP, SubVP


@cache
def golden():
    with np.load(GOLDEN / "samplers_dpm_solver.npz") as arrays:
        return {
            name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind == "f"
        }


def model(dtype=torch.float64):
    return GaussianNetwork(VP(), golden()["mu"][0].to(dtype), golden()["s0"][0].to(dtype)).model()


def recorded():
    return RecordedNoise([golden()["x_T"]])


def solve(**hyper):
    return run(build_sampler("dpm_solver", model(), **hyper), recorded()).tensors["x"]


def distance(**hyper):
    return float((solve(**hyper) - golden()["exact_t0.001"]).abs().max())


@pytest.mark.parametrize("name", [name for name in golden() if name.startswith("dpmsolver")])
def test_runs_of_the_reference(name):
    algorithm, method, order, grid, steps, end, solver_type = name.split("/")
    order, steps = int(order.removeprefix("order")), int(steps.removeprefix("steps"))
    if method == "singlestep_fixed":
        steps -= steps % order  # the reference leaves out what does not fill a step
    x = solve(
        algorithm=algorithm,
        method=method,
        order=order,
        grid=grid,
        steps=steps,
        eps=float(end.removeprefix("t")),
        solver_type=solver_type,
    )
    assert relative_difference(x, golden()[name]) < 1e-10


@pytest.mark.parametrize(
    ("steps", "order", "orders"),
    [(10, 3, [3, 3, 3, 1]), (11, 3, [3, 3, 3, 2]), (12, 3, [3, 3, 3, 2, 1]), (9, 2, [2, 2, 2, 2, 1])],
)
def test_plan_of_dpm_solver_fast(steps, order, orders):
    leaps = build_sampler("dpm_solver", model(), steps=steps, order=order).leaps
    assert [len(leap.nodes) for leap in leaps] == orders
    times = [leap.nodes[0].t for leap in leaps] + [leaps[-1].end.t]
    expected = golden()[f"fast_{steps}_{order}_timesteps"]
    assert_close(torch.tensor(times, dtype=torch.float64), expected, rtol=1e-12, atol=0)


def test_singlestep_plans_on_other_grids_keep_the_times_of_all_evaluations():
    sampler = build_sampler("dpm_solver", model(), steps=9, grid="time_uniform", eps=0.1)
    assert [leap.end.t for leap in sampler.leaps] == pytest.approx([0.7, 0.4, 0.2, 0.1])


@pytest.mark.parametrize("algorithm", ["dpmsolver", "dpmsolver++"])
@pytest.mark.parametrize("solver_type", ["dpmsolver", "taylor"])
@pytest.mark.parametrize(
    ("method", "order", "converges_with"),
    [
        ("singlestep_fixed", 1, 1),
        ("singlestep_fixed", 2, 2),
        ("singlestep_fixed", 3, 3),
        ("multistep", 1, 1),
        ("multistep", 2, 2),
        ("multistep", 3, 2),  # half the second difference, as in the reference
    ],
)
def test_convergence_orders(algorithm, solver_type, method, order, converges_with):
    hyper = {"algorithm": algorithm, "solver_type": solver_type, "method": method, "order": order}
    coarse, fine = (distance(steps=steps, **hyper) for steps in (120, 240))
    assert math.log2(coarse / fine) == pytest.approx(converges_with, abs=0.25)


@pytest.mark.parametrize("algorithm", ["dpmsolver", "dpmsolver++"])
@pytest.mark.parametrize("order", [2, 3])
def test_adaptive_errors_follow_the_tolerances(algorithm, order):
    hyper = {"algorithm": algorithm, "order": order, "method": "adaptive", "steps": 1}
    loose, tight = (distance(rtol=tol, atol=tol, **hyper) for tol in (1e-2, 1e-4))
    assert loose < 3e-2
    assert tight < loose / 10


def test_stages_of_the_adaptive_method_do_not_change_its_steps():
    finals = [
        run(build_sampler("dpm_solver", model(), method="adaptive", steps=n), recorded()) for n in (1, 4, 50)
    ]
    for state in finals[1:]:
        assert state.evaluations == finals[0].evaluations
        assert torch.equal(state.tensors["x"], finals[0].tensors["x"])


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize(
    "hyper",
    [
        {"method": "singlestep", "steps": 7},
        {"method": "singlestep", "steps": 9, "grid": "time_quadratic"},
        {"method": "multistep", "steps": 6, "algorithm": "dpmsolver++"},
        {"method": "singlestep_fixed", "steps": 6, "order": 2},
    ],
)
def test_every_step_is_one_evaluation(hyper, denoise):
    sampler = build_sampler("dpm_solver", model(), denoise=denoise, **hyper)
    noise = recorded()
    state = sampler.init(noise)
    for step in range(sampler.steps):
        assert state.evaluations == step
        assert sampler.finish(state).isfinite().all()
        state = sampler.step(state, noise)
    assert state.evaluations == planned_evaluations("dpm_solver", denoise=denoise, **hyper)


def test_few_multistep_steps_end_with_lower_orders():
    hyper = {"method": "multistep", "grid": "time_uniform"}
    assert not torch.equal(solve(steps=9, **hyper), solve(steps=9, lower_order_final=False, **hyper))
    assert torch.equal(solve(steps=10, **hyper), solve(steps=10, lower_order_final=False, **hyper))


def test_samples_of_gaussian_data_have_its_moments():
    mean, std = torch.tensor([[[0.3, -0.5]]]), torch.tensor([[[0.2, 0.6]]])
    sampler = build_sampler("dpm_solver", GaussianNetwork(VP(), mean, std).model(), steps=20)
    x = sampler.finish(run(sampler, NoiseStream(0, 0, range(4000)))) * 2 - 1
    assert_close(x.mean(0), mean, rtol=0, atol=4 * 0.6 / 4000**0.5)
    assert_close(x.std(0), std, rtol=4 / 8000**0.5, atol=0)


def test_denoised_images_are_what_the_network_takes_for_data():
    sampler = build_sampler("dpm_solver", model(), denoise=True, eps=0.01)
    state = run(sampler, recorded())
    last = sampler.leaps[-1].end
    x, mean, variance = state.tensors["x"], golden()["mu"], golden()["s0"] ** 2
    share = last.alpha * variance / (last.alpha**2 * variance + last.sigma**2)
    assert_close(sampler.finish(state) * 2 - 1, mean + share * (x - last.alpha * mean), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"order": 4}, r"order = 4: must be 1, 2 or 3"),
        ({"method": "adaptive", "order": 1}, r"take 2 or 3"),
        ({"method": "multistep", "steps": 2}, r"needs at least 3"),
        ({"method": "singlestep_fixed", "steps": 8}, r"takes 3 evaluations"),
        ({"grid": "logsnr"}, r"is not one of logSNR, time_uniform"),
        ({"solver_type": "tailor"}, r"did you mean 'taylor'"),
        ({"algorithm": "dpmsolver+"}, r"is not one of dpmsolver, dpmsolver\+\+"),
        ({"eps": 0.0}, r"eps = 0.0: .* \(0, 1\)"),
        ({"rtol": 0.0}, r"rtol = 0.0: must be positive"),
        ({"steps": 0}, r"steps = 0"),
    ],
)
def test_what_makes_no_sense_is_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        build_sampler("dpm_solver", model(), **hyper)


@pytest.mark.parametrize("sde", [VE(), SubVP()])
def test_other_sdes_are_refused(sde):
    with pytest.raises(ValueError, match=rf"VP SDE, not for {sde.family}; try ode"):
        build_sampler("dpm_solver", GaussianNetwork(sde, torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).model())


def test_adaptive_steps_that_vanish_are_reported():
    class Broken(GaussianNetwork):
        def forward(self, x, labels):
            return super().forward(x, labels) / (labels[:, None, None, None] > 300)

    broken = Broken(VP(), golden()["mu"][0], golden()["s0"][0]).model()
    with pytest.raises(FloatingPointError, match=r"adaptive step fell to 0 at t = 0\.9"):
        run(build_sampler("dpm_solver", broken, method="adaptive"), recorded())
