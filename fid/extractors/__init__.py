"""Feature networks by name. Every score says which one it was made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fid.extractors import cifar10_resnet20, digits, inception, mnist_lenet
from fid.extractors.base import Extractor, Features

EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "digits-cnn": digits.load,
    "mnist-lenet": mnist_lenet.load,
    "cifar10-resnet20": cifar10_resnet20.load,
    "inception": inception.load,
}
_IDENTITIES: dict[str, dict[str, str | int]] = {
    "digits-cnn": digits.IDENTITY,
    "mnist-lenet": mnist_lenet.IDENTITY,
    "cifar10-resnet20": cifar10_resnet20.IDENTITY,
    "inception": inception.IDENTITY,
}

__all__ = ["EXTRACTORS", "Extractor", "Features", "identity_of", "load_extractor", "register"]


def load_extractor(
    name: str, weights: Path | str, device: str | torch.device = "cpu", **options: str
) -> Extractor:
    """The extractor `name` with the weights of a file; options are those of its `load`.

    The FID Inception's options may be in its name: see `inception.conventions`.

    Raises:
        ValueError: unknown name, or weights of another network.
        FileNotFoundError: no such file.
    """
    named = inception.conventions(name)
    if named is not None:
        return inception.load(Path(weights), device=device, **{**named, **options})
    if name not in EXTRACTORS:
        raise ValueError(f"unknown extractor {name!r}: known are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name](Path(weights), device=device, **options)


def identity_of(name: str) -> dict[str, str | int]:
    """The identity of extractor `name` with its usual options, but for the weights: no file is read.

    Raises:
        ValueError: unknown name.
    """
    named = inception.conventions(name)
    if named is not None:
        return inception.identity(named)
    if name not in _IDENTITIES:
        raise ValueError(f"unknown extractor {name!r}: known are {', '.join(_IDENTITIES)}")
    return dict(_IDENTITIES[name])


def register(name: str, load: Callable[..., Extractor], identity: dict[str, str | int]) -> None:
    """Add an extractor of another package.

    Args:
        name: as in `FID[name]`, and the network of its identity.
        load: called with the path of a weight file and `device`.
        identity: with its usual options, but for the weights; see `Extractor`.

    Raises:
        ValueError: the name is taken.
    """
    if name in EXTRACTORS:
        raise ValueError(f"extractor {name!r} is there already")
    EXTRACTORS[name] = load
    _IDENTITIES[name] = identity
