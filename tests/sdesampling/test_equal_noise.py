"""Networks of other schedules, predictions and data ranges give images of the data they were trained on."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sdesampling.networks.equal_noise import AtEqualNoise
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run
from sdesampling.score import ScoreModel
from sdesampling.sde import VP, per_sample

MEAN, STD, STEPS = 0.6, 0.15, 400  # of the data, which are images in [0, 1]


def cosine():
    return cosine_of(STEPS)


def cosine_of(steps):
    """alphas_cumprod of Nichol & Dhariwal 2021, eq. 17, with betas clipped at 0.999."""
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod((f[1:] / f[:-1]).clamp(min=0.001), dim=0)


def linear(last=0.02, steps=STEPS):
    """Betas of DDPM; in 400 steps they leave 2 % of the data's variance at the end."""
    return torch.cumprod(1 - torch.linspace(1e-4, last, steps, dtype=torch.float64), dim=0)


class OfItsOwnSteps(nn.Module):
    """The exact prediction for Gaussian data, told whole steps of a schedule."""

    def __init__(self, alphas, prediction, mean=MEAN, std=STD):
        super().__init__()
        self.alphas = alphas
        self.weight = nn.Parameter(torch.zeros(1))
        self.prediction, self.mean, self.std = prediction, mean, std

    def forward(self, x, step):
        assert step.dtype == torch.int64
        a = per_sample(self.alphas[step], x)
        data = self.mean + a.sqrt() * self.std**2 / (a * self.std**2 + 1 - a) * (x - a.sqrt() * self.mean)
        noise = (x - a.sqrt() * data) / (1 - a).sqrt()
        answers = {"noise": noise, "data": data, "v": a.sqrt() * noise - (1 - a).sqrt() * data}
        return answers[self.prediction].to(x)


def images(network, kind="dpm_solver", centered=False, count=2000, **hyper_parameters):
    model = ScoreModel(network, VP(), (1, 4, 4), centered=centered)
    sampler = build_sampler(kind, model, **(hyper_parameters or {"steps": 30, "eps": 1e-4}))
    return sampler.finish(run(sampler, NoiseStream(0, 0, range(count))))


def assert_like_the_data(found):
    error = STD / math.sqrt(found.numel())
    assert float(found.mean()) == pytest.approx(MEAN, abs=5 * error + 0.01)  # the steps are rounded
    assert float(found.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("prediction", ["noise", "data", "v"])
@pytest.mark.parametrize("schedule", [cosine, linear])
def test_images_follow_the_data_whatever_the_schedule_and_the_prediction(schedule, prediction):
    network = AtEqualNoise(OfItsOwnSteps(schedule(), prediction), schedule(), prediction=prediction)
    assert_like_the_data(images(network))


@pytest.mark.parametrize("prediction", ["noise", "data", "v"])
def test_images_follow_the_data_in_another_range(prediction):
    """As torchvision's Normalize((0.1307,), (0.3081,)) has it, beside a model of images in [-1, 1]."""
    shift, scale = 0.1307, 0.3081
    inner = OfItsOwnSteps(cosine(), prediction, (MEAN - shift) / scale, STD / scale)
    network = AtEqualNoise(inner, cosine(), prediction=prediction, mean=2 * shift - 1, std=2 * scale)
    assert_like_the_data(images(network, centered=True))


def test_the_steps_of_ddpm_lead_there_too():
    network = AtEqualNoise(OfItsOwnSteps(cosine(), "noise"), cosine())
    ancestral = {"predictor": "ancestral", "corrector": "none", "steps": 200}
    assert_like_the_data(images(network, "predictor_corrector", count=400, **ancestral))


def test_on_the_betas_of_the_sde_itself_the_network_is_asked_as_it_is():
    inner = OfItsOwnSteps(linear(steps=1000), "noise")
    x, steps = torch.randn(3, 1, 4, 4), torch.tensor([20, 500, 999])
    log_mean = linear(steps=1000)[steps].log() / 2  # the time at which the SDE has the noise of these steps
    labels = 999 * torch.tensor([VP().time_of_mean(float(each)) for each in log_mean])
    found = AtEqualNoise(inner, linear(steps=1000))(x, labels)
    torch.testing.assert_close(found, inner(x, steps), rtol=1e-5, atol=1e-6)


def test_predicted_data_are_clipped_to_the_range_of_images():
    """A network that is a little off near pure noise, where that is far off in the data."""

    class Off(OfItsOwnSteps):
        def forward(self, x, step):
            return super().forward(x, step) + 0.1

    inner, sde = Off(cosine(), "noise"), VP()
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([0.2, 0.9, 1.0])
    plain, clipped = (
        ScoreModel(AtEqualNoise(inner, cosine(), clip=clip), sde, (1, 4, 4)).denoise(x, t)
        for clip in (None, (0.0, 1.0))
    )
    assert float(plain[2].abs().max()) > 5
    torch.testing.assert_close(clipped, plain.clamp(0, 1), rtol=0, atol=1e-3)


def test_classes_are_passed_on():
    class OfClasses(nn.Module):
        num_classes = 3

        def forward(self, x, step, classes):
            return x * per_sample(classes, x)

    network = AtEqualNoise(OfClasses(), cosine())
    assert network.num_classes == 3
    told = network(torch.ones(3, 1, 4, 4), torch.full((3,), 500.0), torch.arange(3))[:, 0, 0, 0]
    torch.testing.assert_close(told[2] - told[1], told[1] - told[0])
    assert told[0] != told[1]


def test_the_recipes_of_the_documentation_work():
    """docs/plugins.md: the network of dx = sigma^t dw, and a factory for cosine betas, v and a data range."""
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    recipes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    std = math.sqrt((25.0 ** (2 * 0.7) - 1) / (2 * math.log(25.0)))

    class ScoreNet(nn.Module):
        def __init__(self, marginal_std):
            super().__init__()
            self.marginal_std = marginal_std

        def forward(self, x, t):
            torch.testing.assert_close(t, torch.full((2,), 0.7))
            return x / per_sample(self.marginal_std(t), x)

    def unet(num_channels, width):
        return OfItsOwnSteps(cosine_of(1000), "v", (MEAN - 0.1307) / 0.3081, STD / 0.3081)

    names = {"ScoreNet": ScoreNet, "Unet": unet, "AtEqualNoise": AtEqualNoise, "math": math, "torch": torch}
    for recipe in recipes:
        exec(recipe, names)
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(names["Score"](28, 1, False)(x, torch.full((2,), std)), x / std)
    assert_like_the_data(images(names["unet"](28, 1, False)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alphas_cumprod": torch.tensor([0.9, 0.0])}, "alphas_cumprod: must be one number in"),
        ({"std": 0.0}, "std = 0.0: must be positive"),
        ({"prediction": "epsilon"}, "did you mean|one of"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AtEqualNoise(nn.Identity(), **{"alphas_cumprod": cosine(), **arguments})
