"""Analytic networks: their scores are gradients of the densities that they say they have."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, KernelDensityNetwork, MixtureNetwork
from sdesampling.sde import VE, VP, SubVP

SHAPE = (2, 2, 3)
T = torch.tensor([1.0, 0.7, 0.3, 1e-2], dtype=torch.float64)


def generator():
    return torch.Generator().manual_seed(0)


def check(model, density):
    """density(m, std) gives the distribution of m data + std noise over flattened images."""
    x = torch.randn(4, *SHAPE, generator=generator(), dtype=torch.float64)
    score = model.score(x, T)
    for i in range(4):
        point = x[i].flatten().requires_grad_()
        m, std = (float(value[i]) for value in model.marginal(T))
        (expected,) = torch.autograd.grad(density(m, std).log_prob(point), point)
        assert_close(score[i].flatten(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sde", [VE(0.01, 8), VP(), SubVP()])
def test_gaussian(sde):
    mean = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)
    std = 0.1 + torch.rand(SHAPE, generator=generator(), dtype=torch.float64)

    def density(m, s):
        return Independent(Normal(m * mean.flatten(), torch.sqrt(m**2 * std.flatten() ** 2 + s**2)), 1)

    check(GaussianNetwork(sde, mean, std).model(), density)


@pytest.mark.parametrize("sde", [VE(0.01, 8), VP(), SubVP()])
def test_mixture_and_kernel_density(sde):
    means = torch.randn(5, *SHAPE, generator=generator(), dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=torch.float64)
    stds = torch.tensor([0.1, 0.5, 1.0, 0.2, 2.0], dtype=torch.float64)

    def density_of(weights, stds):
        def density(m, s):
            each = torch.sqrt(m**2 * stds**2 + s**2)[:, None].expand(5, 12)
            return MixtureSameFamily(Categorical(weights), Independent(Normal(m * means.flatten(1), each), 1))

        return density

    check(MixtureNetwork(sde, weights, means, stds).model(), density_of(weights, stds))
    equal = torch.full((5,), 0.2, dtype=torch.float64)
    check(KernelDensityNetwork(sde, means, 0.3).model(), density_of(equal, 0.3 * torch.ones(5)))


def test_data_that_are_no_distribution_are_refused():
    means = torch.zeros(2, *SHAPE)
    with pytest.raises(ValueError, match="must be positive and of the mean"):
        GaussianNetwork(VE(), means[0], torch.zeros(SHAPE))
    with pytest.raises(ValueError, match=r"sum 1, not 0.75"):
        MixtureNetwork(VE(), torch.tensor([0.5, 0.25]), means, torch.ones(2))
    with pytest.raises(ValueError, match="2 means, 1 weights, 2 stds"):
        MixtureNetwork(VE(), torch.ones(1), means, torch.ones(2))
    with pytest.raises(ValueError, match="stds: must be positive"):
        MixtureNetwork(VE(), torch.full((2,), 0.5), means, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"bandwidth = 0.0: must be positive"):
        KernelDensityNetwork(VE(), means, 0.0)
    with pytest.raises(ValueError, match=r"shape = \(2, 3\)"):
        GaussianNetwork(VE(), torch.zeros(2, 3), torch.ones(2, 3))
