"""Networks by name: score networks, generators and discriminators.

A factory of a score network takes `image_size` and `num_channels`, and `centered` (images in [-1, 1]); all
other arguments are its own.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from sdesampling.choices import check_arguments, one_of
from sdesampling.networks.conditional_mlp import ConditionalMLPDiscriminator, ConditionalMLPGenerator
from sdesampling.networks.csinva_dcgan import CsinvaDCGANDiscriminator, CsinvaDCGANGenerator
from sdesampling.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from sdesampling.networks.ddpm import DDPM
from sdesampling.networks.diffusers_unet import DiffusersUNet
from sdesampling.networks.mnist_mlp import MnistMLPDiscriminator, MnistMLPGenerator, MnistVAEDecoder
from sdesampling.networks.ncsn import NCSN
from sdesampling.networks.ncsnpp import NCSNpp
from sdesampling.networks.ncsnv2 import NCSNv2
from sdesampling.networks.sngan import SNGANDiscriminator, SNGANGenerator

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ncsnpp": NCSNpp,
    "ddpm": DDPM,
    "ncsn": NCSN,
    "ncsnv2": NCSNv2,
    "diffusers_unet": DiffusersUNet,
    "dcgan_generator": DCGANGenerator,
    "dcgan_discriminator": DCGANDiscriminator,
    "csinva_dcgan_generator": CsinvaDCGANGenerator,
    "csinva_dcgan_discriminator": CsinvaDCGANDiscriminator,
    "sngan_generator": SNGANGenerator,
    "sngan_discriminator": SNGANDiscriminator,
    "conditional_mlp_generator": ConditionalMLPGenerator,
    "conditional_mlp_discriminator": ConditionalMLPDiscriminator,
    "mnist_mlp_generator": MnistMLPGenerator,
    "mnist_mlp_discriminator": MnistMLPDiscriminator,
    "mnist_vae_decoder": MnistVAEDecoder,
}


def build_network(name: str, **arguments: Any) -> nn.Module:
    """The network of a name, freshly initialised. Raises ValueError for unknown names and arguments."""
    one_of("network", name, NETWORKS)
    check_arguments(f"network {name!r}", NETWORKS[name], arguments)
    return NETWORKS[name](**arguments)
