"""The DCGAN family (Radford et al. 2015): generator and discriminator for square images of any power of two.

With no refinements the layers, and so the state dicts, are those of PyTorch's DCGAN example at 64x64; smaller
images drop the widest scales. Knows neither training nor sampling.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from sdesampling.choices import one_of

Normalisation = Literal["batch", "spectral", "none"]


class DCGANGenerator(nn.Module):
    """Latents (batch, latent_dim) to images (batch, channels, image_size, image_size) in [-1, 1].

    Args:
        image_size: side in pixels, 8, 16, 32, ...
        channels: colours of the image.
        latent_dim: dimension of the standard normal latent.
        width: channels of the last hidden scale; each coarser scale doubles them.
        refinements: 3x3 convolutions, each with batch norm and ReLU, that follow every hidden scale.
    """

    def __init__(
        self, image_size: int, channels: int, latent_dim: int = 100, width: int = 64, refinements: int = 0
    ) -> None:
        super().__init__()
        scales = _scales(image_size)
        layers: list[nn.Module] = []
        previous = latent_dim
        for scale in range(scales):
            current = width * 2 ** (scales - 1 - scale)
            stride, padding = (1, 0) if scale == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(previous, current, 4, stride, padding, bias=False))
            layers += [nn.BatchNorm2d(current), nn.ReLU()]
            for _ in range(refinements):
                layers.append(nn.Conv2d(current, current, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(current), nn.ReLU()]
            previous = current
        layers += [nn.ConvTranspose2d(previous, channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        return self.main(latents[:, :, None, None])


class DCGANDiscriminator(nn.Module):
    """Images (batch, channels, image_size, image_size) in [-1, 1] to logits (batch,), before any sigmoid.

    Args:
        image_size: side in pixels, 8, 16, 32, ...
        channels: colours of the image.
        width: channels of the first hidden scale; each coarser scale doubles them.
        refinements: 3x3 convolutions, each with normalisation and leaky ReLU, that follow every hidden scale.
        normalisation: `batch` as in DCGAN (every hidden layer but the first; convolutions without biases),
            `spectral` (every layer; Miyato et al. 2018), or `none`, for training with an R1 penalty.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        width: int = 64,
        refinements: int = 0,
        normalisation: Normalisation = "batch",
    ) -> None:
        super().__init__()
        one_of("normalisation", normalisation, get_args(Normalisation))
        self._normalisation = normalisation
        bias = normalisation != "batch"
        layers: list[nn.Module] = []
        previous = channels
        for scale in range(_scales(image_size)):
            current = width * 2**scale
            layers += self._block(nn.Conv2d(previous, current, 4, 2, 1, bias=bias), first=scale == 0)
            for _ in range(refinements):
                layers += self._block(nn.Conv2d(current, current, 3, padding=1, bias=bias))
            previous = current
        layers.append(self._normalised(nn.Conv2d(previous, 1, 4, bias=bias)))
        self.main = nn.Sequential(*layers)
        if normalisation == "batch":
            _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images).flatten()

    def _normalised(self, convolution: nn.Conv2d) -> nn.Module:
        return spectral_norm(convolution) if self._normalisation == "spectral" else convolution

    def _block(self, convolution: nn.Conv2d, first: bool = False) -> list[nn.Module]:
        layers = [self._normalised(convolution)]
        if self._normalisation == "batch" and not first:
            layers.append(nn.BatchNorm2d(convolution.out_channels))
        return [*layers, nn.LeakyReLU(0.2)]


def _scales(image_size: int) -> int:
    """Hidden scales from 4x4 up to half the image."""
    scales = (image_size // 4).bit_length() - 1
    if image_size < 8 or image_size != 4 * 2**scales:
        raise ValueError(f"image_size = {image_size}: must be 8, 16, 32, ... (4 times a power of two)")
    return scales


def _initialise(network: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, batch norm scales around 1 (Radford et al. 2015, sec. 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
