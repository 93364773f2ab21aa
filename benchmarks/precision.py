"""What bfloat16 costs: its error beside the noise at every noise level, and its effect on FID[digits-cnn].

    python benchmarks/precision.py error      # digits-ve and digits-vp, on noised training images
    python benchmarks/precision.py effect     # samples of float32, bfloat16 and auto from the same noise

`effect` gives all precisions the same noise, so their scores differ by the precision alone; the standard
error of one score is printed beside. Neither depends on how fast this machine is in bfloat16.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor

from fid.extractors import load_extractor
from fid.frechet import frechet_distance
from fid.moments import Moments
from fid.uncertainty import jackknife_standard_error
from jobs.inputs.datasets import read_dataset
from jobs.models.catalog import WEIGHTS
from jobs.planning.submission import FLOAT32_BELOW
from jobs.storage.images import quantise
from sdesampling.models import load_model
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample

PRECISIONS = {"float32": None, "bfloat16": 0.0, "auto": FLOAT32_BELOW}  # name -> float32_below
SNR = {"digits-ve": 0.3, "digits-vp": 0.2}  # docs/digits.md, at 50 steps
LEVELS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.01)
GROUP = 256


def in_precision(model: ScoreModel, precision: str) -> ScoreModel:
    """A copy of a model in a precision."""
    below, chosen = PRECISIONS[precision], copy.deepcopy(model)
    if below is not None:
        chosen.set_precision("bfloat16", below)
    return chosen


def training_images() -> Tensor:
    """uint8, (count, 1, 8, 8)."""
    return torch.from_numpy(read_dataset("digits-train").images)


def time_of_level(model: ScoreModel, level: float) -> Tensor | None:
    """The time of a noise level, (), by bisection; None where the SDE does not reach it."""
    low, high = torch.tensor([1e-5]), torch.tensor([model.sde.T])
    if not float(model.noise_level(low)) <= level <= float(model.noise_level(high)) * (1 + 1e-6):
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(model.noise_level(middle)) < level else (low, middle)
    return high[0]


@torch.no_grad()
def error(name: str, count: int) -> None:
    """Rms error of the noise that the network estimates, as a share of that noise."""
    model = load_model(WEIGHTS / f"{name}.safetensors")
    assert isinstance(model, ScoreModel)
    low = in_precision(model, "bfloat16")
    data = training_images()[:count].float() / 255
    data = data * 2 - 1 if model.centered else data
    print(f"{name}, {len(data)} noised training images\n{'noise level':>12} {'rms error':>10} {'largest':>9}")
    for level in LEVELS:
        time = time_of_level(model, level)
        if time is None:
            continue
        t = time.expand(len(data))
        mean_coefficient, std = (per_sample(each, data) for each in model.marginal(t))
        z = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
        x = mean_coefficient * data + std * z
        difference = (low.score(x, t) - model.score(x, t)) * std
        rms, largest = float(difference.square().mean().sqrt()), float(difference.abs().max())
        print(f"{level:12g} {rms:10.2%} {largest:9.1%}", flush=True)


@torch.no_grad()
def effect(name: str, samples: int, steps: int, seed: int) -> None:
    """FID[digits-cnn] of every precision from the same noise, and how far their pixels lie apart."""
    model = load_model(WEIGHTS / f"{name}.safetensors")
    assert isinstance(model, ScoreModel)
    extract = load_extractor("digits-cnn", WEIGHTS / "digits-cnn.safetensors")
    real = Moments.of(extract(training_images()).features)
    print(f"{name}, reverse diffusion and Langevin, {steps} steps, {samples} samples, seed {seed}")
    first: Tensor | None = None
    for precision in PRECISIONS:
        images = sample(in_precision(model, precision), samples, steps, SNR[name], seed)
        features = extract(images).features
        generated = Moments.of(features)
        score = frechet_distance(generated, real)
        line = f"{precision:9} FID[digits-cnn] {score.distance:7.3f}"
        if first is None:
            first = images
            line += f" ± {jackknife_standard_error([features], generated, real, score).value:.2f}"
        else:
            apart = (images.int() - first.int()).abs().float()
            line += f", pixels differ by {apart.mean():.2f} of 255 on average, {apart.max():.0f} at most"
        print(line, flush=True)


def sample(model: ScoreModel, samples: int, steps: int, snr: float, seed: int) -> Tensor:
    """uint8 images in groups."""
    sampler = build_sampler("predictor_corrector", model, steps=steps, snr=snr)
    found = []
    for first in range(0, samples, GROUP):
        state = run(sampler, NoiseStream(seed, 0, range(first, min(first + GROUP, samples))))
        found.append(quantise(sampler.finish(state), "floor", f"from {first} on", final=True)[0])
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("error", "effect"))
    parser.add_argument("--model", choices=sorted(SNR), action="append", help="default: both")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.model or sorted(SNR):
        if options.what == "error":
            error(name, options.samples)
        else:
            effect(name, options.samples, options.steps, options.seed)


if __name__ == "__main__":
    main()
