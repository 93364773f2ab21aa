"""Checkpoints of others: the training states and state dicts that published code writes with `torch.save`.

Read as data alone, checked tensor by tensor, and given to this project's networks. Once converted
(`models.save_model`) a model no longer needs its checkpoint. Knows layouts, no names of published models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from sdesampling.choices import one_of
from sdesampling.configs import ModelError, ScoreConfig
from sdesampling.identification import whose
from sdesampling.models import Weights, blank_networks, check_tensors
from sdesampling.networks.published import architecture
from sdesampling.torch_files import CheckpointError, load_weight_file


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    raw: the network's tensors as trained, by name.
    averaged: their exponential moving averages; a list counts the trained parameters in the network's order,
        as score_sde stores them, and None means that there are none.
    step: of the optimiser; None where the file does not say.
    sha256: of the file.
    layout: of the file, in words.
    decay: of the averages; None where the file does not say.
    """

    raw: dict[str, Tensor]
    averaged: Sequence[Tensor] | dict[str, Tensor] | None
    step: int | None
    sha256: str
    layout: str
    decay: float | None = None

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
        return self.fill(blank_networks(config)["network"], weights, architecture(config))

    def fill(self, network: nn.Module, weights: Weights, name: str) -> nn.Module:
        """A network, given these weights, in eval mode. name: of the network, for errors.

        A network that is a part of what others publish, such as a VAE's decoder, has a method `own_part`,
        which takes its own tensors from all of them; others are found where a `place` in the file has their
        tensors and none else. Raises as `network` does.
        """
        one_of("weights", weights, get_args(Weights))
        raw, expected = own_part(network, self.raw), network.state_dict()
        if "sigmas" in expected:  # which follow from the configuration, and older code kept them apart
            raw = {"sigmas": expected["sigmas"], **raw}
        try:
            check_tensors(f"not {name}", raw, expected)
        except ModelError as error:
            raise CheckpointError(f"it holds {whose(self.raw)}, {error}") from None
        tensors = {**raw, **({} if weights == "raw" else self._averages(network))}
        for tensor_name, tensor in tensors.items():
            problem = _unusable(tensor, expected[tensor_name])
            if problem:
                raise CheckpointError(f"its {tensor_name} {problem}")
        tensors |= _sigmas(tensors, network)
        network.load_state_dict(tensors)
        return network.eval()

    def _averages(self, network: nn.Module) -> dict[str, Tensor]:
        if self.averaged is None:
            raise CheckpointError(
                f"a {self.layout} has no averaged weights: ask for the raw ones, if they will do"
            )
        if isinstance(self.averaged, dict):
            averages = own_part(network, self.averaged)
            needed = averages.keys() | dict(network.named_parameters()).keys()  # with what buffers there are
            expected = {name: each for name, each in network.state_dict().items() if name in needed}
            check_tensors("averaged weights", averages, expected, CheckpointError)
            return averages
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
    content = load_weight_file(path)
    if isinstance(content, list):
        return _ncsn(path, content, digest)
    if (
        isinstance(content, Mapping)
        and {"model", "ema", "step"} <= content.keys()
        and not _by_name(content["ema"])
    ):
        return _score_sde(path, content, digest)
    return _state_dict(path, content, digest)


def own_part(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are a network's own. Raises CheckpointError where they are not among these."""
    choose = getattr(network, "own_part", None)
    if choose is None:
        there, here = place(tensors, network.state_dict())
        return {
            here + name.removeprefix(there): each for name, each in tensors.items() if name.startswith(there)
        }
    try:
        own: dict[str, Tensor] = choose(tensors)
    except KeyError as error:
        raise CheckpointError(f"it holds {whose(tensors)}: {error.args[0]}") from None
    return own


def place(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, str]:
    """Prefixes of a network's tensors in a file and here, where these are its names but for the prefixes.

    Training code often saves a whole diffusion, of which the network is `model.` or `nn_model.`; and a
    network that is wrapped here lies a name deeper. Both empty unless exactly one place fits.
    """
    here = _shared(expected.keys())
    names = {name.removeprefix(here) for name in expected}
    last = max(names, key=len, default="")
    places = [name.removesuffix(last) for name in tensors if name.endswith(last)]
    fitting = [
        there
        for there in places
        if (there.endswith(".") or not there)
        and {name.removeprefix(there) for name in tensors if name.startswith(there)} == names
    ]
    return (fitting[0], here) if len(fitting) == 1 else ("", "")


def _shared(names: Collection[str]) -> str:
    """What all names begin with, in whole parts, such as `network.`; never all of a name."""
    shared = ""
    while len({name.removeprefix(shared).partition(".")[0] for name in names}) == 1:
        head, dot, _ = next(iter(names)).removeprefix(shared).partition(".")
        if not dot:
            break
        shared += head + dot
    return shared


def _score_sde(path: Path, content: Mapping[str, Any], digest: str) -> Checkpoint:
    """{model, ema: {shadow_params, decay, ...}, step, optimizer}."""
    ema = content["ema"]
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list) or not all(isinstance(each, Tensor) for each in shadow):
        raise CheckpointError(f"{path}: its `ema` holds no list of shadow_params, but {_what(ema)}")
    tensors = _tensors(path, content["model"])
    step, decay = _whole(path, content["step"]), ema.get("decay")
    decay = decay if isinstance(decay, float) else None
    return Checkpoint(tensors, shadow, step, digest, "score_sde checkpoint", decay)


