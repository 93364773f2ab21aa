"""FID[digits-cnn] of the shipped digits models over samplers, steps and step sizes, beside the controls.

The tables of docs/digits.md come from here, and from them the values in the catalogue. Calls the libraries
directly, without store or workers; a line is printed as soon as it is known.

    python benchmarks/digits_grid.py controls
    python benchmarks/digits_grid.py langevin --model digits-ve --predictor none --snr 0.1 --snr 0.2
    python benchmarks/digits_grid.py ddls --steps 100 --step-size 0.01 --step-size 0.1
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fid.extractors import Extractor, load_extractor
from fid.moments import Moments
from fid.scores import FidScore, fid_score
from jobs.inputs.datasets import read_dataset
from jobs.models.catalog import WEIGHTS
from sdesampling.models import load_model
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler

HEADER = """| model | sampler | N | evaluations | FID[digits-cnn] | ± | mean term | seconds |
|---|---|--:|--:|--:|--:|--:|--:|"""


def sample(
    model: Any, samples: int, group: int, seed: int, stages: Iterable[int] = (), **sampler: Any
) -> tuple[dict[int, Tensor], int]:
    """Images of each stage and of the last step, uint8 (samples, 1, 8, 8), and evaluations per image."""
    machine = build_sampler(model=model, **sampler)
    wanted = {*stages, machine.steps}
    images: dict[int, list[Tensor]] = {step: [] for step in sorted(wanted)}
    evaluations = 0
    for first in range(0, samples, group):
        noise = NoiseStream(seed, 0, range(first, min(first + group, samples)))
        with torch.no_grad():
            state = machine.init(noise)
            while True:
                if state.step in wanted:
                    pixels = (machine.finish(state).clamp(0, 1) * 255).to(torch.uint8)
                    images[state.step].append(pixels)
                if state.step == machine.steps:
                    break
                state = machine.step(state, noise)
        evaluations = state.evaluations
    return {step: torch.cat(blocks) for step, blocks in images.items()}, evaluations


@functools.cache
def extractor() -> Extractor:
    return load_extractor("digits-cnn", WEIGHTS / "digits-cnn.safetensors")


def features(images: Tensor) -> np.ndarray:
    blocks = [extractor()(block).features for block in images.split(256)]
    return torch.cat(blocks).double().numpy()


@functools.cache
def reference() -> np.ndarray:
    """Features of the training images, which all scores are measured against."""
    return features(torch.from_numpy(read_dataset("digits-train").images))


def show(model: str, sampler: str, images: Tensor, evaluations: int, seconds: float) -> None:
    score: FidScore = fid_score(features(images), Moments.of(reference()))
    click.echo(
        f"| {model} | {sampler} | {len(images)} | {evaluations} | {score.value:.2f} "
        f"| {score.standard_error.value:.2f} | {score.mean_term:.2f} | {seconds:.1f} |"
    )


def save_grid(images: Tensor, path: Path, columns: int = 24, scale: int = 5) -> None:
    """The first images, at most 12 rows of them, as one enlarged picture."""
    rows = min(12, len(images) // columns)
    framed = torch.nn.functional.pad(images[: columns * rows, 0], (1, 1, 1, 1), value=64)
    tiles = framed.reshape(rows, columns, 10, 10).permute(0, 2, 1, 3)
    picture = Image.fromarray(tiles.reshape(rows * 10, columns * 10).numpy())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)


@click.group()
def main() -> None:
    """Measure the digits models; see the tables in docs/digits.md."""
    torch.set_num_threads(1)
    click.echo(HEADER)


@main.command()
@click.option("--seed", default=0, show_default=True)
def controls(seed: int) -> None:
    """Real images and pure noise at equal numbers."""
    rng = np.random.default_rng(seed)
    train, held = read_dataset("digits-train").images, read_dataset("digits-heldout").images
    show("digits-heldout", "real", torch.from_numpy(held), 0, 0)
    for count in (len(held), 1024):
        chosen = train[rng.permutation(len(train))[:count]]
        show("digits-train", "real, drawn without replacement", torch.from_numpy(chosen), 0, 0)
    for count in (len(held), 1024):
        noise = rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
        show("digits-heldout", "noise", torch.from_numpy(noise), 0, 0)


@main.command()
@click.option("--model", "name", default="digits-ve", show_default=True)
@click.option("--predictor", default="reverse_diffusion", show_default=True)
@click.option("--corrector", default="langevin", show_default=True)
@click.option("--steps", default=100, show_default=True)
@click.option("--corrector-steps", default=1, show_default=True)
@click.option("--snr", multiple=True, type=float, default=(0.16,), show_default=True)
@click.option("--samples", default=1024, show_default=True)
@click.option("--group", default=256, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--grid", type=click.Path(path_type=Path), help="Picture of the last row's images.")
def langevin(
    name: str,
    predictor: str,
    corrector: str,
    steps: int,
    corrector_steps: int,
    snr: tuple[float, ...],
    samples: int,
    group: int,
    seed: int,
    grid: Path | None,
) -> None:
    """Predictor-corrector sampling over signal-to-noise ratios."""
    model = load_model(WEIGHTS / f"{name}.safetensors")
    for ratio in snr:
        hyper: dict[str, Any] = {"predictor": predictor, "corrector": corrector, "steps": steps}
        if corrector != "none":
            hyper |= {"snr": ratio, "corrector_steps": corrector_steps}
        began = time.perf_counter()
        images, evaluations = sample(model, samples, group, seed, kind="predictor_corrector", **hyper)
        words = ", ".join(f"{key} {value}" for key, value in hyper.items())
        show(name, words, images[steps], evaluations, time.perf_counter() - began)
        if grid is not None:
            save_grid(images[steps], grid)


@main.command()
@click.option("--model", "name", default="digits-gan", show_default=True)
@click.option("--steps", default=100, show_default=True)
@click.option("--step-size", multiple=True, type=float, default=(0.01,), show_default=True)
@click.option("--stage", multiple=True, type=int, default=(0, 10, 25, 50), show_default=True)
@click.option("--samples", default=1024, show_default=True)
@click.option("--group", default=256, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--grid", type=click.Path(path_type=Path), help="Picture of the last row's images.")
def ddls(
    name: str,
    steps: int,
    step_size: tuple[float, ...],
    stage: tuple[int, ...],
    samples: int,
    group: int,
    seed: int,
    grid: Path | None,
) -> None:
    """Latent Langevin dynamics over step sizes, at every stage."""
    model = load_model(WEIGHTS / f"{name}.safetensors")
    for size in step_size:
        began = time.perf_counter()
        images, _ = sample(model, samples, group, seed, stage, kind="ddls", steps=steps, step_size=size)
        seconds = time.perf_counter() - began
        for step, pixels in images.items():
            show(name, f"ddls, step size {size}, after {step}", pixels, step, seconds)
        if grid is not None:
            save_grid(images[steps], grid)


if __name__ == "__main__":
    main()
