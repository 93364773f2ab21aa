"""How a Fréchet distance falls with the number of images, on real data: the curves of docs/why-31.md.

    python benchmarks/fid_against_n.py --data FOLDER [--count 12000]

FOLDER holds cifar10/, mnist/ (Parquet) and weights/ as the project's tests know them; without it the digits
alone are measured. Real images stand for generated ones, so the distance of infinitely many is known: 0
between parts of one split, the distance of the splits otherwise. With `--layers` it measures instead what a
flattened 8x8 map gives in place of its average: the last map of the ResNet-20 (64 x 8 x 8) on CIFAR-10.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fid.audit.damage import jpeg
from fid.control import measure
from fid.extractors import Extractor, load_extractor
from fid.extractors.base import load_weights, read_weights
from fid.extractors.cifar10_resnet20 import MEAN, STD, Cifar10ResNet
from fid.frechet import frechet_distance
from fid.moments import Moments
from fid.uncertainty import predicted_bias
from jobs.compute.extraction import extract
from jobs.inputs.datasets import read_dataset, read_digits
from jobs.models.catalog import WEIGHTS

PARTS = (1, 2, 3, 5, 8, 12, 20, 30, 40)  # disjoint parts that the generated side is cut into
LEAST = 3  # samples a dimension, below which the law c / N does not hold


@dataclass(frozen=True)
class Curve:
    """Distances at several N, and the line that fits them."""

    name: str
    reference: int  # images
    sizes: list[int]
    means: list[float]  # over disjoint parts
    spreads: list[float]  # standard deviation over the parts; 0 for one part
    slope: float  # points x images, of the generated side
    slope_error: float
    intercept: float  # at infinitely many generated images
    intercept_error: float
    formula: float  # slope that the formula for Gaussian features gives


def curve(name: str, generated: np.ndarray, reference: np.ndarray) -> Curve:
    """Cut the generated features into parts, measure each, and fit distance = intercept + slope / N."""
    moments = Moments.of(reference)
    order = np.random.default_rng(0).permutation(len(generated))
    sizes, means, spreads, weights = [], [], [], []
    for parts in PARTS:
        size = len(generated) // parts
        if size < LEAST * generated.shape[1]:
            break
        pieces = [order[first * size : (first + 1) * size] for first in range(parts)]
        values = [frechet_distance(Moments.of(generated[piece]), moments).distance for piece in pieces]
        sizes.append(size)
        means.append(float(np.mean(values)))
        spreads.append(float(np.std(values, ddof=1)) if parts > 1 else 0.0)
        weights.append(parts)
    inverse = 1 / np.array(sizes)
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    root = np.sqrt(weights)[:, None]
    solution, _, _, _ = np.linalg.lstsq(design * root, np.array(means) * root[:, 0], rcond=None)
    residuals = (np.array(means) - design @ solution) * root[:, 0]
    variance = np.square(residuals).sum() / max(1, len(sizes) - 2)
    errors = np.sqrt(np.diag(np.linalg.inv((design * root).T @ (design * root))) * variance)
    whole = Moments.of(generated)
    bias = predicted_bias(frechet_distance(whole, moments), whole, moments)
    return Curve(
        name,
        len(reference),
        sizes,
        means,
        spreads,
        float(solution[1]),
        float(errors[1]),
        float(solution[0]),
        float(errors[0]),
        bias.generated * whole.count,
    )


def show(found: Curve) -> None:
    """The curve as Markdown."""
    print(f"\n### {found.name}, {found.reference:,} images of the reference\n")
    print("| N | distance | spread over parts | line |\n|---|---|---|---|")
    for size, mean, spread in zip(found.sizes, found.means, found.spreads, strict=True):
        line = found.intercept + found.slope / size
        print(
            f"| {size:,} | {mean:.4f} | {spread:.4f} | {line:.4f} |"
            if spread
            else f"| {size:,} | {mean:.4f} | - | {line:.4f} |"
        )
    print(
        f"\nslope {found.slope:.1f} ± {found.slope_error:.1f}, at infinity {found.intercept:.4f} ± "
        f"{found.intercept_error:.4f}; formula for Gaussian features {found.formula:.1f}, "
        f"ratio {found.slope / found.formula:.3f}"
    )


def features(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    return extract(extractor, 0, images, [range(len(images))]).features


def two_splits(
    name: str, extractor: Extractor, train: np.ndarray, test: np.ndarray, count: int
) -> list[Curve]:
    """Train against train (a perfect generator), and test against train (another distribution).

    The halves of the train split are drawn at random: its rows may be ordered by class.
    """
    order = np.random.default_rng(1).permutation(len(train))[:count]
    first, second, other = (
        features(extractor, images) for images in (train[order[::2]], train[order[1::2]], test)
    )
    return [
        curve(f"{name}, train against train", second, first),
        curve(f"{name}, test against train", other, first),
    ]


def layers(network: Cifar10ResNet, images: np.ndarray, sizes: tuple[int, ...]) -> None:
    """Real against real, and against the same in JPEG of quality 50, by averages and by flattened maps.

    The images were drawn at random; the reference is the last half of them.
    """
    half = len(images) // 2
    sides = {"real": images[:half], "JPEG 50": jpeg(images[:half], 50)}
    reference = maps(network, images[half:])
    found = {name: maps(network, side) for name, side in sides.items()}
    print(f"\n### averages (64 numbers) and flattened maps (4,096), {half:,} images of the reference\n")
    print("| N | real, average | real, flattened | JPEG, average | JPEG, flattened |\n|---|---|---|---|---|")
    for size in sizes:
        row = []
        for name in sides:
            for flat in (False, True):
                pair = [side if flat else averages(side) for side in (found[name][:size], reference)]
                row.append(measure(*pair).distance)
        print(f"| {size:,} | " + " | ".join(f"{value:.3f}" for value in row) + " |")


def maps(network: Cifar10ResNet, images: np.ndarray) -> np.ndarray:
    """(count, 4096) the last map of the network, position fastest."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    taken: list[np.ndarray] = []
    handle = network.layer3.register_forward_hook(
        lambda module, inputs, output: taken.append(output.flatten(1).numpy())
    )
    with torch.inference_mode():
        for first in range(0, len(images), 250):
            network((torch.from_numpy(images[first : first + 250]).float() / 255 - mean) / std)
    handle.remove()
    return np.concatenate(taken)


