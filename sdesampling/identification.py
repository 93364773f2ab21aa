"""Whose tensors these are: the words for an error when a file holds another network than the one asked for.

By exact shapes where they are a published model's, else by names that only one kind of network has.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdesampling.configs import ModelConfig
from sdesampling.models import expected_tensors
from sdesampling.networks.published import PUBLISHED, architecture

#: Parts of tensor names that tell a kind of network, the more particular first.
_SIGNS = (
    (("all_modules.",), "a score network of score_sde of another size or variant"),
    (("res1.0.", "refine1."), "an NCSN or NCSNv2 of another size or variant"),
    (("input_blocks.", "middle_block.", "time_embed."), "a U-Net of guided-diffusion"),
    (
        ("down_blocks.", "time_embedding.linear_1"),
        "a U-Net of diffusers; give its whole folder",
    ),
    (("Mixed_7c.",), "an Inception-v3, a feature network"),
    (("convnet.c1.",), "the LeNet classifier mnist-lenet, a feature network"),
    (("layer3.2.conv2.", "layer1.0.conv1."), "a ResNet classifier, a feature network"),
    (("block2.c_sc.sn_u",), "an SN-GAN discriminator of torch_mimicry"),
    (("block2.c1.", "l1.weight", "b5."), "an SN-GAN generator of torch_mimicry"),
    (("synthesis.", "mapping."), "a generator of StyleGAN"),
    (("fc21.", "fc4."), "the whole VAE mnist_vae"),
    (("main.0.", "main.1."), "a generator or discriminator of a DCGAN"),
    (("exp_avg",), "the state of an optimizer"),
)


def whose(tensors: Mapping[str, Tensor]) -> str:
    """What these tensors, by name, are of: `weights of NCSN++ (ve/cifar10_ncsnpp)`, for an error."""
    published = fitting(tensors)
    if published:
        kinds = dict.fromkeys(architecture(PUBLISHED[name.rpartition(" ")[2]]) for name in published)
        return f"weights of {' or '.join(kinds)} ({', '.join(published)})"
    for signs, kind in _SIGNS:
        if all(any(sign in name for name in tensors) for sign in signs):
            return f"by the names of its tensors {kind}"
    names = ", ".join(list(tensors)[:3])
    return f"{len(tensors)} tensors of nothing known here ({names}, ...)"


def fitting(tensors: Mapping[str, Tensor]) -> list[str]:
    """The published models, or their parts, that have exactly these tensors."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = []
    for name, config in PUBLISHED.items():
        sign = _SCORE_SIGNS.get(config.network_names[0], "")
        if not any(sign in part for part in shapes):
            continue  # spares building large networks
        for role, expected in _shapes(str(getattr(config, "network", name)), config).items():
            if expected == shapes:
                found.append(name if role == "network" else f"the {role} of {name}")
    return found


_SCORE_SIGNS = {"ncsnpp": "all_modules.", "ddpm": "all_modules.", "ncsn": "res1.0.", "ncsnv2": "res1.0."}
_known: dict[str, dict[str, dict[str, tuple[int, ...]]]] = {}


def _shapes(networks: str, config: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """Role -> tensor -> shape; `networks` tells configurations apart that have other networks."""
    if networks not in _known:
        by_role: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, tensor in expected_tensors(config).items():
            role, _, part = key.partition(".")
            by_role.setdefault(role, {})[part] = tuple(tensor.shape)
        _known[networks] = by_role
    return _known[networks]
