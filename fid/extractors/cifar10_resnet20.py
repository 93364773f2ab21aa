"""The CIFAR-10 ResNet-20 of He et al. 2015 (section 4.2) in the layout of akamaster's pytorch_resnet_cifar10.

A file of its own as each network has one: its layout of weights, its input convention and its feature layer.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fid.extractors.base import NetworkExtractor, file_sha256, load_weights, read_weights

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
IDENTITY: dict[str, str | int] = {
    "network": "cifar10-resnet20",
    "layer": "global average pool",
    "dimension": 64,
    "resize": "none",
    "normalisation": "ImageNet mean and standard deviation",
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (subsampled, zero channels added)."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        self.stride = 1 if incoming == outgoing else 2
        self.padding = (outgoing - incoming) // 2
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outgoing)
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outgoing)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding)))


class Cifar10ResNet(nn.Module):
    """Three stages of `blocks` basic blocks with 16, 32 and 64 channels; 6 blocks + 2 layers deep."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, 64) and logits (batch, 10) of normalised images (batch, 3, height, width)."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        features = x.mean(dim=(2, 3))
        return features, self.linear(features)


def _stage(incoming: int, outgoing: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(incoming, outgoing), *(BasicBlock(outgoing, outgoing) for _ in range(blocks - 1))
    )


def _prepare(images: Tensor) -> Tensor:
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def load(weights: Path, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The extractor with the weights of a file in akamaster's layout; features: the global average pool."""
    network = Cifar10ResNet()
    load_weights(network, read_weights(weights), weights)
    identity = {**IDENTITY, "weights": file_sha256(weights)}
    return NetworkExtractor("cifar10-resnet20", network, _prepare, identity, channels=3, device=device)