def _ncsn(path: Path, content: list[Any], digest: str) -> Checkpoint:
    """[network, optimizer] of NCSN; NCSNv2 adds epoch, step and the averages by name."""
    if len(content) not in (2, 4, 5):
        raise CheckpointError(f"{path} is no checkpoint of score_sde or NCSN, but {_what(content)}")
    step = _whole(path, content[3]) if len(content) > 3 else None
    averaged = _tensors(path, content[4]) if len(content) > 4 else None
    layout = "NCSN checkpoint" if len(content) == 2 else "NCSNv2 checkpoint"
    return Checkpoint(_tensors(path, content[0]), averaged, step, digest, layout)


#: Under which key training states keep a network's tensors; the first one that is there counts.
_NETWORK_KEYS = ("model_state_dict", "state_dict", "model", "network", "net", "params", "weights")
_AVERAGE_KEYS = ("ema_state_dict", "model_ema", "ema_model", "ema", "params_ema", "state_dict_ema")
_STEP_KEYS = ("global_step", "step", "iteration", "steps")


def _state_dict(path: Path, content: Any, digest: str) -> Checkpoint:
    """Tensors by name, bare or under a usual key of a training state, such as torch_mimicry's."""
    if _by_name(content):
        return Checkpoint(_tensors(path, content), None, None, digest, "state dict")
    keys = content.keys() if isinstance(content, Mapping) else ()
    network = next((key for key in _NETWORK_KEYS if key in keys and _by_name(content[key])), None)
    average = next((key for key in _AVERAGE_KEYS if key in keys and _by_name(content[key])), None)
    if network is None and average is None:
        raise CheckpointError(f"{path} holds no weights of a network, but {_what(content)}")
    step = next((content[key] for key in _STEP_KEYS if isinstance(content.get(key), int)), None)
    averaged = None if average is None else _ema_model(_tensors(path, content[average]))
    raw = averaged or {} if network is None else _tensors(path, content[network])
    layout = "torch_mimicry checkpoint" if network == "model_state_dict" else "state dict of a training state"
    return Checkpoint(raw, averaged, step, digest, layout)


def _ema_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averages where they are kept together with a copy of the raw weights, as by ema-pytorch."""
    return {name: each for name, each in tensors.items() if name.startswith("ema_model.")} or tensors


_PREFIXES = ("module.", "_orig_mod.")


def _by_name(state: Any) -> bool:
    return (
        isinstance(state, Mapping)
        and bool(state)
        and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in state.items())
    )


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """A state dict without the prefixes of DataParallel and of torch.compile."""
    if not _by_name(state):
        raise CheckpointError(
            f"{path} should hold the tensors of a network by name, but holds {_what(state)}"
        )
    tensors = dict(state)
    while prefix := next((each for each in _PREFIXES if all(name.startswith(each) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _whole(path: Path, step: Any) -> int:
    """A step number, which some code keeps as a tensor."""
    if isinstance(step, Tensor) and step.numel() == 1:
        step = step.item()
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise CheckpointError(f"{path}: its `step` is no number, but {_what(step)}")
    return int(step)


def _what(content: Any) -> str:
    """What an unexpected content is, in words."""
    if isinstance(content, Mapping):
        if {"state", "param_groups"} <= content.keys():
            return "the state of an optimizer"
        names = ", ".join(str(name) for name in list(content)[:4])
        if _by_name(content):
            return f"a plain state dict of {len(content)} tensors ({names}, ...)"
        if any(
            isinstance(part, Mapping) and {"state", "param_groups"} <= part.keys()
            for part in content.values()
        ):
            return f"a training state with the state of an optimizer (keys {names})"
        return f"a mapping with the keys {names or '(none)'}"
    if isinstance(content, list | tuple):
        return f"a list of {len(content)}"
    return f"a {type(content).__name__}"


def _unusable(tensor: Tensor, expected: Tensor) -> str:
    """What is wrong with the numbers of a tensor of the right shape; empty where nothing is."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        return "is sparse, quantised or without numbers: save it as a plain tensor"
    if tensor.is_complex() or tensor.is_floating_point() != expected.is_floating_point():
        return f"holds {tensor.dtype} in place of {expected.dtype}"
    if not tensor.isfinite().all():
        return "holds NaN or infinity: the training diverged, or the file is damaged"
    return ""


def _sigmas(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The noise scales beside the weights, as configured where they were stored in half precision.

    Raises CheckpointError where they are others than the configuration's.
    """
    if "sigmas" not in tensors:
        return {}
    stored, expected = tensors["sigmas"], network.get_buffer("sigmas")
    rounding = torch.finfo(stored.dtype).eps
    if not torch.allclose(stored.double(), expected.double(), rtol=max(1e-4, rounding), atol=0):
        raise CheckpointError(
            f"the checkpoint's noise scales run from {stored[0]:g} to {stored[-1]:g}, the configuration's "
            f"from {expected[0]:g} to {expected[-1]:g}: set sigma_max and sigma_min of the network"
        )
    return {"sigmas": stored if rounding < 1e-4 else expected}
