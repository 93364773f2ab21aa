"""Data whose score is known in closed form at every noise level: Gaussians, mixtures, and small data sets.

Each answers as a continuously trained network of its SDE would, so that samplers can be checked against exact
results and tried out without training.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, VE, per_sample


class AnalyticNetwork(nn.Module, ABC):
    """A network of a data distribution, asked with the labels of a continuously trained one.

    shape: (channels, height, width) of the data, which are in the range that the network would see.
    """

    def __init__(self, sde: SDE, shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"shape = {shape}: must be (channels, height, width)")
        self.sde = sde
        self.shape = (shape[0], shape[1], shape[2])

    @abstractmethod
    def score(self, x: Tensor, mean_coefficient: Tensor, std: Tensor) -> Tensor:
        """Score at x, (batch, *shape), of m data + std noise, with m and std of shape (batch,)."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """What a network would return: the score for VE, the noise, -std score, for VP and sub-VP."""
        if isinstance(self.sde, VE):
            return self.score(x, torch.ones_like(labels), labels)
        t = labels / 999
        std = self.sde.std(t)
        return -per_sample(std, x) * self.score(x, self.sde.mean_coefficient(t), std)

    def model(self) -> ScoreModel:
        """The ScoreModel of this network."""
        return ScoreModel(self, self.sde, self.shape)


class GaussianNetwork(AnalyticNetwork):
    """Independent normal values; mean and std, which must be positive, are (channels, height, width)."""

    def __init__(self, sde: SDE, mean: Tensor, std: Tensor) -> None:
        super().__init__(sde, tuple(mean.shape))
        if std.shape != mean.shape or not (std > 0).all():
            raise ValueError(f"std: must be positive and of the mean's shape {tuple(mean.shape)}")
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def score(self, x: Tensor, mean_coefficient: Tensor, std: Tensor) -> Tensor:
        m = per_sample(mean_coefficient, x)
        mean, data_std = self.get_buffer("mean").to(x.dtype), self.get_buffer("std").to(x.dtype)
        return (m * mean - x) / (m**2 * data_std**2 + per_sample(std, x) ** 2)


class MixtureNetwork(AnalyticNetwork):
    """A mixture of isotropic normals: weights (components,), means (components, *shape), stds (components,).

    Raises ValueError for weights that are not positive or do not sum to 1, and for stds that are not
    positive.
    """

    def __init__(self, sde: SDE, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        super().__init__(sde, tuple(means.shape[1:]))
        if not (weights.shape == stds.shape == means.shape[:1]):
            raise ValueError(
                f"{len(means)} means, {len(weights)} weights, {len(stds)} stds: must be as many of each"
            )
        if not (weights > 0).all() or abs(float(weights.sum()) - 1) > 1e-6:
            raise ValueError(f"weights: must be positive with sum 1, not {float(weights.sum())}")
        if not (stds > 0).all():
            raise ValueError("stds: must be positive")
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("stds", stds)

    def score(self, x: Tensor, mean_coefficient: Tensor, std: Tensor) -> Tensor:
        weights, means, stds = (self.get_buffer(name).to(x.dtype) for name in ("weights", "means", "stds"))
        points, centres, m = x.flatten(1), means.flatten(1), mean_coefficient[:, None]
        variances = m**2 * stds**2 + std[:, None] ** 2  # (batch, components)
        squares = (
            (points**2).sum(dim=1, keepdim=True) - 2 * m * points @ centres.T + m**2 * (centres**2).sum(dim=1)
        )
        log_densities = weights.log() - squares / (2 * variances) - centres.shape[1] / 2 * variances.log()
        pull = torch.softmax(log_densities, dim=1) / variances
        return (m * (pull @ centres) - pull.sum(dim=1, keepdim=True) * points).view_as(x)


class KernelDensityNetwork(MixtureNetwork):
    """A small data set, (images, *shape), each image a normal of standard deviation `bandwidth`.

    With a bandwidth near 0 samplers give back the images themselves, the limit of a perfectly trained
    network. Raises ValueError for bandwidths that are not positive.
    """

    def __init__(self, sde: SDE, images: Tensor, bandwidth: float) -> None:
        if not bandwidth > 0:
            raise ValueError(f"bandwidth = {bandwidth}: must be positive")
        each = torch.ones(len(images), dtype=images.dtype)
        super().__init__(sde, each / len(images), images, each * bandwidth)
