"""The FID Inception as an extractor: resize, normalisation and layer by name, weights of the published ports.

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
from fid.extractors.inception_network import LAYERS, FidInception

SIDE = 299

IDENTITY: dict[str, str | int] = {
    "network": "inception",
    "layer": "pool",
    "dimension": 2048,
    "resize": "tf1-bilinear",
    "normalisation": "tf",
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
    return interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def _antialiased_bicubic(images: Tensor) -> Tensor:
    return interpolate(images, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True).clamp(
        0, 255
    )


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,  # the FID of the paper and score_sde
    "half-pixel": _half_pixel,  # pytorch-fid
    "antialiased-bilinear": _antialiased_bilinear,  # torchmetrics' default
    "antialiased-bicubic": _antialiased_bicubic,  # in the manner of clean-fid
}
NORMALISATIONS: dict[str, tuple[float, float]] = {
    "tf": (128.0, 128.0),  # (x - 128) / 128: the 2015 graph, torch-fidelity
    "symmetric": (127.5, 127.5),  # (x - 127.5) / 127.5: pytorch-fid
}


def load(
    weights: Path,
    device: str | torch.device = "cpu",
    layer: str = "pool",
    resize: str = "tf1-bilinear",
    normalisation: str = "tf",
) -> NetworkExtractor:
    """The extractor with the weights of pytorch-fid's or torch-fidelity's port, which share their layout.

    Batch norms are folded into the convolutions and memory is channels-last: 1e-6 from the plain formulation,
    and faster.

    Raises:
        ValueError: unknown layer, resize or normalisation, or weights of another network.
    """
    for what, value, known in (("resize", resize, RESIZES), ("normalisation", normalisation, NORMALISATIONS)):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}: known are {', '.join(known)}")
    network = FidInception(layer)
    load_weights(network, read_weights(weights), weights)
    network.eval().requires_grad_(False)
    network.fold()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    offset, scale = NORMALISATIONS[normalisation]

    def prepare(images: Tensor) -> Tensor:
        resized = RESIZES[resize](images.float())
        return resized.sub_(offset).div_(scale).contiguous(memory_format=torch.channels_last)

    identity = {
        **IDENTITY,
        "weights": file_sha256(weights),
        "layer": layer,
        "dimension": LAYERS[layer],
        "resize": resize,
        "normalisation": normalisation,
    }
    return NetworkExtractor("inception", network, prepare, identity, channels=3, device=device)
