"""The recipe of docs/plugins.md for networks of another noise schedule, as it is written there."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run
from sdesampling.score import ScoreModel
from sdesampling.sde import VP

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
MEAN, STD, STEPS = 0.6, 0.15, 400


def cosine_schedule():
    """alphas_cumprod of Nichol & Dhariwal 2021, eq. 17, with betas clipped at 0.999."""
    share = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    f = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod((f[1:] / f[:-1]).clamp(min=0.001), dim=0)


class OfCosineSteps(nn.Module):
    """The exact epsilon of Gaussian data in [0, 1], told whole steps of the cosine schedule."""

    def __init__(self):
        super().__init__()
        self.register_buffer("alphas_cumprod", cosine_schedule())

    def forward(self, x, step):
        assert step.dtype == torch.int64
        a = self.alphas_cumprod[step][:, None, None, None]
        return ((1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)).to(x)


@pytest.fixture
def model():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    network = names["AtEqualNoise"](OfCosineSteps(), cosine_schedule())
    return ScoreModel(network, VP(), (1, 4, 4), centered=False)


@pytest.mark.parametrize(
    ("kind", "hyper_parameters"),
    [
        ("predictor_corrector", {"predictor": "ancestral", "corrector": "none", "steps": 400}),
        ("dpm_solver", {"steps": 30, "eps": 1e-4}),
    ],
)
def test_images_follow_the_data_that_the_cosine_schedule_was_trained_on(model, kind, hyper_parameters):
    sampler = build_sampler(kind, model, **hyper_parameters)
    noise = NoiseStream(0, 0, range(2000))
    images = sampler.finish(run(sampler, noise))
    error = STD / math.sqrt(images.numel())
    assert float(images.mean()) == pytest.approx(MEAN, abs=5 * error + 0.01)  # the steps are rounded
    assert float(images.std()) == pytest.approx(STD, rel=0.05)
