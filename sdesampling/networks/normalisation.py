"""Group norm followed by a nonlinearity, the step before every convolution of the score_sde networks.

Apart from the layers because in sampling it takes as long as many convolutions: there it is computed with
few temporaries, in the memory layout (channels last) that the convolutions want.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, relu, silu

Nonlinearity = Callable[..., Tensor]


def _leaky_relu(x: Tensor, inplace: bool = False) -> Tensor:
    return leaky_relu(x, 0.2, inplace)


NONLINEARITIES: dict[str, Nonlinearity] = {"swish": silu, "relu": relu, "elu": elu, "lrelu": _leaky_relu}


def normalise(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None = None) -> Tensor:
    """Group norm of x + shift. x: (batch, channels, height, width); shift: (batch or 1, channels)."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return norm(x if shift is None else x + shift[:, :, None, None])
    return _normalise_on_cpu(norm, x, shift)


def _normalise_on_cpu(norm: nn.GroupNorm, x: Tensor, shift: Tensor | None) -> Tensor:
    """From moments of single channels, so that PyTorch's slow reductions over groups are not needed.

    Moments are central throughout: nothing is lost where the mean is large beside the deviation.
    """
    batch, channels = x.shape[:2]
    channel_mean = x.mean((2, 3))  # (batch, channels)
    deviation = x - channel_mean[:, :, None, None]
    channel_variance = deviation.mul_(deviation).mean((2, 3))
    if shift is not None:
        channel_mean = channel_mean + shift
    grouped = channel_mean.view(batch, norm.num_groups, -1)
    mean = grouped.mean(2, keepdim=True)  # (batch, groups, 1)
    spread = (grouped - mean).square_().mean(2, keepdim=True)
    variance = channel_variance.view_as(grouped).mean(2, keepdim=True) + spread
    scale = ((variance + norm.eps).rsqrt() * norm.weight.view(1, norm.num_groups, -1)).view(batch, channels)
    offset = norm.bias - mean.expand_as(grouped).reshape(batch, channels) * scale
    if shift is not None:
        offset = offset + shift * scale
    return torch.addcmul(offset[:, :, None, None], x, scale[:, :, None, None], out=deviation)
