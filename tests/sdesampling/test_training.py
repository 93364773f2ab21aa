"""Training loops against closed-form answers, and resumption to the same bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdesampling.analytic import GaussianNetwork
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, VE, VP, SubVP
from sdesampling.training import GANSettings, GANTraining, ScoreMatching, ScoreMatchingSettings
from sdesampling.training.averaging import ExponentialMovingAverage
from sdesampling.training.randomness import keyed_randomness
from sdesampling.training.score_matching import denoising_loss

SHAPE = (1, 2, 2)
MEAN, STD = 0.6, 0.15  # of the data, in [0, 1]


def gaussian_images(count: int, mean: float = MEAN, std: float = STD) -> Tensor:
    """Independent normal pixels, uint8 (count, *SHAPE)."""
    generator = torch.Generator().manual_seed(7)
    values = mean + std * torch.randn(count, *SHAPE, generator=generator)
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


class FittedGaussian(GaussianNetwork):
    """The score of a Gaussian whose mean and standard deviation are learnt."""

    def __init__(self, sde: SDE) -> None:
        super().__init__(sde, torch.zeros(SHAPE), torch.ones(SHAPE))
        del self.mean, self.std
        self.mean = nn.Parameter(torch.zeros(SHAPE))
        self.log_std = nn.Parameter(torch.zeros(SHAPE))

    def get_buffer(self, target: str) -> Tensor:
        values = {"mean": self.mean, "std": self.log_std.exp()}
        return values[target]


class Denoiser(nn.Module):
    """A small network with dropout, so that resumption must restore that randomness too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 16)
        self.dropout = nn.Dropout(0.3)
        self.outer = nn.Linear(16, 4)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        inputs = torch.cat([x.flatten(1), labels.float()[:, None]], dim=1)
        return self.outer(self.dropout(torch.tanh(self.inner(inputs)))).view_as(x)


def data_moments(sde: SDE) -> tuple[float, float]:
    """Mean and standard deviation of the data in the range that the network sees."""
    return (2 * MEAN - 1, 2 * STD) if sde.centered else (MEAN, STD)


@pytest.mark.parametrize("likelihood_weighting", [False, True])
@pytest.mark.parametrize("sde", [VE(sigma_max=5.0), VP(), SubVP()], ids=lambda sde: sde.family)
def test_loss_of_the_true_score_is_the_closed_form_minimum(sde: SDE, likelihood_weighting: bool) -> None:
    """For Gaussian data of variance s^2 the residual's variance is m^2 s^2 / (m^2 s^2 + v^2) at each time."""
    mean, std = data_moments(sde)
    network = GaussianNetwork(sde, torch.full(SHAPE, mean), torch.full(SHAPE, std))
    settings = ScoreMatchingSettings(steps=1, smallest_time=0.01, likelihood_weighting=likelihood_weighting)
    model = ScoreModel(network, sde, SHAPE)
    times = 0.01 + 0.99 * (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    m, v = sde.mean_coefficient(times), sde.std(times)
    expected = m**2 * std**2 / (m**2 * std**2 + v**2)
    if likelihood_weighting:
        expected = expected * (sde.sde(times[:, None], times)[1] / v) ** 2
    with keyed_randomness(0, 0), torch.no_grad():
        losses = [
            denoising_loss(model, mean + std * torch.randn(40_000, *SHAPE), settings).item() for _ in range(8)
        ]
    estimate = sum(losses) / len(losses)
    error = torch.tensor(losses).std().item() / math.sqrt(len(losses))
    assert error < 0.02 * estimate
    assert abs(estimate - expected.mean().item()) < 5 * error


@pytest.mark.parametrize("likelihood_weighting", [False, True])
@pytest.mark.parametrize("sde", [VE(sigma_max=5.0), VP()], ids=lambda sde: sde.family)
def test_score_matching_learns_a_gaussian(sde: SDE, likelihood_weighting: bool) -> None:
    """Mean and standard deviation of 4,000 images; the tolerance is three times the spread over seeds."""
    settings = ScoreMatchingSettings(
        steps=400,
        batch_size=512,
        learning_rate=0.03,
        warmup=10,
        cosine_decay=True,
        ema_decay=0.9,
        smallest_time=1e-3,
        likelihood_weighting=likelihood_weighting,
    )
    loop = ScoreMatching(ScoreModel(FittedGaussian(sde), sde, SHAPE), gaussian_images(4000), settings)
    while loop.completed < loop.steps:
        loop.advance()
    mean, std = data_moments(sde)
    average = loop.average.network
    assert isinstance(average, FittedGaussian)
    torch.testing.assert_close(average.mean, torch.full(SHAPE, mean), atol=0.05, rtol=0)
    torch.testing.assert_close(average.log_std.exp(), torch.full(SHAPE, std), atol=0.05, rtol=0)


def test_averaged_loss_is_that_of_the_average_with_the_same_noise_every_time() -> None:
    loop = score_matching()
    images = gaussian_images(64)
    before = loop.averaged_loss(images)
    assert loop.averaged_loss(images) == before
    loop.model.network.load_state_dict({k: v + 1 for k, v in loop.model.network.state_dict().items()})
    assert loop.averaged_loss(images) == before
    loop.average.update(loop.model.network)
    assert loop.averaged_loss(images) != before


def test_learning_rate_rises_and_falls() -> None:
    settings = ScoreMatchingSettings(steps=100, learning_rate=0.5, warmup=10, cosine_decay=True)
    loop = ScoreMatching(ScoreModel(Denoiser(), VP(), SHAPE), gaussian_images(8), settings)
    rates = []
    for _ in range(100):
        loop.advance()
        rates.append(loop.state_dict()["optimizer"]["param_groups"][0]["lr"])
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.5, rel=0.03)
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 0.001


