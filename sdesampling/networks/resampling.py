"""Halving and doubling of the resolution: plain, or with a FIR filter against aliasing (Karras et al. 2019).

Filtering is one depthwise convolution in plain PyTorch; no compiled extension. Filters are tuples of taps,
made two-dimensional by their outer product. Knows no architecture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate, pad

from sdesampling.networks.layers import conv1x1, conv3x3


class Resample(nn.Module):
    """Halves or doubles height and width of (batch, channels, height, width). Without parameters.

    taps: the FIR filter, at least two taps; empty for the mean of 2x2 pixels or nearest neighbours. Pixels
        outside the image count as zero.
    """

    kernel: Tensor

    def __init__(self, direction: str, taps: Sequence[float] = ()) -> None:
        super().__init__()
        self.direction = direction
        self.taps = tuple(taps)
        if taps:
            kernel = fir_kernel(taps) * (4 if direction == "up" else 1)
            self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.taps:
            return interpolate(x, scale_factor=2) if self.direction == "up" else avg_pool2d(x, 2)
        excess = len(self.taps) - 2
        if self.direction == "up":
            return fir_upsample(x, self.kernel, excess)
        before, after = (excess + 1) // 2, excess // 2
        return fir_filter(x, self.kernel, before, after, stride=2)


class ResampleConv2d(nn.Module):
    """A 3x3 convolution that halves or doubles the resolution, with a FIR filter before or after it.

    StyleGAN2's fused pair: padding is done once, before the filter (Karras et al. 2019, appendix B).
    """

    kernel: Tensor

    def __init__(self, direction: str, inputs: int, outputs: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.Conv2d_0 = conv3x3(inputs, outputs)
        self.direction = direction
        self.excess = len(taps) - 2
        self.register_buffer("kernel", fir_kernel(taps) * (4 if direction == "up" else 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.Conv2d_0.weight, self.Conv2d_0.bias
        assert bias is not None
        if self.direction == "up":
            x = conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
            padding = self.excess - 2
            x = fir_filter(x, self.kernel, (padding + 1) // 2 + 1, padding // 2 + 1)
            return x + bias[:, None, None]
        padding = self.excess + 2
        x = fir_filter(x, self.kernel, (padding + 1) // 2, padding // 2)
        return conv2d(x, weight, bias, stride=2)


class PlainResampleConv2d(nn.Module):
    """A 3x3 convolution that halves the resolution, or follows its doubling by nearest neighbours (DDPM)."""

    def __init__(self, direction: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.direction = direction
        stride, padding = (1, 1) if direction == "up" else (2, 0)
        self.Conv_0 = conv3x3(inputs, outputs, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate(x, scale_factor=2) if self.direction == "up" else pad(x, (0, 1, 0, 1))
        return self.Conv_0(x)


class Combine(nn.Module):
    """Join the input pyramid to the image: a 1x1 convolution, then the sum or the concatenation."""

    def __init__(self, pyramid: int, width: int, method: str) -> None:
        super().__init__()
        self.Conv = conv1x1(pyramid, width)
        self.method = method

    def forward(self, pyramid: Tensor, h: Tensor) -> Tensor:
        joined = self.Conv(pyramid)
        return joined + h if self.method == "sum" else torch.cat([joined, h], dim=1)


def fir_kernel(taps: Sequence[float]) -> Tensor:
    """The two-dimensional filter of the taps, (taps, taps), of sum 1. Raises ValueError below two taps."""
    if len(taps) < 2 or sum(taps) == 0:
        raise ValueError(f"fir_kernel = {list(taps)}: needs at least two taps, of a sum other than 0")
    line = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def fir_filter(x: Tensor, kernel: Tensor, before: int, after: int, stride: int = 1) -> Tensor:
    """Convolve every channel with the kernel, padded by `before` zeros above and left, `after` elsewhere."""
    channels = x.shape[1]
    weight = kernel.flip(0, 1).expand(channels, 1, *kernel.shape)
    if before == after >= 0:
        return conv2d(x, weight, stride=stride, padding=before, groups=channels)
    return conv2d(pad(x, (before, after, before, after)), weight, stride=stride, groups=channels)


def fir_upsample(x: Tensor, kernel: Tensor, excess: int) -> Tensor:
    """Double the resolution: zeros between the pixels, then the kernel of 2 + excess taps.

    The transposed convolution is the whole of it; of its margin of `excess` rows the reference's padding
    leaves out the first `excess - (excess + 1) // 2`.
    """
    channels, height, width = x.shape[1:]
    weight = kernel.expand(channels, 1, *kernel.shape)
    if excess % 2 == 0:
        return conv_transpose2d(x, weight, stride=2, padding=excess // 2, groups=channels)
    first = excess // 2
    full = conv_transpose2d(x, weight, stride=2, groups=channels)
    return full[:, :, first : first + 2 * height, first : first + 2 * width]
