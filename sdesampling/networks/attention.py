"""Self-attention over the pixels of an image, with one head, as in DDPM's U-Net."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from sdesampling.networks.layers import ddpm_initialise, rescaled_sum
from sdesampling.networks.normalisation import normalise


class NIN(nn.Module):
    """A linear map of the channels of every pixel ("network in network"). `W` is (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int, scale: float = 0.1) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(inputs, outputs))
        self.b = nn.Parameter(torch.zeros(outputs))
        ddpm_initialise(self.W, scale)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.W.t()[:, :, None, None], self.b)


class Attention(nn.Module):
    """x plus attention among its pixels; x is (batch, channels, height, width).

    Args:
        channels: of the image.
        groups: of the group norm.
        init_scale: of the last projection; 0 starts with the identity.
        skip_rescale: divide the sum by sqrt(2), which keeps its variance.
    """

    def __init__(
        self, channels: int, groups: int, init_scale: float = 0.0, skip_rescale: bool = False
    ) -> None:
        super().__init__()
        self.GroupNorm_0 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.NIN_0 = NIN(channels, channels)
        self.NIN_1 = NIN(channels, channels)
        self.NIN_2 = NIN(channels, channels)
        self.NIN_3 = NIN(channels, channels, init_scale)
        self.gain = math.sqrt(0.5) if skip_rescale else 1.0

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = normalise(self.GroupNorm_0, x).flatten(2).transpose(1, 2)  # (batch, pixels, channels)
        projections = (self.NIN_0, self.NIN_1, self.NIN_2)
        weight = torch.cat([layer.W for layer in projections], dim=1).t()
        bias = torch.cat([layer.b for layer in projections])
        queries, keys, values = linear(tokens, weight, bias).unsqueeze(1).chunk(3, dim=3)
        attended = scaled_dot_product_attention(queries, keys, values).squeeze(1)
        change = linear(attended, self.NIN_3.W.t(), self.NIN_3.b)
        change = change.transpose(1, 2).unflatten(2, (height, width))
        return rescaled_sum(x, change, self.gain)
