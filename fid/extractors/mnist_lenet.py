"""The LeNet of csinva's gan-vae-pretrained-pytorch as a feature network for MNIST and Fashion-MNIST.

A file of its own as each network has one: its layout of weights, its input convention and its feature layer.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from fid.extractors.base import NetworkExtractor, file_sha256, load_weights, read_weights

IDENTITY: dict[str, str | int] = {
    "network": "mnist-lenet",
    "layer": "f6 after ReLU",
    "dimension": 84,
    "resize": "bilinear, half-pixel centres, 32x32",
    "normalisation": "x / 255",
}


class MnistLeNet(nn.Module):
    """LeNet-5 with ReLU: convolutions of 6, 16 and 120 channels, then linear layers of 84 and 10."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(1, 6, 5),
                relu1=nn.ReLU(),
                s2=nn.MaxPool2d(2),
                c3=nn.Conv2d(6, 16, 5),
                relu3=nn.ReLU(),
                s4=nn.MaxPool2d(2),
                c5=nn.Conv2d(16, 120, 5),
                relu5=nn.ReLU(),
            )
        )
        self.fc = nn.ModuleDict({"f6": nn.Linear(120, 84), "f7": nn.Linear(84, 10)})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, 84) and logits (batch, 10) of images (batch, 1, 32, 32) in [0, 1]."""
        features = torch.relu(self.fc["f6"](self.convnet(images).flatten(1)))
        return features, self.fc["f7"](features)


def _prepare(images: Tensor) -> Tensor:
    scaled = images.float() / 255
    return nn.functional.interpolate(scaled, (32, 32), mode="bilinear", align_corners=False)


def load(weights: Path, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The extractor with the weights of a file in csinva's layout. Features: the 84-unit layer after ReLU."""
    network = MnistLeNet()
    load_weights(network, read_weights(weights), weights)
    identity = {**IDENTITY, "weights": file_sha256(weights)}
    return NetworkExtractor("mnist-lenet", network, _prepare, identity, channels=1, device=device)
