"""A class-conditional GAN of fully connected layers (Mirza & Osindero 2014), for images of any size.

The layers are parameter-compatible with the well-known one of eriklindernoren/PyTorch-GAN (`cgan.py`), whose
state dicts load strictly. Knows neither files nor sampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ConditionalMLPGenerator(nn.Module):
    """Latents (batch, latent_dim) and classes (batch,) to images (batch, *shape) in [-1, 1].

    Args:
        image_size, num_channels: of the images.
        num_classes: classes are 0 to num_classes - 1.
        latent_dim: dimension of the standard normal latent.
    """

    def __init__(
        self, image_size: int, num_channels: int, num_classes: int = 10, latent_dim: int = 100
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.shape = (num_channels, image_size, image_size)
        self.label_emb = nn.Embedding(num_classes, num_classes)
        layers: list[nn.Module] = []
        inputs = latent_dim + num_classes
        for outputs in (128, 256, 512, 1024):
            layers.append(nn.Linear(inputs, outputs))
            if layers[1:]:
                layers.append(nn.BatchNorm1d(outputs, eps=0.8))  # the published eps
            layers.append(nn.LeakyReLU(0.2))
            inputs = outputs
        self.model = nn.Sequential(*layers, nn.Linear(inputs, math.prod(self.shape)), nn.Tanh())

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        return self.model(torch.cat([self.label_emb(classes), latents], dim=1)).view(-1, *self.shape)


class ConditionalMLPDiscriminator(nn.Module):
    """Images (batch, *shape) in [-1, 1] and classes (batch,) to outputs (batch,).

    The published one is trained by least squares, so its output is no logit until it is calibrated.

    Args:
        image_size, num_channels, num_classes: as of the generator.
    """

    def __init__(self, image_size: int, num_channels: int, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_embedding = nn.Embedding(num_classes, num_classes)
        self.model = nn.Sequential(
            nn.Linear(num_classes + num_channels * image_size**2, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 512),
            nn.Dropout(0.4),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 512),
            nn.Dropout(0.4),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1),
        )

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        return self.model(torch.cat([images.flatten(1), self.label_embedding(classes)], dim=1)).squeeze(1)
