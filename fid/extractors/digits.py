"""The shipped digits classifier as an extractor; the network itself is in `digits_cnn.py`.

Apart from the network so that the training loop needs no extractor. It must not know where weights come from.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fid.extractors.base import NetworkExtractor, file_sha256, load_weights, read_weights
from fid.extractors.digits_cnn import DigitsCNN

IDENTITY: dict[str, str | int] = {
    "network": "digits-cnn",
    "layer": "global average pool",
    "dimension": 64,
    "resize": "none",
    "normalisation": "x / 255",
}


def _prepare(images: Tensor) -> Tensor:
    return images.float() / 255


def load(weights: Path, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The extractor with the weights of a file; width, channels and classes follow from its tensors.

    Raises:
        ValueError: the file holds another network.
    """
    tensors = read_weights(weights)
    if not {"conv1.weight", "classifier.weight"} <= tensors.keys():
        raise ValueError(f"{weights} holds no digits-cnn: conv1.weight or classifier.weight is missing")
    width, channels = tensors["conv1.weight"].shape[:2]
    network = DigitsCNN(channels=channels, classes=len(tensors["classifier.weight"]), width=width)
    load_weights(network, tensors, weights)
    identity = {**IDENTITY, "weights": file_sha256(weights), "dimension": network.dimension}
    return NetworkExtractor("digits-cnn", network, _prepare, identity, channels=channels, device=device)