def score_matching() -> ScoreMatching:
    torch.manual_seed(1)
    settings = ScoreMatchingSettings(
        steps=12, batch_size=8, learning_rate=0.01, warmup=4, ema_decay=0.9, seed=3
    )
    return ScoreMatching(ScoreModel(Denoiser(), VP(), SHAPE), gaussian_images(32), settings)


def adversarial() -> GANTraining:
    torch.manual_seed(1)
    generator = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Unflatten(1, SHAPE), nn.Tanh())
    discriminator = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 4)), nn.Linear(4, 1), nn.Flatten(0))
    settings = GANSettings(steps=8, closing_steps=4, batch_size=8, r1_gamma=0.1, ema_decay=0.9, seed=3)
    return GANTraining(generator, discriminator, 3, gaussian_images(32), settings)


Loop = ScoreMatching | GANTraining


@pytest.mark.parametrize("make", [score_matching, adversarial])
@pytest.mark.parametrize("stop", [1, 5, 9])
def test_resumed_training_is_bit_identical(make: Callable[[], Loop], stop: int, tmp_path: Path) -> None:
    """Through a file read with weights_only, into a loop whose networks began elsewhere."""
    undisturbed = make()
    losses = [undisturbed.advance() for _ in range(undisturbed.steps)]
    first = make()
    for _ in range(stop):
        first.advance()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make()
    second.advance()
    torch.randn(11)  # the state of torch's own generator must not matter
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [second.advance() for _ in range(second.steps - stop)] == losses[stop:]
    assert_equal(second.state_dict(), undisturbed.state_dict())


def assert_equal(left: Any, right: Any) -> None:
    """Nested dictionaries and lists with bitwise equal leaves."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def test_another_seed_is_another_training() -> None:
    one, other = score_matching(), score_matching()
    other.settings = ScoreMatchingSettings(steps=12, batch_size=8, learning_rate=0.01, seed=4)
    assert one.advance() != other.advance()


def test_keyed_randomness_depends_on_its_key_alone_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with keyed_randomness(5, 6):
        first = torch.randn(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(100)
    with keyed_randomness(5, 6):
        assert torch.equal(torch.randn(4), first)
    for key in [(5, 7), (6, 6), (6, 5)]:
        with keyed_randomness(*key):
            assert not torch.equal(torch.randn(4), first)
    with pytest.raises(ValueError, match="seed = -1"), keyed_randomness(-1, 0):
        pass


def test_moving_average_follows_its_formula_and_copies_buffers() -> None:
    network = nn.BatchNorm1d(1)
    average = ExponentialMovingAverage(network, decay=0.5)
    value = 1.0
    for update in range(1, 30):
        with torch.no_grad():
            network.weight.fill_(float(update))
            network.get_buffer("running_mean").fill_(float(update))
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        value = decay * value + (1 - decay) * update
        assert average.network.weight.item() == pytest.approx(value, rel=1e-5)
        assert average.network.running_mean.item() == update
    assert not average.network.training
    with pytest.raises(ValueError, match=r"decay = 1\.0"):
        ExponentialMovingAverage(network, 1.0)


class Linear(nn.Module):
    """A discriminator whose logit is affine in the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.slope * images.flatten(1).mean(dim=1) + self.offset


