"""Networks by name: score networks, generators and discriminators.

A factory of a score network takes `image_size` and `num_channels`, and `centered` (images in [-1, 1]); all
other arguments are its own.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from sdesampling.choices import one_of
from sdesampling.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from sdesampling.networks.mnist_mlp import MnistMLPDiscriminator, MnistMLPGenerator, MnistVAEDecoder
from sdesampling.networks.ncsnpp import NCSNpp

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ncsnpp": NCSNpp,
    "dcgan_generator": DCGANGenerator,
    "dcgan_discriminator": DCGANDiscriminator,
    "mnist_mlp_generator": MnistMLPGenerator,
    "mnist_mlp_discriminator": MnistMLPDiscriminator,
    "mnist_vae_decoder": MnistVAEDecoder,
}


def build_network(name: str, **arguments: Any) -> nn.Module:
    """The network of a name, freshly initialised. Raises ValueError for unknown names and arguments."""
    one_of("network", name, NETWORKS)
    factory = NETWORKS[name]
    parameters = inspect.signature(factory).parameters
    for argument in arguments:
        one_of(f"argument of network {name!r}", argument, parameters)
    missing = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty and parameter.name not in arguments
    ]
    if missing:
        raise ValueError(f"network {name!r} needs {', '.join(missing)}")
    return factory(**arguments)
