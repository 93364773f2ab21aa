"""What a score network is told about time or noise: embeddings of labels, and the scales that labels count.

Always computed in float32, whatever the precision of the network: the highest frequencies need its digits.
"""

import math

import torch
from torch import Tensor, nn


class GaussianFourierProjection(nn.Module):
    """Sines and cosines of random frequencies (Tancik et al. 2020), drawn once and never trained.

    (batch,) to (batch, 2 * features). The frequencies `W` are a parameter without gradient, because that is
    where score_sde's checkpoints have them.
    """

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(features) * scale, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        angles = values.float()[:, None] * self.W.float() * 2 * math.pi
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def positional_embedding(labels: Tensor, features: int) -> Tensor:
    """Sinusoidal embedding of whole or fractional labels, (batch,) to (batch, features), in float32.

    The wave numbers fall geometrically from 1 to 1e-4 (Ho et al. 2020, after Vaswani et al. 2017). An odd
    number of features is filled up with a zero.
    """
    half = features // 2
    exponents = torch.arange(half, dtype=torch.float32, device=labels.device)
    wave_numbers = torch.exp(exponents * -(math.log(10000) / (half - 1)))
    angles = labels.float()[:, None] * wave_numbers
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(embedding, (0, features % 2))


def geometric_sigmas(sigma_min: float, sigma_max: float, scales: int) -> Tensor:
    """Noise scales, (scales,) float32, falling geometrically from sigma_max to sigma_min.

    Raises ValueError unless 0 < sigma_min <= sigma_max and there is at least one scale.
    """
    if not 0 < sigma_min <= sigma_max or scales < 1:
        raise ValueError(
            f"sigma_min = {sigma_min}, sigma_max = {sigma_max}, num_scales = {scales}: "
            "must be 0 < sigma_min <= sigma_max and num_scales >= 1"
        )
    logarithms = torch.linspace(math.log(sigma_max), math.log(sigma_min), scales, dtype=torch.float64)
    return logarithms.exp().float()


def sigma_of_label(sigmas: Tensor, labels: Tensor) -> Tensor:
    """Noise scale of every label, (batch,) each; `sigmas` is (scales,).

    A fractional label lies between two trained scales; its sigma is interpolated linearly in the logarithm,
    as the scales themselves are spaced. Labels beyond the last scale have its sigma.
    """
    if not labels.is_floating_point():
        return sigmas[labels]
    last = len(sigmas) - 1
    below = labels.floor().clamp(0, last)
    above = (below + 1).clamp(max=last)
    lower, upper = sigmas[below.long()], sigmas[above.long()]
    return lower * (upper / lower) ** (labels - below)
