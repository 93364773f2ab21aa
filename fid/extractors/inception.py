"""The FID Inception as an extractor: layer, resize, normalisation, arithmetic by name, published weights.

Apart from the layers because these conventions, not the network, are where FIDs of different tools part. It
must not know where the weight file came from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fid.extractors.base import NetworkExtractor, file_sha256, load_weights, read_weights
from fid.extractors.inception_network import LAYERS, ConvUnit, FidInception

SIDE = 299
MICRO_BATCH = 32  # images that pass together: the first maps take 5.5 MB an image

IDENTITY: dict[str, str | int] = {
    "network": "inception",
    "layer": "pool",
    "dimension": 2048,
    "resize": "tf1-bilinear",
    "normalisation": "tf",
    "arithmetic": "float32",
}


def tf1_bilinear(images: Tensor) -> Tensor:
    """TensorFlow 1's bilinear resize of (batch, channels, height, width) to 299x299: no half-pixel centres.

    Output pixel i reads position i * (side / 299); this is what the 2015 graph does.
    """
    rows = _tf1_weights(images.shape[2], images.device)
    columns = _tf1_weights(images.shape[3], images.device)
    return rows @ images @ columns.T


def _tf1_weights(side: int, device: torch.device) -> Tensor:
    """(299, side) float32 interpolation matrix."""
    position = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(side / SIDE, dtype=torch.float32)
    low = position.floor().long()
    fraction = position - low
    high = (low + 1).clamp_max(side - 1)
    weights = torch.zeros(SIDE, side)
    weights.scatter_add_(1, low[:, None], (1 - fraction)[:, None])
    weights.scatter_add_(1, high[:, None], fraction[:, None])
    return weights.to(device)


def _half_pixel(images: Tensor) -> Tensor:
    return interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)


def _antialiased_bilinear(images: Tensor) -> Tensor:
    return _filtered(images, 1.0, lambda x: (1 - x).clamp_min(0))


def _antialiased_bicubic(images: Tensor) -> Tensor:
    return _filtered(images, 2.0, _cubic).clamp(0, 255)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -1/2, at distances x >= 0."""
    near = (1.5 * x - 2.5) * x.square() + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _filtered(images: Tensor, reach: float, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Pillow's resize of floating-point images to 299x299: a filter as wide as a pixel of the result.

    kernel: weights at distances in pixels, 0 beyond `reach`.
    """
    rows, columns = (_filter_weights(side, reach, kernel).to(images) for side in images.shape[2:])
    return rows @ images @ columns.T


def _filter_weights(side: int, reach: float, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """(299, side) float64 matrix; rows add up to 1, also where the filter reaches over the border."""
    width = max(side / SIDE, 1.0)  # pixels of the source; enlarged images are interpolated
    centre = (torch.arange(SIDE, dtype=torch.float64)[:, None] + 0.5) * side / SIDE
    apart = (torch.arange(side, dtype=torch.float64) + 0.5 - centre).abs() / width
    weights = torch.where(apart < reach, kernel(apart), torch.zeros_like(apart))
    return weights / weights.sum(dim=1, keepdim=True)


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,  # the FID of the paper and score_sde
    "half-pixel": _half_pixel,  # pytorch-fid
    "antialiased-bilinear": _antialiased_bilinear,  # torchmetrics' default
    "antialiased-bicubic": _antialiased_bicubic,  # clean-fid: Pillow's, each channel in floating point
}
NORMALISATIONS: dict[str, tuple[float, float]] = {
    "tf": (128.0, 128.0),  # (x - 128) / 128: the 2015 graph, torch-fidelity
    "symmetric": (127.5, 127.5),  # (x - 127.5) / 127.5: pytorch-fid
}

ARITHMETICS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,  # of the convolutions; averages over positions and logits stay float32
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "layer": tuple(LAYERS),
    "resize": tuple(RESIZES),
    "normalisation": tuple(NORMALISATIONS),
    "arithmetic": tuple(ARITHMETICS),
}


def conventions(name: str) -> dict[str, str] | None:
    """The options of `load` that a name stands for; None for another network's name.

    `inception` is the FID of the paper. Departures follow in the order layer, resize, normalisation,
    arithmetic: `inception-half-pixel-symmetric` is pytorch-fid's, `inception-bfloat16` is faster.

    Raises:
        ValueError: a name that begins like this network's, with an unknown or misplaced part.
    """
    rest = name.removeprefix("inception")
    if rest == name or (rest and not rest.startswith("-")):
        return None
    found = {}
    for option, known in _CHOICES.items():
        departures = [value for value in known if value != IDENTITY[option]]
        value = next((each for each in departures if f"{rest}-".startswith(f"-{each}-")), None)
        if value is not None:
            found[option] = value
            rest = rest.removeprefix(f"-{value}")
    if rest:
        listed = "; ".join(f"{option}: {', '.join(known)}" for option, known in _CHOICES.items())
        raise ValueError(
            f"unknown extractor {name!r}: after `inception` come departures from the usual, in this order: "
            f"{listed}"
        )
    return found


def identity(options: dict[str, str]) -> dict[str, str | int]:
    """The identity of the network under these options of `load`, but for the weights."""
    return {**IDENTITY, **options, "dimension": LAYERS[options.get("layer", "pool")]}


def load(
    weights: Path,
    device: str | torch.device = "cpu",
    layer: str = "pool",
    resize: str = "tf1-bilinear",
    normalisation: str = "tf",
    arithmetic: str = "float32",
) -> NetworkExtractor:
    """The extractor with the weights of pytorch-fid's or torch-fidelity's port, which share their layout.

    Batch norms are folded into the convolutions and memory is channels-last: 1e-6 from the plain formulation,
    and faster. bfloat16 is faster still where the processor has units for it, and moves features by about
    5e-3 of their size (docs/results.md states its effect on FID).

    Raises:
        ValueError: unknown layer, resize, normalisation or arithmetic, or weights of another network.
    """
    options = {"layer": layer, "resize": resize, "normalisation": normalisation, "arithmetic": arithmetic}
    for what, value in options.items():
        if value not in _CHOICES[what]:
            raise ValueError(f"unknown {what} {value!r}: known are {', '.join(_CHOICES[what])}")
    network = FidInception(layer)
    load_weights(network, read_weights(weights), weights)
    network.eval().requires_grad_(False)
    network.fold()
    dtype = ARITHMETICS[arithmetic]
    for unit in network.modules():
        if isinstance(unit, ConvUnit):
            unit.to(dtype)
            unit.conv.weight.data = unit.conv.weight.data.contiguous(memory_format=torch.channels_last)
    offset, scale = NORMALISATIONS[normalisation]

    def prepare(images: Tensor) -> Tensor:
        resized = RESIZES[resize](images.float())
        return resized.sub_(offset).div_(scale).to(dtype=dtype, memory_format=torch.channels_last)

    name = "-".join(["inception", *(value for what, value in options.items() if value != IDENTITY[what])])
    named = {**identity(options), "weights": file_sha256(weights)}
    return NetworkExtractor(name, network, prepare, named, 3, device, MICRO_BATCH)
