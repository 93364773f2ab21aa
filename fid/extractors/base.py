"""What an extractor is: a callable from uint8 images to features, with an identity that every score states.

The interface and its one implementation for PyTorch networks live here, and the reading of weight files. It
must not know any particular network.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn


@dataclass(frozen=True)
class Features:
    """What an extractor gives for one batch, on the CPU."""

    features: Tensor  # (batch, dimension) float32
    logits: Tensor | None  # (batch, classes) float32


class Extractor(Protocol):
    """Images to features.

    Attributes:
        name: as in `FID[name]`.
        dimension: number of features.
        identity: network, weights (sha256), layer, dimension, resize, normalisation: all that the features
            depend on beside the images and the arithmetic of the device.
    """

    name: str
    dimension: int
    identity: dict[str, str | int]

    def __call__(self, images: Tensor) -> Features:
        """Features of images: (batch, channels, height, width) uint8."""


class NetworkExtractor:
    """An extractor made of a PyTorch network in eval mode without gradients.

    Args:
        name: as in `FID[name]`.
        network: maps prepared images to (features, logits or None).
        prepare: maps uint8 images to what the network reads; its words are `resize` and `normalisation`.
        identity: see `Extractor`.
        channels: of the images; 3 takes grey images too, repeated.
        micro_batch: images that pass together, always cut from the first on; None: all of a call.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        identity: dict[str, str | int],
        channels: int,
        device: str | torch.device = "cpu",
        micro_batch: int | None = None,
    ) -> None:
        self.name = name
        self.dimension = int(identity["dimension"])
        self.identity = identity
        self._network = network.to(device).eval().requires_grad_(False)
        self._prepare = prepare
        self._channels = channels
        self._device = device
        self._micro_batch = micro_batch

    def __call__(self, images: Tensor) -> Features:
        """Features of images: (batch, channels, height, width) uint8.

        Raises:
            ValueError: another type, shape or number of channels, or features that are not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                f"{self.name} reads uint8 images (batch, channels, height, width), "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        if images.shape[1] == 1 and self._channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if images.shape[1] != self._channels:
            raise ValueError(
                f"{self.name} reads {self._channels} channels, got images with {images.shape[1]}"
            )
        parts = [self._pass(part) for part in images.split(self._micro_batch or len(images))]
        features = torch.cat([part.features for part in parts])
        if not features.isfinite().all():
            raise ValueError(f"{self.name} gave features that are not finite: are its weights damaged?")
        logits = [part.logits for part in parts if part.logits is not None]
        return Features(features, torch.cat(logits) if logits else None)

    def _pass(self, images: Tensor) -> Features:
        with torch.inference_mode():
            features, logits = self._network(self._prepare(images.to(self._device)))
        return Features(features.float().cpu(), None if logits is None else logits.float().cpu())


#: What safetensors and torch raise for files of another kind and for damaged ones.
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU: safetensors or `torch.save`, told apart by content.

    A mapping under the key `state_dict` is opened, and the prefix `module.` of DataParallel removed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else.
    """
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"
    try:
        if is_safetensors:
            return safetensors.torch.load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is no file of weights, or a damaged one: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no tensors by name; expected a state dict")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill `network` with exactly these tensors; only BatchNorm's counters of training steps may be missing.

    Raises:
        ValueError: names or shapes differ; the message names the first few.
    """
    own = network.state_dict()
    counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    tensors = {**counters, **tensors}
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        names = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        first = ", ".join(f"{name}: {found.get(name)} instead of {expected.get(name)}" for name in names[:3])
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {len(names)} tensors differ: {first}"
        )
    network.load_state_dict(tensors)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
