"""SDE families against numbers of the reference code, and against their own definitions."""

import pytest
import torch
from golden_samplers import relative_difference, steps_case
from torch.testing import assert_close

from sdesampling.sde import SDES, VE, VP, SubVP

FAMILIES = {"vesde": VE, "vpsde": VP, "subvpsde": SubVP}


def relative(actual, expected):
    """Agreement to 1e-5 of the largest value: what the golden numbers promise."""
    assert not (actual - expected).any() or relative_difference(actual, expected) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_functions_agree_with_the_reference(name):
    golden = steps_case(f"{name}/functions")
    sde = FAMILIES[name](N=1000)
    x, t = golden["x"], golden["t"]

    def score(x, t):
        return golden["score"]

    actual = {
        "marginal": sde.marginal_prob(x, t),
        "sde": sde.sde(x, t),
        "discretize": sde.discretize(x, t),
        "reverse": sde.reverse(score).sde(x, t),
        "reverse_discretize": sde.reverse(score).discretize(x, t),
    }
    names = {"marginal": ("mean", "std"), "sde": ("drift", "diffusion"), "reverse": ("drift", "diffusion")}
    for what, pair in actual.items():
        for part, tensor in zip(names.get(what, ("f", "G")), pair, strict=True):
            relative(tensor, golden[f"{what}_{part}"])
    relative(sde.reverse(score, probability_flow=True).sde(x, t)[0], golden["pf_drift"])
    relative(sde.prior_logp(x), golden["prior_logp"])


def test_discrete_scales_agree_with_the_reference():
    relative(VE(N=1000).discrete_sigmas, steps_case("vesde/discrete_sigmas")["discrete_sigmas"])
    relative(VE(N=12).discrete_sigmas, steps_case("vesde_disc/functions")["discrete_sigmas"])
    golden = steps_case("vpsde/functions_discrete")
    relative(VP(N=1000).discrete_betas, golden["discrete_betas"])
    relative(VP(N=1000).alphas_cumprod, golden["alphas_cumprod"])


def test_probability_flow_has_no_diffusion_and_half_the_score():
    sde, x, t = VP(N=100), torch.randn(3, 1, 2, 2), torch.tensor([0.2, 0.5, 0.9])
    zero, full = sde.reverse(lambda x, t: 0 * x), sde.reverse(lambda x, t: x)
    flow = sde.reverse(lambda x, t: x, probability_flow=True)
    for kind in ("sde", "discretize"):
        drift, diffusion = getattr(flow, kind)(x, t)
        assert not diffusion.any()
        expected = (getattr(zero, kind)(x, t)[0] + getattr(full, kind)(x, t)[0]) / 2
        assert_close(drift, expected)


@pytest.mark.parametrize("family", SDES)
def test_marginals_solve_the_sde(family):
    """d mean / dt = f and d var / dt = 2 (f / x) var + g^2, by central differences in float64."""
    sde = SDES[family]()
    t, h = torch.linspace(0.1, 0.9, 9, dtype=torch.float64), 1e-5
    one = torch.ones(9, 1, 1, 1, dtype=torch.float64)
    drift, diffusion = sde.sde(one, t)
    rate = drift.flatten()
    mean_slope = (sde.mean_coefficient(t + h) - sde.mean_coefficient(t - h)) / (2 * h)
    assert_close(mean_slope, rate * sde.mean_coefficient(t), rtol=1e-6, atol=1e-9)
    variance_slope = (sde.std(t + h) ** 2 - sde.std(t - h) ** 2) / (2 * h)
    # the reference keeps sqrt of a float32 constant in the VE diffusion, hence 1e-6
    assert_close(variance_slope, 2 * rate * sde.std(t) ** 2 + diffusion**2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", SDES)
def test_other_numbers_of_steps_keep_the_noise_range(family):
    sde, t = SDES[family](N=1000), torch.linspace(0.01, 1, 7)
    more = sde.with_steps(2000)
    assert (more.N, sde.N) == (2000, 1000)
    assert_close(more.std(t), sde.std(t), rtol=0, atol=0)
    if family == "vp":
        assert_close(more.discrete_betas[-1], sde.discrete_betas[-1] / 2)
    if family == "ve":
        assert_close(more.discrete_sigmas[[0, -1]], sde.discrete_sigmas[[0, -1]])


@pytest.mark.parametrize("N", [1, 19, 20])
def test_vp_refuses_steps_where_beta_reaches_one(N):
    x, t = torch.zeros(1, 1, 1, 1), torch.ones(1)
    with pytest.raises(ValueError, match=rf"N = {N} steps with beta_max = 20: .* more than 20 steps"):
        VP(N=N).discretize(x, t)
    VP(N=N).sde(x, t)  # its continuous form has no such limit
    SubVP(N=N).discretize(x, t)  # nor have the Euler-Maruyama steps of the sub-VP SDE
    for family in (VP, SubVP):
        with pytest.raises(ValueError, match="more than 20 steps"):
            family(N=N).corrector_alpha(t)
    assert torch.isfinite(VP(N=21).sqrt_1m_alphas_cumprod).all()


def test_impossible_ranges_are_refused():
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        VE(sigma_min=2, sigma_max=1)
    with pytest.raises(ValueError, match="0 < beta_min <= beta_max"):
        VP(beta_min=-1)
    with pytest.raises(ValueError, match="at least 1 step"):
        VE(N=0)


def test_corrector_alphas():
    t = torch.linspace(1, 1e-3, 50)
    assert (VE(N=50).corrector_alpha(t) == 1).all()
    betas = torch.linspace(0.1 / 50, 20 / 50, 50)
    index = (t * 49).long()
    for family in (VP, SubVP):
        assert_close(family(N=50).corrector_alpha(t), 1 - betas[index])
