"""Calibration of a discriminator: the logit comes back from what a GAN's loss made of it."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdesampling.calibration import calibrate, fit
from sdesampling.latent import LatentModel
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run

SEPARATION = 1.5  # of real and generated normal values of unit variance: the logit is 1.5 x - 1.125


def outputs(count, generator, slope=1.0, offset=0.0):
    """What a discriminator says that knows slope * logit + offset, of real and of generated values."""
    real, fake = (torch.randn(count, generator=generator) + shift for shift in (SEPARATION, 0.0))
    return tuple(slope * (SEPARATION * x - SEPARATION**2 / 2) + offset for x in (real, fake))


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.2, 3.0), (-5.0, 0.5), (1e-3, 1e3)])
def test_an_affine_image_of_the_logit_is_undone(slope, offset):
    found = fit(*outputs(40_000, torch.Generator().manual_seed(0), slope, offset))
    assert found.slope * slope == pytest.approx(1, abs=0.04)
    assert found.slope * offset + found.intercept == pytest.approx(0, abs=0.04)
    assert found.log_loss <= found.log_loss_before + 1e-9
    assert found.log_loss < math.log(2)


def test_unequal_numbers_change_no_odds():
    real, fake = outputs(20_000, torch.Generator().manual_seed(1))
    found = fit(real[:2000], fake)
    assert (found.real, found.generated) == (2000, 20_000)
    assert found.slope == pytest.approx(1, abs=0.1)
    assert found.intercept == pytest.approx(0, abs=0.1)


def test_kinds_that_do_not_overlap_give_a_finite_slope():
    found = fit(torch.linspace(5, 6, 50), torch.linspace(-6, -5, 50))
    assert 0 < found.slope < 10
    assert found.log_loss < 0.1


def test_it_is_a_minimum_of_the_log_loss():
    real, fake = outputs(3000, torch.Generator().manual_seed(2), 0.3, 1.0)
    found = fit(real, fake)

    def loss(slope, intercept):
        logits = [slope * each.double() + intercept for each in (real, fake)]
        return float(nn.functional.softplus(-logits[0]).mean() + nn.functional.softplus(logits[1]).mean()) / 2

    best = loss(found.slope, found.intercept)
    assert found.log_loss == pytest.approx(best)
    for step in (-0.1, 0.1):  # Platt's targets move the minimum by less
        assert loss(found.slope + step, found.intercept) > best
        assert loss(found.slope, found.intercept + step) > best


class Identity(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, z):
        return self.weight * z


class Squeezed(nn.Module):
    """The logit of N(0.5, 0.04) against N(0, 1), times 0.1, plus 2: as far from it as a critic's output."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.1]))

    def forward(self, x):
        logit = -((x - 0.5) ** 2) / 0.08 + x**2 / 2 - math.log(0.2)
        return self.weight * logit.sum(dim=1) + 2


def test_a_calibrated_critic_leads_to_the_data_and_an_uncalibrated_one_does_not():
    model = LatentModel(Identity(), Squeezed(), 1, (1, 1, 1), centered=False)
    real = 0.5 + 0.2 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    images = (real * 255).round().clamp(0, 255).to(torch.uint8).view(-1, 1, 1, 1)
    found = calibrate(model, images, NoiseStream(0, 0, range(4000)))
    assert found.slope == pytest.approx(10, rel=0.1)
    spread = {}
    for calibration in (found, None):
        sampler = build_sampler(
            "ddls", model, steps=60, step_size=0.02, metropolis=True, calibration=calibration
        )
        state = run(sampler, NoiseStream(1, 0, range(4000)))
        spread[calibration is None] = float(state.tensors["z"].std())
        report = sampler.diagnostics(state)
        assert ("calibration_slope" in report) == (calibration is not None)
    assert spread[False] == pytest.approx(0.2, rel=0.1)
    assert spread[True] > 0.4
    assert sampler.diagnostics(state)["acceptance_rate"] > 0.5


def test_real_images_come_in_the_range_and_shape_of_the_generators():
    seen = []

    class Listening(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            seen.append(x)
            return x.mean(dim=1) * self.scale

    flat = nn.Sequential(nn.Linear(2, 4), nn.Tanh())  # images as rows, in [-1, 1]
    model = LatentModel(flat, Listening(), 2, (1, 2, 2))
    images = torch.tensor([[0, 255], [51, 204]], dtype=torch.uint8).expand(3, 1, 2, 2)
    calibrate(model, images, NoiseStream(0, 0, range(3)))
    assert_close(seen[0], torch.tensor([[-1.0, 1.0, -0.6, 0.6]]).expand(3, 4))
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())


def test_what_cannot_be_calibrated_is_refused():
    model = LatentModel(Identity(), Squeezed(), 1, (1, 1, 1), centered=False)
    with pytest.raises(ValueError, match=r"must be uint8 \(count, \*\(1, 1, 1\)\)"):
        calibrate(model, torch.zeros(2, 1, 1, 1), NoiseStream(0, 0, range(2)))
    with pytest.raises(ValueError, match="gives all images the same"):
        fit(torch.ones(4), torch.ones(4))
