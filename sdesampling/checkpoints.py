"""Checkpoints of others: the training states that score_sde, NCSN and NCSNv2 write with `torch.save`.

Read as data alone (`weights_only`), checked tensor by tensor, and given to this project's networks. Once
converted (`models.save_model`) a model no longer needs its checkpoint.
"""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sdesampling.choices import one_of
from sdesampling.models import ModelError, ScoreConfig, check_tensors, expected_tensors

Weights = Literal["ema", "raw"]


class CheckpointError(ModelError):
    """A file that is no usable checkpoint; the message says what it is instead."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    raw: the network's tensors as trained, by name.
    averaged: their exponential moving averages; a list counts the trained parameters in the network's order,
        as score_sde stores them, and None means that there are none.
    step: of the optimiser; None where the file does not say.
    sha256: of the file.
    """

    raw: dict[str, Tensor]
    averaged: Sequence[Tensor] | dict[str, Tensor] | None
    step: int | None
    sha256: str

    @property
    def parameters(self) -> int:
        """Number of raw values, buffers included."""
        return sum(tensor.numel() for tensor in self.raw.values())

    def network(self, config: ScoreConfig, weights: Weights = "ema") -> nn.Module:
        """The configuration's network with these weights, in eval mode.

        Raises CheckpointError when a tensor's name or shape, or the noise scales, are not those of the
        configuration, and when averages are asked for and there are none. Raises ModelError for a wrong
        configuration.
        """
        one_of("weights", weights, get_args(Weights))
        network = config.networks()["network"]
        try:
            check_tensors("checkpoint", self.raw, network.state_dict())
        except ModelError as error:
            raise CheckpointError(f"{error}{_fitting(self.raw)}") from None
        _check_sigmas(self.raw, network)
        tensors = self.raw if weights == "raw" else {**self.raw, **self._averages(network)}
        network.load_state_dict(tensors)
        return network.eval()

    def _averages(self, network: nn.Module) -> dict[str, Tensor]:
        if self.averaged is None:
            raise CheckpointError("the checkpoint has no averaged weights: ask for the raw ones")
        if isinstance(self.averaged, dict):
            check_tensors(
                "averaged weights", self.averaged, dict(network.named_parameters()), CheckpointError
            )
            return self.averaged
        trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
        if len(self.averaged) != len(trained):
            raise CheckpointError(
                f"{len(self.averaged)} averaged tensors, but {len(trained)} trained parameters in the network"
            )
        averages = dict(zip(trained, self.averaged, strict=True))
        check_tensors("averaged weights", averages, trained, CheckpointError)
        return averages


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. No code in the file is run.

    Raises CheckpointError when the file is something else or was cut off; OSError when it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    content = _load(path)
    if isinstance(content, list):
        return _ncsn(path, content, digest)
    return _score_sde(path, content, digest)


