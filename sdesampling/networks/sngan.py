"""SN-GAN for 32x32 images (Miyato et al. 2018, table 3): ResNet generator and discriminator.

The names of parameters and buffers are those of torch_mimicry's sngan_32, so that its checkpoints load
strictly. Knows neither files nor sampling.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, linear, normalize, relu


class SNConv2d(nn.Conv2d):
    """A convolution whose weight is divided by its largest singular value, estimated by power iteration."""

    sn_u: Tensor
    sn_sigma: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        register_power_iteration(self, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, spectrally_normalised(self), self.bias, self.stride, self.padding)


class SNLinear(nn.Linear):
    """A linear map whose weight is divided by its largest singular value."""

    sn_u: Tensor
    sn_sigma: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        register_power_iteration(self, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, spectrally_normalised(self), self.bias)


def register_power_iteration(layer: nn.Module, outputs: int) -> None:
    """The left singular vector found so far, (1, outputs), and its singular value, (1,)."""
    layer.register_buffer("sn_u", torch.randn(1, outputs))
    layer.register_buffer("sn_sigma", torch.ones(1))


def spectrally_normalised(layer: SNConv2d | SNLinear) -> Tensor:
    """The layer's weight over its largest singular value, after one power iteration (Miyato et al., alg. 1).

    The iteration starts at the stored vector, which moves on in train mode alone: in eval mode the weight
    stays the same from call to call.
    """
    matrix = layer.weight.flatten(1)
    with torch.no_grad():
        v = normalize(layer.sn_u @ matrix)
        u = normalize(v @ matrix.t())
    sigma = (u @ matrix @ v.t()).squeeze(0)
    if layer.training:
        with torch.no_grad():
            layer.sn_u.copy_(u)
            layer.sn_sigma.copy_(sigma)
    return layer.weight / sigma


class GeneratorBlock(nn.Module):
    """Batch norm, ReLU and convolution twice, doubling the resolution bilinearly; beside a 1x1 shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.c2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.b1 = nn.BatchNorm2d(channels)
        self.b2 = nn.BatchNorm2d(channels)
        self.c_sc = nn.Conv2d(channels, channels, 1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c1(_doubled(relu(self.b1(x))))
        h = self.c2(relu(self.b2(h)))
        return h + self.c_sc(_doubled(x))


class DiscriminatorBlock(nn.Module):
    """ReLU and convolution twice, beside the identity, or a 1x1 shortcut where the resolution is halved."""

    def __init__(self, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.c1 = SNConv2d(channels, channels, 3, padding=1)
        self.c2 = SNConv2d(channels, channels, 3, padding=1)
        if down:
            self.c_sc = SNConv2d(channels, channels, 1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c2(relu(self.c1(relu(x))))
        return avg_pool2d(h, 2) + avg_pool2d(self.c_sc(x), 2) if self.down else h + x


class FirstDiscriminatorBlock(nn.Module):
    """Two convolutions that start at the image itself, and halve the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.c1 = SNConv2d(inputs, outputs, 3, padding=1)
        self.c2 = SNConv2d(outputs, outputs, 3, padding=1)
        self.c_sc = SNConv2d(inputs, outputs, 1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.c2(relu(self.c1(x))), 2) + self.c_sc(avg_pool2d(x, 2))


class SNGANGenerator(nn.Module):
    """Latents (batch, latent_dim) to images (batch, 3, 32, 32) in [-1, 1].

    Args:
        latent_dim: dimension of the standard normal latent (`nz`).
        width: channels throughout (`ngf`).
    """

    def __init__(self, latent_dim: int = 128, width: int = 256) -> None:
        super().__init__()
        self.l1 = nn.Linear(latent_dim, 16 * width)
        self.block2 = GeneratorBlock(width)
        self.block3 = GeneratorBlock(width)
        self.block4 = GeneratorBlock(width)
        self.b5 = nn.BatchNorm2d(width)
        self.c5 = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.xavier_uniform_(self.l1.weight)
        nn.init.xavier_uniform_(self.c5.weight)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.l1(latents).unflatten(1, (-1, 4, 4))
        h = self.block4(self.block3(self.block2(h)))
        return self.c5(relu(self.b5(h))).tanh()


class SNGANDiscriminator(nn.Module):
    """Images (batch, 3, 32, 32) in [-1, 1] to outputs (batch,).

    Trained with the hinge loss the output is no logit until it is calibrated.

    Args:
        width: channels throughout (`ndf`).
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.block1 = FirstDiscriminatorBlock(3, width)
        self.block2 = DiscriminatorBlock(width, down=True)
        self.block3 = DiscriminatorBlock(width, down=False)
        self.block4 = DiscriminatorBlock(width, down=False)
        self.l5 = SNLinear(width, 1)
        nn.init.xavier_uniform_(self.l5.weight)

    def forward(self, images: Tensor) -> Tensor:
        h = self.block4(self.block3(self.block2(self.block1(images))))
        return self.l5(relu(h).sum((2, 3))).squeeze(1)


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _initialise(block: nn.Module) -> None:
    """Xavier's initialisation, with gain sqrt(2) where a ReLU comes before or after."""
    for name, layer in block.named_children():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight, 1.0 if name == "c_sc" else math.sqrt(2))
