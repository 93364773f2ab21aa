"""A small diffusion U-Net as its own project would have it: it predicts DDPM's noise, and knows no sdesweep.

Its labels are indices of noise scales, 0 for the least noise; between them, for other numbers of steps than
it was trained on, they are fractional, which its embedding takes as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions; the label shifts the channels in between."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shift = nn.Linear(embedding, outputs)
        self.norm = nn.GroupNorm(4, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.norm(self.first(x)) + self.shift(embedding)[:, :, None, None]
        return self.shortcut(x) + self.second(nn.functional.silu(h))


class MnistUNet(nn.Module):
    """Noisy images (batch, num_channels, image_size, image_size) and labels (batch,) to their noise.

    Args:
        image_size, num_channels, centered: of the images; sdesweep fills them in from the model's shape.
            image_size is a multiple of 4, and the images are in [-1, 1] (centered).
        width: channels at full resolution.
    """

    def __init__(self, image_size: int, num_channels: int, centered: bool = True, width: int = 16) -> None:
        super().__init__()
        if image_size % 4 or not centered:
            raise ValueError("MnistUNet takes images in [-1, 1] whose side is a multiple of 4")
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.down1 = Block(num_channels, width, 4 * width)
        self.down2 = Block(width, 2 * width, 4 * width)
        self.middle = Block(2 * width, 2 * width, 4 * width)
        self.up2 = Block(4 * width, width, 4 * width)
        self.up1 = Block(2 * width, width, 4 * width)
        self.out = nn.Conv2d(width, num_channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        embedding = self.embed(self._waves(labels))
        fine = self.down1(x, embedding)
        coarse = self.down2(nn.functional.avg_pool2d(fine, 2), embedding)
        h = self.middle(nn.functional.avg_pool2d(coarse, 2), embedding)
        h = self.up2(torch.cat([_doubled(h), coarse], dim=1), embedding)
        return self.out(self.up1(torch.cat([_doubled(h), fine], dim=1), embedding))

    def _waves(self, labels: Tensor) -> Tensor:
        numbers = torch.arange(self.width // 2, device=labels.device)
        rates = torch.exp(-math.log(10000) * numbers / (self.width // 2))
        angles = labels.float()[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def _doubled(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0)
