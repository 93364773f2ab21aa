"""What tests of the audit share: real digits, synthetic colour images, and extractors with known faults."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fid.audit import Evidence, Expectation, ImageSet
from fid.extractors import digits as digits_extractor
from fid.extractors.base import NetworkExtractor

WEIGHTS = Path(__file__).parents[2] / "jobs" / "catalog" / "weights" / "digits-cnn.safetensors"
SIDE = 24  # of the colour images: three blocks of JPEG


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits in a random order: images (1797, 1, 8, 8) and labels."""
    from jobs.inputs.datasets import read_digits

    data = read_digits(None)
    order = np.random.default_rng(5).permutation(len(data))
    assert data.labels is not None
    return data.images[order], data.labels[order]


@functools.cache
def digits_cnn() -> NetworkExtractor:
    return digits_extractor.load(WEIGHTS)


@functools.cache
def colour_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes (count, 3, 24, 24) uint8 and their classes: a sky, grain, and one of six kinds of discs.

    Channels have different means, rows different brightness, and texture reaches the highest frequency.
    """
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 6, count)
    palette = np.random.default_rng(99).uniform(0.1, 0.9, (6, 3))
    row, column = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    sky = np.array([0.55, 0.42, 0.3])[None, :, None, None] + 0.25 * (0.5 - row)
    coarse = generator.normal(0, 0.12, (count, 3, 6, 6))
    x = sky + interpolate(torch.from_numpy(coarse), (SIDE, SIDE), mode="bicubic").numpy()
    centre = generator.uniform(0.3, 0.7, (count, 2, 1, 1))
    radius = (0.12 + 0.04 * (kinds % 3))[:, None, None] * generator.uniform(0.8, 1.2, (count, 1, 1))
    inside = np.hypot(row - centre[:, 0], column - centre[:, 1]) < radius
    x = np.where(inside[:, None], palette[kinds][:, :, None, None], x)
    contrast = np.exp(generator.normal(0, 0.15, (count, 1, 1, 1)))
    grain = generator.normal(0, 0.02, (count, 1, SIDE, SIDE)) * (row > 0.6)
    x = 0.47 + (x - 0.47) * contrast + grain
    return np.clip(np.floor(255 * x), 0, 255).astype(np.uint8), kinds


class ColourNetwork(nn.Module):
    """Two convolutions with fixed random weights; 64 pooled features, 6 logits."""

    def __init__(self, seed: int, flatten: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 32, 5, stride=2)
            self.norm = nn.BatchNorm2d(32)
            self.conv2 = nn.Conv2d(32, 64, 3, stride=2)
            self.head = nn.Linear(64, 6)
        self.flatten = flatten

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.relu(self.conv2(torch.relu(self.norm(4 * self.conv1(x)))))
        pooled = 10 * maps.mean(dim=(2, 3))
        return (10 * maps.flatten(1) if self.flatten else pooled), self.head(pooled)


@functools.cache
def colour_extractor(
    seed: int = 1, resize: str = "half-pixel", train: bool = False, flatten: bool = False
) -> NetworkExtractor:
    """A network with random weights of a seed, its resize to 40x40, eval or train mode, and layer."""

    def prepare(images: Tensor) -> Tensor:
        x = images.float() / 127.5 - 1
        return interpolate(x, (40, 40), mode="bilinear", align_corners=resize == "corner-aligned")

    network = ColourNetwork(seed, flatten).eval()
    dimension = network(prepare(torch.zeros(2, 3, SIDE, SIDE)))[0].shape[1]
    identity: dict[str, str | int] = {
        "network": "colour",
        "weights": f"{seed:08x}" + "0" * 56,
        "layer": "map" if flatten else "pool",
        "dimension": dimension,
        "resize": resize,
        "normalisation": "symmetric",
    }
    extractor = NetworkExtractor("colour", network, prepare, identity, channels=3)
    network.train(train)
    return extractor


_MADE: dict[tuple[object, bytes], tuple[np.ndarray, np.ndarray | None]] = {}


def image_set(name: str, images: np.ndarray, extractor: NetworkExtractor) -> ImageSet:
    """Images with the features and logits that an extractor gives, which are made once."""
    key = (extractor, hashlib.sha256(np.ascontiguousarray(images).data).digest())
    if key not in _MADE:
        _MADE[key] = _outputs(images, extractor)
    return ImageSet(name, images, *_MADE[key])


def _outputs(images: np.ndarray, extractor: NetworkExtractor) -> tuple[np.ndarray, np.ndarray | None]:
    parts = np.array_split(images, min(4, len(images)))
    blocks = [extractor(torch.from_numpy(np.ascontiguousarray(part))) for part in parts]
    features = np.concatenate([block.features.numpy() for block in blocks])
    logits = [block.logits.numpy() for block in blocks if block.logits is not None]
    return features, np.concatenate(logits) if logits else None


def evidence(
    generated: np.ndarray, reference: np.ndarray, extractor: NetworkExtractor, **more: Any
) -> Evidence:
    """Both sides' features made by one extractor from the images as they are."""
    return Evidence(
        image_set("generated", generated, extractor),
        image_set("reference", reference, extractor),
        extractor,
        **more,
    )


__all__ = [
    "Expectation",
    "colour_extractor",
    "colour_images",
    "digits",
    "digits_cnn",
    "evidence",
    "image_set",
]
