"""Models as files: a configuration and the tensors of its networks, in one safetensors file.

The configuration is JSON in the file's metadata, so that a file says itself what it holds; the sha256 of the
file is the model's identity. Networks are built by name: a file is data, never code.
"""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sdesampling.choices import check_arguments, one_of
from sdesampling.latent import LatentModel
from sdesampling.networks import NCSNpp, build_network
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, SDES, VE

Model = ScoreModel | LatentModel
Description = Mapping[str, Any]  # a name and its arguments in one mapping


class ModelError(ValueError):
    """A configuration or a file that is not what it should be; the message says what it is instead."""


@dataclass(frozen=True)
class ModelConfig(ABC):
    """What a model is, apart from its weights; one subclass for each family.

    shape: (channels, height, width) of its images.
    centered: the networks' images are in [-1, 1] rather than [0, 1].
    """

    family: ClassVar[str]
    shape: tuple[int, int, int]
    centered: bool

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Its networks by role, freshly initialised. Raises ModelError."""

    @abstractmethod
    def model(self, networks: Mapping[str, nn.Module]) -> Model:
        """The model that consists of these networks. Raises ModelError."""

    def to_json(self) -> str:
        """JSON with sorted keys; the key `family` says the subclass."""
        return json.dumps({"family": self.family, **dataclasses.asdict(self)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelConfig:
        """The inverse of to_json. Raises ModelError."""
        return ModelConfig.from_dict(json.loads(text))

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> ModelConfig:
        """The configuration that a mapping describes, in a specification or a file. Raises ModelError."""
        values = dict(content)
        try:
            family = values.pop("family", None)
            one_of("family", family, FAMILIES)
            check_arguments(f"a {family} model", FAMILIES[family], values)
        except ValueError as error:
            raise ModelError(str(error)) from None
        shape = values["shape"]
        if not isinstance(shape, list | tuple) or len(shape) != 3 or not all(_is_count(n) for n in shape):
            raise ModelError(f"shape = {shape}: must be [channels, height, width]")
        return FAMILIES[family](**{**values, "shape": tuple(shape)})


@dataclass(frozen=True)
class ScoreConfig(ModelConfig):
    """A score network and the SDE that it was trained for.

    network: `name` and arguments; image_size, num_channels and centered follow from the fields here.
    sde: `family` (ve, vp, subvp) and the arguments of that SDE.
    continuous: trained on continuous times rather than on `scales` discrete ones.
    """

    family = "score"
    network: Description
    sde: Description
    continuous: bool = True
    scales: int | None = None

    def networks(self) -> dict[str, nn.Module]:
        channels, height, width = self.shape
        if height != width:
            raise ModelError(f"shape = {self.shape}: score networks take square images")
        given = {"image_size": height, "num_channels": channels, "centered": self.centered}
        twice = given.keys() & self.network.keys()
        if twice:
            raise ModelError(f"network: leave out {', '.join(sorted(twice))}, which the model's shape says")
        return {"network": _network("network", {**self.network, **given})}

    def model(self, networks: Mapping[str, nn.Module]) -> ScoreModel:
        if self.continuous == (self.scales is not None):
            raise ModelError(
                f"continuous = {self.continuous}, scales = {self.scales}: a discretely trained model needs "
                "its number of scales, a continuous one has none"
            )
        network = networks["network"]
        arguments = dict(self.sde)
        try:
            family = arguments.pop("family", None)
            one_of("sde family", family, SDES)
            check_arguments(f"sde {family!r}", SDES[family], arguments)
            model = ScoreModel(
                network,
                SDES[family](**arguments),
                self.shape,
                continuous=self.continuous,
                scales=self.scales,
                centered=self.centered,
            )
        except (TypeError, ValueError) as error:
            raise ModelError(str(error)) from error
        if self.scales is not None and isinstance(network, NCSNpp):
            _check_scales(network, model.sde, self.scales)
        return model


@dataclass(frozen=True)
class LatentConfig(ModelConfig):
    """A generator with a standard normal latent, and its discriminator.

    generator, discriminator: `name` and all arguments of each network.
    """

    family = "latent"
    generator: Description
    discriminator: Description
    latent_dim: int

    def networks(self) -> dict[str, nn.Module]:
        return {role: _network(role, getattr(self, role)) for role in ("generator", "discriminator")}

    def model(self, networks: Mapping[str, nn.Module]) -> LatentModel:
        try:
            return LatentModel(
                networks["generator"],
                networks["discriminator"],
                self.latent_dim,
                self.shape,
                centered=self.centered,
            )
        except ValueError as error:
            raise ModelError(str(error)) from error


FAMILIES: dict[str, type[ScoreConfig] | type[LatentConfig]] = {
    each.family: each for each in (ScoreConfig, LatentConfig)
}


def save_model(path: Path, config: ModelConfig, networks: Mapping[str, nn.Module]) -> None:
    """Write a model. networks: by role, as `config.networks()` has them, with the weights to be kept.

    The same weights and configuration give the same bytes. Raises ModelError when the networks are not those
    of the configuration.
    """
    tensors = {name: each.detach().cpu().contiguous() for name, each in _tensors_of(networks).items()}
    check_tensors("these networks", tensors, expected_tensors(config))
    save_file(tensors, path, metadata={"config": config.to_json()})


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read a model, ready for sampling: eval mode, no gradients of the weights.

    Raises ModelError when the file is something else, was cut off, or does not fit its own configuration.
    """
    config = read_config(path)
    networks = blank_networks(config)
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    check_tensors(str(path), tensors, _tensors_of(networks))
    for role, network in networks.items():
        prefix = f"{role}."
        network.load_state_dict(
            {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
        )
        network.to(device).requires_grad_(False)
    return config.model(networks)


def read_config(path: Path) -> ModelConfig:
    """The configuration that a model's file holds. Raises ModelError for other files."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file, or only the beginning of one ({error})") from error
    if "config" not in metadata:
        raise ModelError(f"{path} does not say what model it holds: it was not written by this project")
    return ModelConfig.from_json(metadata["config"])


def expected_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor of a model's file by name; their values mean nothing. Raises ModelError."""
    return _tensors_of(blank_networks(config))


def blank_networks(config: ModelConfig) -> dict[str, nn.Module]:
    """The networks of a model by role, before any value is drawn or read into them. Raises ModelError."""
    with _NothingDrawn():
        return config.networks()


def _tensors_of(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{role}.{name}": tensor
        for role, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of initial values, so that a large network is made at once.

    The meta device would serve as well, but for some operations there PyTorch imports its compiler, which
    takes longer than reading the model.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def check_tensors(
    what: str,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    error: type[ModelError] = ModelError,
) -> None:
    """Raise an error that counts the differences unless names and shapes are those expected."""
    missing = [name for name in expected if name not in tensors]
    surplus = [name for name in tensors if name not in expected]
    reshaped = [
        f"{name} is {tuple(tensors[name].shape)} in place of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    differences = [
        *(f"{name} is missing" for name in missing),
        *(f"{name} is unknown" for name in surplus),
        *reshaped,
    ]
    if differences:
        raise error(
            f"{what}: {len(differences)} tensors differ from the configuration's {len(expected)}, "
            f"first: {'; '.join(differences[:3])}"
        )


def _network(role: str, description: Description) -> nn.Module:
    arguments = dict(description)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ModelError(f"{role}: needs the name of a network and its arguments, got {dict(description)}")
    try:
        return build_network(name, **arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{role}: {error}") from error


def _check_scales(network: NCSNpp, sde: SDE, scales: int) -> None:
    """Raise ModelError unless the scales that a discretely trained network counts are those of its SDE."""
    if network.embedding_type == "fourier":
        raise ModelError(
            "a discretely trained network counts its scales: embedding_type fourier takes sigmas"
        )
    if not isinstance(sde, VE):
        return
    ours = (len(network.sigmas), *network.sigmas[[0, -1]].tolist())
    theirs = (scales, sde.sigma_max, sde.sigma_min)
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(ours, theirs, strict=True)):
        raise ModelError(
            "noise scales: the network has {} from {:g} to {:g}".format(*ours)
            + ", the model {} from {:g} to {:g}".format(*theirs)
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
