"""The plain layers of the score_sde networks: PyTorch's in DDPM's initialisation, and what sizes they allow.

Shared by the score networks of the score_sde family. Knows no architecture.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdesampling.networks.winograd import Conv3x3


def ddpm_initialise(weight: Tensor, scale: float = 1.0) -> None:
    """Fill a weight, (outputs, inputs, ...), uniformly with variance scale / mean of fan-in and fan-out.

    As in DDPM a scale of 0 stands for 1e-10: a layer that starts as good as silent and still gets gradients.
    """
    receptive_field = math.prod(weight.shape[2:])
    mean_fan = receptive_field * (weight.shape[0] + weight.shape[1]) / 2
    bound = math.sqrt(3 * (scale or 1e-10) / mean_fan)
    with torch.no_grad():
        weight.uniform_(-bound, bound)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer in DDPM's initialisation, its bias zero."""
    layer = nn.Linear(inputs, outputs)
    ddpm_initialise(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def conv3x3(inputs: int, outputs: int, scale: float = 1.0, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    """A 3x3 convolution in DDPM's initialisation, its bias zero."""
    return _initialised(Conv3x3(inputs, outputs, 3, stride, padding), scale)


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution in DDPM's initialisation, its bias zero."""
    return _initialised(nn.Conv2d(inputs, outputs, 1), 1.0)


def _initialised(convolution: nn.Conv2d, scale: float) -> nn.Conv2d:
    ddpm_initialise(convolution.weight, scale)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def rescaled_sum(x: Tensor, y: Tensor, gain: float) -> Tensor:
    """(x + y) * gain. Without gradients y is overwritten: memory that is warm is faster than new one."""
    if torch.is_grad_enabled():
        return x + y if gain == 1 else (x + y) * gain
    return y.add_(x) if gain == 1 else y.add_(x).mul_(gain)


def groups_of(channels: int) -> int:
    """Groups of a group norm: four channels each, at most 32. Raises ValueError where they do not divide."""
    groups = min(channels // 4, 32)
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{channels} channels cannot be normalised in {groups} groups: take nf a multiple of 4, and "
            "of 32 where there are more than 128 channels"
        )
    return groups


def check_sizes(image_size: int, nf: int, ch_mult: Sequence[int]) -> None:
    """Raise ValueError unless the image can be halved between the resolutions and nf can embed a label."""
    halvings = len(ch_mult) - 1
    if halvings < 0 or min(ch_mult) < 1:
        raise ValueError(f"ch_mult = {list(ch_mult)}: needs at least one multiple, each at least 1")
    if image_size < 1 or image_size % 2**halvings:
        raise ValueError(
            f"image_size = {image_size}: must be divisible by {2**halvings} for {len(ch_mult)} resolutions"
        )
    if nf < 4:
        raise ValueError(f"nf = {nf}: must be at least 4")
