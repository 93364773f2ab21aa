"""The standard error of FID against the truth: the spread over draws that have nothing in common.

    python benchmarks/fid_error.py [--draws 200]

For each case that many disjoint draws are scored against one reference. Their standard deviation is the
truth; beside it the jackknife and the bootstrap of single draws, as means over the first draws. Cases: images
of the shipped GAN, random digits (with replacement: the 1,797 are the population), Gaussian and rectified
Gaussian features, close to the reference and far from it, more and fewer rows than dimensions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch

from fid.extractors import load_extractor
from fid.frechet import frechet_distances
from fid.moments import Moments
from fid.scores import fid_score
from jobs.inputs.datasets import read_digits
from jobs.models.catalog import WEIGHTS
from sdesampling.models import load_model
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler, run

Draw = Callable[[int], np.ndarray]  # number of the draw -> features (rows, dimension)
BOOTSTRAPPED = 10  # draws whose own errors are computed


def features(images: np.ndarray) -> np.ndarray:
    extractor = load_extractor("digits-cnn", WEIGHTS / "digits-cnn.safetensors")
    return extractor(torch.from_numpy(images)).features.numpy()


def generated(rows: int) -> Draw:
    """Images of the GAN: draw k has the samples k rows to (k + 1) rows."""
    sampler = build_sampler("prior", load_model(WEIGHTS / "digits-gan.safetensors"))

    def draw(number: int) -> np.ndarray:
        noise = NoiseStream(0, 0, range(number * rows, (number + 1) * rows))
        images = sampler.finish(run(sampler, noise))
        return features((images * 255).floor().clamp(0, 255).to(torch.uint8).numpy())

    return draw


def digits(rows: int) -> Draw:
    every = features(read_digits().images)
    return lambda number: every[np.random.default_rng(number).integers(len(every), size=rows)]


def synthetic(rows: int, dimension: int, shift: float, rectified: bool = False) -> Draw:
    def draw(number: int) -> np.ndarray:
        x = np.random.default_rng(number).normal(shift, 1, (rows, dimension))
        return np.maximum(x, 0) if rectified else x

    return draw


def cases() -> Iterator[tuple[str, Draw, Moments]]:
    train = Moments.of(features(read_digits("train").images))
    every = Moments.of(features(read_digits().images))
    for rows in (200, 1000):
        yield f"GAN against training images, N = {rows:,}", generated(rows), train
    for rows in (200, 1000):
        yield f"digits against all digits, N = {rows:,}", digits(rows), every
    for name, shift, rectified in (
        ("Gaussian, alike", 0.0, False),
        ("Gaussian, means 0.5 apart", 0.5, False),
        ("rectified Gaussian, alike", 0.0, True),
    ):
        reference = Moments.of(synthetic(50_000, 64, 0.0, rectified)(10**6))
        for rows in (40, 400):
            yield f"{name}, d = 64, N = {rows:,}", synthetic(rows, 64, shift, rectified), reference


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    print("| case | FID | spread of draws | jackknife | / spread | bootstrap | / spread |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, draw, reference in cases():
        moments = (Moments.of(draw(number)) for number in range(draws))
        distances = [found.distance for found in frechet_distances(moments, reference)]
        spread = np.std(distances, ddof=1)
        rows = [draw(number) for number in range(BOOTSTRAPPED)]
        own = [
            np.mean([fid_score(each, reference, error).standard_error.value for each in rows])
            for error in ("jackknife", "bootstrap")
        ]
        told = " | ".join(f"{value:.3g} | {value / spread:.2f}" for value in own)
        print(f"| {name} | {np.mean(distances):.3g} | {spread:.3g} | {told} |", flush=True)
    print(f"\nThe spread of {draws} draws is known to {100 / np.sqrt(2 * draws):.0f} %.")


if __name__ == "__main__":
    main()