class Normal(nn.Module):
    """A generator of images whose pixels are all mean + std z."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.std = nn.Parameter(torch.tensor(std))

    def forward(self, latents: Tensor) -> Tensor:
        return (self.mean + self.std * latents[:, 0])[:, None, None, None].expand(-1, *SHAPE)


def flat_images(count: int, mean: float, std: float) -> Tensor:
    """Images of one normal grey level each; mean and std in [-1, 1]."""
    level = mean + std * torch.randn(count, generator=torch.Generator().manual_seed(3))
    return ((level + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)[:, None, None, None].expand(-1, *SHAPE)


def test_closing_steps_bring_the_logit_to_the_log_ratio_of_the_densities() -> None:
    """For normal data and normal generated images of one width the ratio's slope is difference / variance."""
    data, generated, std = 0.1, -0.1, 0.2
    settings = GANSettings(
        steps=0, closing_steps=600, batch_size=1024, discriminator_learning_rate=0.05, betas=(0.9, 0.999)
    )
    generator, discriminator = Normal(generated, std), Linear()
    loop = GANTraining(generator, discriminator, 1, flat_images(4000, data, std), settings)
    for _ in range(loop.steps):
        losses = loop.advance()
    slope = (data - generated) / std**2
    assert discriminator.slope.item() == pytest.approx(slope, rel=0.1)
    assert discriminator.offset.item() == pytest.approx(0.0, abs=0.1)
    assert "generator_loss" not in losses
    real, fake = loop.logits(flat_images(4000, data, std))
    assert (real, fake) == pytest.approx((slope * data, slope * generated), abs=0.1)
    assert (generator.mean.item(), generator.std.item()) == pytest.approx((generated, std))


def test_the_generator_moves_towards_the_data() -> None:
    settings = GANSettings(
        steps=600,
        batch_size=256,
        generator_learning_rate=2e-3,
        discriminator_learning_rate=2e-2,
        betas=(0.0, 0.99),
        r1_gamma=0.1,
        ema_decay=0.98,
    )
    loop = GANTraining(Normal(-0.5, 0.2), Linear(), 1, flat_images(4000, 0.3, 0.2), settings)
    for _ in range(loop.steps):
        loop.advance()
    average = loop.average.network
    assert isinstance(average, Normal)
    assert average.mean.item() == pytest.approx(0.3, abs=0.1)


def test_r1_penalty_is_half_gamma_times_the_squared_gradient() -> None:
    """The logit's gradient has 4 pixels of slope / 4 each: its squared norm is slope^2 / 4."""
    settings = GANSettings(steps=1, r1_gamma=3.0)
    losses = GANTraining(Normal(0.0, 0.1), Linear(), 1, flat_images(16, 0, 0.1), settings).advance()
    assert losses["r1_penalty"] == pytest.approx(1.5 * 0.5**2 / 4)


def test_logistic_losses_have_their_formula() -> None:
    generator, discriminator = Normal(0.3, 0.0), Linear()
    frozen = copy.deepcopy(discriminator)
    settings = GANSettings(steps=1, discriminator_learning_rate=0.0, generator_learning_rate=0.0)
    images = torch.full((4, *SHAPE), 255, dtype=torch.uint8)
    losses = GANTraining(generator, discriminator, 1, images, settings).advance()
    real, fake = 0.5 * 1.0, 0.5 * 0.3  # slope times grey level
    assert losses["discriminator_loss"] == pytest.approx(
        math.log1p(math.exp(-real)) + math.log1p(math.exp(fake))
    )
    assert losses["generator_loss"] == pytest.approx(math.log1p(math.exp(-fake)))
    assert frozen.slope.item() == discriminator.slope.item()


def test_what_cannot_be_trained_is_refused() -> None:
    images = gaussian_images(4)
    network = Denoiser()
    settings = ScoreMatchingSettings(steps=1)
    with pytest.raises(ValueError, match="continuous times"):
        ScoreMatching(ScoreModel(network, VP(), SHAPE, continuous=False), images, settings)
    with pytest.raises(ValueError, match=r"uint8 \(count, \*\(1, 2, 2\)\), got torch.float32"):
        ScoreMatching(ScoreModel(network, VP(), SHAPE), images.float(), settings)
    with pytest.raises(ValueError, match=r"\(4, 1, 2, 2\)"):
        ScoreMatching(ScoreModel(network, VP(), (1, 3, 3)), images, settings)
    with pytest.raises(ValueError, match="uint8"):
        GANTraining(Normal(0.0, 1.0), Linear(), 1, images.float(), GANSettings(steps=1))