def _load(path: Path) -> Any:
    """The content of a file of `torch.save`: nested dicts and lists of tensors and numbers."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        raise CheckpointError(f"{path} is a safetensors file, no checkpoint of a training")
    if not start.startswith((_ZIP, _PICKLE)):
        raise CheckpointError(f"{path} is no file of torch.save: it starts with {start!r}")
    if start.startswith(_ZIP) and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated{_share(path)}: copy or download it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or a pickle of more than tensors and plain data, which is never loaded"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged or truncated: {_first_line(error)}") from error


_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of torch.save's files, since PyTorch 1.6 and before


def _share(path: Path) -> str:
    """How much of a truncated archive is there, in words; nothing where its list of contents is cut off."""
    try:
        return f" at about {path.stat().st_size / _complete_size(path):.0%}"
    except (ValueError, LookupError, struct.error):
        return ""


def _complete_size(path: Path) -> int:
    """Bytes of the whole zip archive that the pickle at its beginning describes, to a percent.

    Raises ValueError, LookupError or struct.error where that pickle is cut off or of another layout.
    """
    storages: dict[str, int] = {}
    memo: dict[Any, Any] = {}
    stack: list[Any] = []
    with path.open("rb") as file:
        name_length, extra_length = struct.unpack("<26x2H", file.read(30))
        file.seek(30 + name_length + extra_length)
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "BINPERSID":
                _, kind, key, _, count = stack[-5:]  # ("storage", type, key, device, count)
                storages[key] = count * _ITEM_SIZES[kind] + _ENTRY_SIZE
            elif opcode.name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1] if stack else None
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif argument is not None:
                stack.append(argument)
    return sum(storages.values())


_ENTRY_SIZE = 190  # what the archive adds to each storage, about
_ITEM_SIZES = {
    f"torch {kind}Storage": size
    for kind, size in {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4}.items()
}


def _score_sde(path: Path, content: Any, digest: str) -> Checkpoint:
    """{model, ema: {shadow_params, ...}, step, optimizer}."""
    if not isinstance(content, dict) or not {"model", "ema", "step"} <= content.keys():
        raise CheckpointError(f"{path} is no checkpoint of score_sde or NCSN, but {_what(content)}")
    shadow = content["ema"].get("shadow_params") if isinstance(content["ema"], dict) else None
    if not isinstance(shadow, list) or not all(isinstance(each, Tensor) for each in shadow):
        raise CheckpointError(
            f"{path}: its `ema` holds no list of shadow_params, but {_what(content['ema'])}"
        )
    return Checkpoint(_tensors(path, content["model"]), shadow, int(content["step"]), digest)


def _ncsn(path: Path, content: list[Any], digest: str) -> Checkpoint:
    """[network, optimizer] of NCSN; NCSNv2 adds epoch, step and the averages by name."""
    if len(content) not in (2, 4, 5):
        raise CheckpointError(f"{path} is no checkpoint of score_sde or NCSN, but {_what(content)}")
    step = int(content[3]) if len(content) > 3 else None
    averaged = _tensors(path, content[4]) if len(content) > 4 else None
    return Checkpoint(_tensors(path, content[0]), averaged, step, digest)


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """A state dict without DataParallel's prefix."""
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise CheckpointError(
            f"{path} should hold the tensors of a network by name, but holds {_what(state)}"
        )
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _what(content: Any) -> str:
    """What an unexpected content is, in words."""
    if isinstance(content, Mapping):
        names = ", ".join(str(name) for name in list(content)[:4])
        if {"state", "param_groups"} <= content.keys():
            return "the state of an optimizer"
        if content and all(isinstance(each, Tensor) for each in content.values()):
            return f"a plain state dict of {len(content)} tensors ({names}, ...)"
        return f"a mapping with the keys {names or '(none)'}"
    if isinstance(content, list | tuple):
        return f"a list of {len(content)}"
    return f"a {type(content).__name__}"


def _check_sigmas(tensors: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise CheckpointError unless the noise scales stored beside the weights are the configuration's."""
    if "sigmas" not in tensors:
        return
    stored, expected = tensors["sigmas"].double(), network.get_buffer("sigmas").double()
    if not torch.allclose(stored, expected, rtol=1e-4, atol=0):
        raise CheckpointError(
            f"the checkpoint's noise scales run from {stored[0]:g} to {stored[-1]:g}, the configuration's "
            f"from {expected[0]:g} to {expected[-1]:g}: set sigma_max and sigma_min of the network"
        )


def _fitting(tensors: Mapping[str, Tensor]) -> str:
    """Which published models have these tensors, to be added to an error."""
    from sdesampling.networks.published import PUBLISHED  # only errors need it

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    fits: dict[str, bool] = {}  # by description of the network, which several models share
    for config in PUBLISHED.values():
        if str(config.network) not in fits:
            expected = expected_tensors(config)
            fits[str(config.network)] = shapes == {
                name.removeprefix("network."): tensor.shape for name, tensor in expected.items()
            }
    fitting = [name for name, config in PUBLISHED.items() if fits[str(config.network)]]
    return f"; the tensors are those of {', '.join(fitting)}" if fitting else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
