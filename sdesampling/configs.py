"""What a model is, as data: networks by name with their arguments, shape and range of the images, the SDE.

A configuration builds its networks and, once they have weights, the model. It is read from JSON, YAML and the
metadata of model files alike; it knows no file and no weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from torch import nn

from sdesampling.choices import check_arguments, one_of
from sdesampling.latent import Decoder, LatentModel
from sdesampling.networks import NCSNpp, build_network
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, SDES, VE

Model = ScoreModel | LatentModel | Decoder
Description = Mapping[str, Any]  # a name and its arguments in one mapping
Loss = Literal["logistic", "hinge", "least_squares", "wasserstein"]


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

    @property
    def network_names(self) -> tuple[str, ...]:
        """Names of its networks, as they are registered."""
        parts = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(part["name"] for part in parts if isinstance(part, Mapping) and "name" in part)

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
        for field in dataclasses.fields(FAMILIES[family]):
            check = _KINDS.get(str(field.type))
            if check and field.name in values and not check[0](values[field.name]):
                raise ModelError(f"{field.name} = {values[field.name]!r}: must be {check[1]}")
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
    loss: that the discriminator was trained with, which says what its output is: the logit for `logistic`
        alone.
    """

    family = "latent"
    generator: Description
    discriminator: Description
    latent_dim: int
    loss: Loss = "logistic"

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


@dataclass(frozen=True)
class DecoderConfig(ModelConfig):
    """A decoder with a standard normal latent, such as a VAE's.

    decoder: `name` and all arguments of the network.
    """

    family = "decoder"
    decoder: Description
    latent_dim: int

    def networks(self) -> dict[str, nn.Module]:
        return {"decoder": _network("decoder", self.decoder)}

    def model(self, networks: Mapping[str, nn.Module]) -> Decoder:
        try:
            return Decoder(networks["decoder"], self.latent_dim, self.shape, centered=self.centered)
        except ValueError as error:
            raise ModelError(str(error)) from error


FAMILIES: dict[str, type[ScoreConfig] | type[LatentConfig] | type[DecoderConfig]] = {
    each.family: each for each in (ScoreConfig, LatentConfig, DecoderConfig)
}


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


#: What a value must be, by the annotation of its field.
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_count, "a whole number above 0"),
    "int | None": (lambda value: value is None or _is_count(value), "a whole number above 0, or null"),
    "Description": (lambda value: isinstance(value, Mapping), "a mapping: a name and its arguments"),
    "Loss": (lambda value: value in get_args(Loss), f"one of {', '.join(get_args(Loss))}"),
}
