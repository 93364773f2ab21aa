"""Convergence diagnostics on chains whose autocorrelation is known."""

import math

import pytest
import torch

from sdesampling.samplers.chains import effective_sample_size, r_hat


def autoregressive(chains, steps, rho, seed=0):
    """x' = rho x + sqrt(1 - rho^2) z: standard normal, autocorrelation time (1 + rho) / (1 - rho)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(chains, generator=generator)
    trace = []
    for _ in range(steps):
        x = rho * x + (1 - rho**2) ** 0.5 * torch.randn(chains, generator=generator)
        trace.append(x)
    return torch.stack(trace, dim=1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(rho):
    chains, steps = 20, 2000
    expected = chains * steps * (1 - rho) / (1 + rho)
    assert effective_sample_size(autoregressive(chains, steps, rho)) == pytest.approx(expected, rel=0.15)


def test_anticorrelated_chains_are_worth_more_than_independent_ones():
    assert effective_sample_size(autoregressive(20, 2000, -0.4)) > 1.5 * 20 * 2000


def test_effective_sample_size_of_a_single_chain():
    assert effective_sample_size(autoregressive(1, 20_000, 0.5)) == pytest.approx(20_000 / 3, rel=0.15)


def test_chains_that_never_meet_count_as_few():
    apart = autoregressive(4, 1000, 0.0) + 10 * torch.arange(4.0)[:, None]
    assert effective_sample_size(apart) < 20
    assert r_hat(apart) > 3


def test_r_hat_of_mixed_and_drifting_chains():
    mixed = autoregressive(10, 1000, 0.5)
    assert r_hat(mixed) == pytest.approx(1, abs=0.01)
    assert r_hat(mixed + torch.linspace(0, 5, 1000)) > 1.3  # all drift alike: only split chains show it


def test_chains_that_never_move():
    apart, together = torch.arange(3.0)[:, None].expand(3, 10), torch.zeros(3, 10)
    assert r_hat(apart) == float("inf")
    assert effective_sample_size(apart) < 3
    for function in (r_hat, effective_sample_size):
        assert math.isnan(function(together))


def test_short_traces_are_refused():
    for function in (r_hat, effective_sample_size):
        with pytest.raises(ValueError, match="at least 4"):
            function(torch.zeros(5, 3))
