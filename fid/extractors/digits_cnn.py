"""The digits classifier whose pooled layer replaces Inception's on 8x8 digits.

The network alone, so that the training loop and the extractor share one definition. It must not know about
files or data sets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Three 3x3 convolutions with ReLU, one 2x2 maximum pool, a global average pool and a linear classifier.

    The features are the globally pooled activations after the last ReLU, hence non-negative, as are the
    2048 features of the FID Inception network. Any image side of at least 2 pixels works.
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 32, dropout: float = 0.2) -> None:
        super().__init__()
        self.dimension = 2 * width
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images.

        Args:
            images: (batch, channels, height, width) float in [0, 1].

        Returns:
            Features (batch, 2 * width), non-negative, and logits (batch, classes).
        """
        x = torch.relu(self.conv1(2 * images - 1))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x))
        features = x.mean(dim=(2, 3))
        return features, self.classifier(self.dropout(features))
