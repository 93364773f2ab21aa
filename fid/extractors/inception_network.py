"""The Inception network of FID (TensorFlow graph of 2015-12-05) in PyTorch, with torchvision's names.

A file of its own for the layers alone; resize, normalisation and weight files are in `inception.py`. It
differs from torchvision's Inception-v3: average pools leave padding out of their count, the last block pools
by maximum, and there are 1008 classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

CLASSES = 1008
LAYERS = {"pool64": 64, "pool192": 192, "pool768": 768, "pool": 2048}  # averaged maps, by name


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, incoming: int, outgoing: int, kernel: int | tuple[int, int], stride: int = 1, same: bool = False
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same else 0
        self.conv = nn.Conv2d(incoming, outgoing, sides, stride=stride, padding=padding, bias=False)
        self.bn: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outgoing, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn(self.conv(x)))

    def fold(self) -> None:
        """Put the batch norm of eval mode into the convolution: the same map, one pass over memory less."""
        bn = self.bn
        if isinstance(bn, nn.Identity) or bn.running_mean is None or bn.running_var is None:
            return
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        bias = bn.bias.double() - bn.running_mean.double() * scale
        self.conv.weight.data = (self.conv.weight.double() * scale[:, None, None, None]).float()
        self.conv.bias = nn.Parameter(bias.float(), requires_grad=False)
        self.bn = nn.Identity()


def _average(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _averaged(x: Tensor) -> Tensor:
    """(batch, channels) float32 average over positions, whatever the maps are in."""
    return x.mean(dim=(2, 3), dtype=torch.float32)


def pooled_branch(unit: ConvUnit, x: Tensor) -> Tensor:
    """`unit` of the 3x3 averages of x, as the average of its 1x1 convolution: equal, as both are linear.

    Averages then run over a quarter or less of the channels.
    """
    return torch.relu_(_average(unit.bn(unit.conv(x))))


class Mixed35(nn.Module):
    """Block at 35x35: branches 1x1, 5x5, double 3x3, pool."""

    def __init__(self, incoming: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(incoming, 64, 1)
        self.branch5x5_1 = ConvUnit(incoming, 48, 1)
        self.branch5x5_2 = ConvUnit(48, 64, 5, same=True)
        self.branch3x3dbl_1 = ConvUnit(incoming, 64, 1)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, same=True)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, same=True)
        self.branch_pool = ConvUnit(incoming, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, pooled_branch(self.branch_pool, x)], dim=1)


class Reduction17(nn.Module):
    """From 35x35 to 17x17."""

    def __init__(self, incoming: int) -> None:
        super().__init__()
        self.branch3x3 = ConvUnit(incoming, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvUnit(incoming, 64, 1)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, same=True)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, max_pool2d(x, 3, stride=2)], dim=1)


class Mixed17(nn.Module):
    """Block at 17x17: 7x7 convolutions factored into 1x7 and 7x1."""

    def __init__(self, incoming: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(incoming, 192, 1)
        self.branch7x7_1 = ConvUnit(incoming, inner, 1)
        self.branch7x7_2 = ConvUnit(inner, inner, (1, 7), same=True)
        self.branch7x7_3 = ConvUnit(inner, 192, (7, 1), same=True)
        self.branch7x7dbl_1 = ConvUnit(incoming, inner, 1)
        self.branch7x7dbl_2 = ConvUnit(inner, inner, (7, 1), same=True)
        self.branch7x7dbl_3 = ConvUnit(inner, inner, (1, 7), same=True)
        self.branch7x7dbl_4 = ConvUnit(inner, inner, (7, 1), same=True)
        self.branch7x7dbl_5 = ConvUnit(inner, 192, (1, 7), same=True)
        self.branch_pool = ConvUnit(incoming, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, pooled_branch(self.branch_pool, x)], dim=1)


class Reduction8(nn.Module):
    """From 17x17 to 8x8."""

    def __init__(self, incoming: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvUnit(incoming, 192, 1)
        self.branch3x3_2 = ConvUnit(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvUnit(incoming, 192, 1)
        self.branch7x7x3_2 = ConvUnit(192, 192, (1, 7), same=True)
        self.branch7x7x3_3 = ConvUnit(192, 192, (7, 1), same=True)
        self.branch7x7x3_4 = ConvUnit(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat([three, seven, max_pool2d(x, 3, stride=2)], dim=1)


class Mixed8(nn.Module):
    """Block at 8x8: 3x3 convolutions split into 1x3 beside 3x1; the last block pools by maximum."""

    def __init__(self, incoming: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = ConvUnit(incoming, 320, 1)
        self.branch3x3_1 = ConvUnit(incoming, 384, 1)
        self.branch3x3_2a = ConvUnit(384, 384, (1, 3), same=True)
        self.branch3x3_2b = ConvUnit(384, 384, (3, 1), same=True)
        self.branch3x3dbl_1 = ConvUnit(incoming, 448, 1)
        self.branch3x3dbl_2 = ConvUnit(448, 384, 3, same=True)
        self.branch3x3dbl_3a = ConvUnit(384, 384, (1, 3), same=True)
        self.branch3x3dbl_3b = ConvUnit(384, 384, (3, 1), same=True)
        self.branch_pool = ConvUnit(incoming, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        if self.maximum:
            pooled = self.branch_pool(max_pool2d(x, 3, stride=1, padding=1))
        else:
            pooled = pooled_branch(self.branch_pool, x)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            pooled,
        ]
        return torch.cat(parts, dim=1)


class FidInception(nn.Module):
    """Features of one layer and the logits of images (batch, 3, 299, 299), nominally in [-1, 1].

    Args:
        layer: `pool` (2048, the FID's) or the average of an earlier map: `pool64`, `pool192`, `pool768`.

    The logits leave the bias of the last layer out, as the inception score's original code does. Layers
    below the last give none, because the rest of the network is not run.
    """

    def __init__(self, layer: str = "pool") -> None:
        super().__init__()
        if layer not in LAYERS:
            raise ValueError(f"unknown layer {layer!r} of the FID Inception: known are {', '.join(LAYERS)}")
        self.layer = layer
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, same=True)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b = Mixed35(192, 32)
        self.Mixed_5c = Mixed35(256, 64)
        self.Mixed_5d = Mixed35(288, 64)
        self.Mixed_6a = Reduction17(288)
        self.Mixed_6b = Mixed17(768, 128)
        self.Mixed_6c = Mixed17(768, 160)
        self.Mixed_6d = Mixed17(768, 160)
        self.Mixed_6e = Mixed17(768, 192)
        self.Mixed_7a = Reduction8(768)
        self.Mixed_7b = Mixed8(1280, maximum=False)
        self.Mixed_7c = Mixed8(2048, maximum=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (batch, width of the layer) and logits (batch, 1008), None for lower layers."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = max_pool2d(x, 3, stride=2)
        if self.layer == "pool64":
            return _averaged(x), None
        x = max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        if self.layer == "pool192":
            return _averaged(x), None
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        if self.layer == "pool768":
            return _averaged(x), None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = _averaged(x)
        return features, nn.functional.linear(features, self.fc.weight)

    def fold(self) -> None:
        """Fold every batch norm into its convolution; eval mode only, not to be undone."""
        for module in self.modules():
            if isinstance(module, ConvUnit):
                module.fold()