def averages(rows: np.ndarray) -> np.ndarray:
    """The averages over positions of flattened maps."""
    return rows.reshape(len(rows), 64, -1).mean(axis=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with cifar10/, mnist/ and weights/")
    parser.add_argument("--layers", action="store_true", help="measure what flattening a map does")
    parser.add_argument("--count", type=int, default=12_000, help="images of each train split, at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.layers:
        weights = arguments.data / "weights" / "cifar10_resnet20" / "resnet20-12fca82f.th"
        train = read_dataset("cifar10", arguments.data / "cifar10" / "train.parquet").images
        drawn = train[np.random.default_rng(1).permutation(len(train))[: arguments.count]]
        network = Cifar10ResNet().eval()
        load_weights(network, read_weights(weights), weights)
        layers(network, drawn, (250, 500, 1000, 2000))
        return
    digits = load_extractor("digits-cnn", WEIGHTS / "digits-cnn.safetensors")
    for found in two_splits(
        "digits-cnn on digits", digits, read_digits("train").images, read_digits("heldout").images, 1248
    ):
        show(found)
    if arguments.data is None:
        return
    weights = arguments.data / "weights"
    for name, file, folder in (
        ("mnist-lenet", weights / "mnist_lenet" / "lenet_epoch12.pth", "mnist"),
        ("cifar10-resnet20", weights / "cifar10_resnet20" / "resnet20-12fca82f.th", "cifar10"),
    ):
        extractor = load_extractor(name, file)
        train = read_dataset(folder, arguments.data / folder / "train.parquet").images
        test = read_dataset(folder, arguments.data / folder / "test.parquet").images
        for found in two_splits(f"{name} on {folder}", extractor, train, test, arguments.count):
            show(found)


if __name__ == "__main__":
    main()
