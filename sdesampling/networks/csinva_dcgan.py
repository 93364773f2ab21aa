"""The DCGANs of csinva/gan-vae-pretrained-pytorch: CIFAR-10 (3x32x32) and MNIST (1x28x28).

Variants of PyTorch's DCGAN example, parameter-compatible with the published state dicts, which load strictly.
Knows neither files nor sampling.
"""

from typing import Literal

from torch import Tensor, nn

from sdesampling.choices import one_of

Data = Literal["cifar10", "mnist"]
_CHANNELS = {"cifar10": 3, "mnist": 1}


class CsinvaDCGANGenerator(nn.Module):
    """Latents (batch, latent_dim) to images in [-1, 1]: (batch, 3, 32, 32), for MNIST (batch, 1, 28, 28).

    Args:
        data: `cifar10` or `mnist`.
        latent_dim: dimension of the standard normal latent.
        width: channels of the last hidden scale (`ngf`).
    """

    def __init__(self, data: Data = "cifar10", latent_dim: int = 100, width: int = 64) -> None:
        super().__init__()
        one_of("data", data, _CHANNELS)
        layers: list[nn.Module] = []
        inputs = latent_dim
        for scale, multiple in enumerate((8, 4, 2, 1)):  # 4, 8, 16, 32 pixels
            stride, padding = (1, 0) if scale == 0 else (2, 1)
            outputs = multiple * width
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        margin = 2 if data == "mnist" else 0  # 32 pixels cut to 28
        layers += [nn.ConvTranspose2d(width, _CHANNELS[data], 1, padding=margin, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return self.main(latents[:, :, None, None])


class CsinvaDCGANDiscriminator(nn.Module):
    """Images in [-1, 1] to logits (batch,).

    The published network ends in a sigmoid, which has no parameters; it is left out, because latent Langevin
    dynamics needs the logit.

    Args:
        data: `cifar10` or `mnist`.
        width: channels of the first hidden scale (`ndf`).
    """

    def __init__(self, data: Data = "cifar10", width: int = 64) -> None:
        super().__init__()
        one_of("data", data, _CHANNELS)
        multiples = (1, 2, 4, 8) if data == "cifar10" else (1, 2, 4)
        layers: list[nn.Module] = []
        inputs = _CHANNELS[data]
        for multiple in multiples:
            layers.append(nn.Conv2d(inputs, multiple * width, 4, 2, 1, bias=False))
            if multiple > 1:
                layers.append(nn.BatchNorm2d(multiple * width))
            layers.append(nn.LeakyReLU(0.2))
            inputs = multiple * width
        kernel, padding = (2, 0) if data == "cifar10" else (4, 1)
        layers.append(nn.Conv2d(inputs, 1, kernel, 2, padding, bias=False))
        self.main = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images).flatten()
