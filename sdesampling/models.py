"""Models as files: a configuration, the tensors of its networks and their source, in one safetensors file.

Configuration and source are one JSON text in the file's metadata (safetensors writes several in no fixed
order), so that a file says itself what it holds; the sha256 of the file is the model's identity. Networks are
built by name: a file is data, never code.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sdesampling.configs import Model, ModelConfig, ModelError

Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Source:
    """Where the weights of a model's file come from.

    layout: of the files they were read from, such as `score_sde checkpoint`.
    weights: exponential moving averages, or the weights as trained.
    step: of the optimiser; None where the files do not say.
    sha256: of the files, by role.
    """

    layout: str
    weights: Weights
    step: int | None
    sha256: Mapping[str, str]


def save_model(
    path: Path, config: ModelConfig, networks: Mapping[str, nn.Module], source: Source | None = None
) -> None:
    """Write a model. networks: by role, as `config.networks()` has them, with the weights to be kept.

    The same weights, configuration and source give the same bytes. Raises ModelError when the networks are
    not those of the configuration.
    """
    tensors = {name: each.detach().cpu().contiguous() for name, each in _tensors_of(networks).items()}
    check_tensors("these networks", tensors, expected_tensors(config))
    description = json.loads(config.to_json())
    if source is not None:
        description["source"] = dataclasses.asdict(source)
    save_file(tensors, path, metadata={"config": json.dumps(description, sort_keys=True)})


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read a model, ready for sampling: eval mode, no gradients of the weights.

    Raises ModelError when the file is something else, was cut off, or does not fit its own configuration.
    """
    config = read_config(path)
    networks = blank_networks(config)
    tensors = load_file(path, device=str(device))
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
    return ModelConfig.from_dict(_description(path)[0])


def read_source(path: Path) -> Source | None:
    """Where the weights of a model's file come from; None where it does not say. Raises ModelError."""
    source = _description(path)[1]
    return None if source is None else Source(**source)


def _description(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Configuration and source as they are written."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file, or only the beginning of one ({error})") from error
    if "config" not in metadata:
        raise ModelError(f"{path} does not say what model it holds: it was not written by this project")
    description = json.loads(metadata["config"])
    return description, description.pop("source", None)


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
            f"{what}: {len(differences)} tensors differ from the {len(expected)} expected, "
            f"first: {'; '.join(differences[:3])}"
        )
