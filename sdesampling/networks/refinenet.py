"""Blocks of RefineNet (Lin et al. 2017) as the networks of NCSN and NCSNv2 use them.

Written for norms that may be conditioned on a label: every block passes the labels on to its norms. The names
of the parameters are those of the published checkpoints. Knows neither noise scales nor images.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, elu, instance_norm, interpolate, max_pool2d

NormFactory = Callable[[int], nn.Module]  # channels to a norm, which is called with an image and labels


def conv3x3(inputs: int, outputs: int, bias: bool = True, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


def instance_norm_plus(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """InstanceNorm++ (Song & Ermon 2019, appendix A): instance norm that keeps how channels' means differ.

    gamma, alpha, beta: (batch or 1, channels).
    """
    means = x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    variance, centre = torch.var_mean(means, dim=1, keepdim=True)
    relative = (means - centre) / torch.sqrt(variance + 1e-5)
    offset = gamma * alpha * relative + beta
    return gamma[:, :, None, None] * instance_norm(x) + offset[:, :, None, None].to(x.dtype)


class InstanceNormPlus(nn.Module):
    """InstanceNorm++ with the same scales for all labels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(channels))
        self.gamma = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.alpha, 1, 0.02)
        nn.init.normal_(self.gamma, 1, 0.02)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return instance_norm_plus(x, self.gamma[None], self.alpha[None], self.beta[None])


class ConditionalInstanceNormPlus(nn.Module):
    """InstanceNorm++ with scales of its own for every label."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(labels, 3 * channels)
        with torch.no_grad():
            self.embed.weight[:, : 2 * channels].normal_(1, 0.02)
            self.embed.weight[:, 2 * channels :].zero_()

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return instance_norm_plus(x, *self.embed(labels).chunk(3, dim=1))


class ConvMeanPool(nn.Module):
    """A convolution, then the mean of 2x2 pixels."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.conv(x), 2)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut. A block that goes `down` halves the resolution or, from dilation 2
    on, keeps it and widens the convolutions' reach instead."""

    def __init__(self, inputs: int, outputs: int, norm: NormFactory, down: bool, dilation: int) -> None:
        super().__init__()
        hidden = inputs if down else outputs
        halved = down and dilation == 1
        self.conv1 = conv3x3(inputs, hidden, dilation=dilation)
        self.normalize2 = norm(hidden)
        self.conv2 = (
            ConvMeanPool(hidden, outputs, 3) if halved else conv3x3(hidden, outputs, dilation=dilation)
        )
        if halved:
            self.shortcut: nn.Module = ConvMeanPool(inputs, outputs, 1)
        elif down:
            self.shortcut = conv3x3(inputs, outputs, dilation=dilation)
        self.normalize1 = norm(inputs)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = self.conv1(elu(self.normalize1(x, labels)))
        h = self.conv2(elu(self.normalize2(h, labels)))
        return (self.shortcut(x) if hasattr(self, "shortcut") else x) + h


class ResidualConvUnits(nn.Module):
    """Pairs of convolutions without bias, each pair beside an identity."""

    def __init__(self, channels: int, units: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.units = units
        for unit in range(1, units + 1):
            for stage in (1, 2):
                if norm is not None:
                    self.add_module(f"{unit}_{stage}_norm", norm(channels))
                self.add_module(f"{unit}_{stage}_conv", conv3x3(channels, channels, bias=False))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        layers = dict(self.named_children())
        for unit in range(1, self.units + 1):
            h = x
            for stage in (1, 2):
                norm = layers.get(f"{unit}_{stage}_norm")
                h = layers[f"{unit}_{stage}_conv"](elu(h if norm is None else norm(h, labels)))
            x = x + h
        return x


class MultiResolutionFusion(nn.Module):
    """Brings images of several sizes and widths to one size and width, and adds them up."""

    def __init__(self, inputs: Sequence[int], outputs: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels, outputs) for channels in inputs)
        if norm is not None:
            self.norms = nn.ModuleList(norm(channels) for channels in inputs)

    def forward(self, images: Sequence[Tensor], labels: Tensor, size: Sequence[int]) -> Tensor:
        total: Tensor | None = None
        for index, (h, convolution) in enumerate(zip(images, self.convs, strict=True)):
            if hasattr(self, "norms"):
                h = self.norms[index](h, labels)
            h = convolution(h)
            if h.shape[2:] != torch.Size(size):
                h = interpolate(h, size=tuple(size), mode="bilinear", align_corners=True)
            total = h if total is None else total + h
        assert total is not None  # there are at least two images
        return total


class ChainedResidualPooling(nn.Module):
    """Two 5x5 poolings, each followed by a convolution without bias; all results are added up."""

    def __init__(self, channels: int, norm: NormFactory | None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels, channels, bias=False) for _ in range(2))
        if norm is not None:
            self.norms = nn.ModuleList(norm(channels) for _ in range(2))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = path = elu(x)
        for index, convolution in enumerate(self.convs):
            if hasattr(self, "norms"):  # NCSN pools means, NCSNv2, which has no norms here, maxima
                path = avg_pool2d(self.norms[index](path, labels), 5, stride=1, padding=2)
            else:
                path = max_pool2d(path, 5, stride=1, padding=2)
            path = convolution(path)
            x = path + x
        return x


class RefineBlock(nn.Module):
    """One stage on the way up: adapts its inputs, fuses them, pools, and convolves (Lin et al. 2017, fig. 3).

    Args:
        inputs: channels of each input.
        outputs: channels of the result.
        norm: makes the norms; None for a block without.
        output_units: residual units at the end.
    """

    def __init__(
        self, inputs: Sequence[int], outputs: int, norm: NormFactory | None, output_units: int = 1
    ) -> None:
        super().__init__()
        self.adapt_convs = nn.ModuleList(ResidualConvUnits(channels, 2, norm) for channels in inputs)
        self.output_convs = ResidualConvUnits(outputs, output_units, norm)
        if len(inputs) > 1:
            self.msf = MultiResolutionFusion(inputs, outputs, norm)
        self.crp = ChainedResidualPooling(outputs, norm)

    def forward(self, images: Sequence[Tensor], labels: Tensor, size: Sequence[int]) -> Tensor:
        adapted = [layer(h, labels) for layer, h in zip(self.adapt_convs, images, strict=True)]
        h = self.msf(adapted, labels, size) if len(adapted) > 1 else adapted[0]
        return self.output_convs(self.crp(h, labels), labels)
