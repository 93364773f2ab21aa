"""Residual blocks of DDPM and BigGAN, conditioned on an embedding of time; each with DDPM's layer names.

Knows images and embeddings, no labels and no noise.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdesampling.networks.attention import NIN
from sdesampling.networks.layers import conv1x1, conv3x3, linear, rescaled_sum
from sdesampling.networks.normalisation import NONLINEARITIES, normalise
from sdesampling.networks.resampling import Resample


class ResidualBlock(nn.Module):
    """(batch, inputs, height, width) and an embedding (batch, features) to (batch, outputs, ...).

    Args:
        inputs, outputs: channels.
        groups: of the group norms of the inputs and of the outputs.
        embedding: features of the embedding of time.
        nonlinearity: a name of NONLINEARITIES.
        dropout: probability, in train mode.
        init_scale: of the last convolution; 0 starts with the skip connection alone.
        skip_rescale: divide the sum of both ways by sqrt(2), which keeps its variance.
        style: `ddpm` has a linear map in the skip connection where the channels change; `biggan` a 1x1
            convolution, also where the resolution changes.
        direction: `up` or `down` for a biggan block that doubles or halves the resolution.
        taps: of the FIR filter of such a block; empty for a plain one.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: tuple[int, int],
        embedding: int,
        *,
        nonlinearity: str = "swish",
        dropout: float = 0.0,
        init_scale: float = 0.0,
        skip_rescale: bool = False,
        style: str = "ddpm",
        direction: str | None = None,
        taps: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.GroupNorm_0 = nn.GroupNorm(groups[0], inputs, eps=1e-6)
        self.Conv_0 = conv3x3(inputs, outputs)
        self.Dense_0 = linear(embedding, outputs)
        self.GroupNorm_1 = nn.GroupNorm(groups[1], outputs, eps=1e-6)
        self.Dropout_0 = nn.Dropout(dropout)
        self.Conv_1 = conv3x3(outputs, outputs, init_scale)
        if style == "biggan" and (inputs != outputs or direction):
            self.Conv_2 = conv1x1(inputs, outputs)
        elif inputs != outputs:
            self.NIN_0 = NIN(inputs, outputs)
        self.resample = Resample(direction, taps) if direction else None
        self.activation = NONLINEARITIES[nonlinearity]
        self.gain = math.sqrt(0.5) if skip_rescale else 1.0

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """embedding: after its nonlinearity; None for a network that is not conditioned on time."""
        inplace = not torch.is_grad_enabled()
        h = self.activation(normalise(self.GroupNorm_0, x), inplace=inplace)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.Conv_0(h)
        shift = None if embedding is None else self.Dense_0(embedding)
        h = self.activation(normalise(self.GroupNorm_1, h, shift), inplace=inplace)
        h = self.Conv_1(self.Dropout_0(h))
        if hasattr(self, "Conv_2"):
            x = self.Conv_2(x)
        elif hasattr(self, "NIN_0"):
            x = self.NIN_0(x)
        return rescaled_sum(x, h, self.gain)
