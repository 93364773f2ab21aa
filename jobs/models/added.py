"""Bringing in weights that the project does not ship: `sdesweep models add FILE... --as NAME`.

A checkpoint is converted once, checked tensor by tensor against the networks of its configuration, which is
that of a published name, or data in a file; what the project wrote itself is copied. Afterwards the name is
all that a spec needs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from fid.extractors import load_extractor
from jobs.fingerprint import file_sha256
from jobs.inputs.modelfiles import is_safetensors, read_model_config, safetensors_metadata
from jobs.models import catalog
from jobs.models.model_configs import read_model_config_file
from jobs.models.pipelines import read_pipeline
from jobs.models.plugins import provide_extractor, provide_networks
from jobs.problems import not_one_of
from jobs.specs.configuration import Source as SourceSection
from jobs.specs.sections import ModelName
from sdesampling.checkpoints import Checkpoint, CheckpointError, place, read_checkpoint
from sdesampling.configs import ModelConfig, ScoreConfig
from sdesampling.identification import whose
from sdesampling.models import Source, Weights, blank_networks, load_model, save_model
from sdesampling.networks.published import PUBLISHED, UNRELEASED, architecture, place_in_training
from sdesampling.torch_files import load_weight_file


@dataclass(frozen=True)
class _Written:
    """What a finished file holds, in the words of `Added`."""

    kind: str
    parameters: int
    source: Source | None
    note: str


class NotAddedError(ValueError):
    """The file cannot go by that name; the message says why."""


@dataclass(frozen=True)
class Added:
    """What was brought in."""

    name: str
    path: str
    sha256: str
    kind: str  # of network, such as NCSN++ deep
    parameters: int  # of its networks; 0 for an extractor
    source: dict[str, Any] | None  # of converted weights
    note: str  # where the weights come from, in words


def add_weights(
    name: str, files: Sequence[Path], weights: Weights | None = None, config: Path | None = None
) -> Added:
    """Put weights into the user's folder under a name.

    Args:
        name: a published model, an extractor, or any other name for a model that has a configuration.
        files: of the weights, in any order where a model has several (a GAN's two); they stay as they are.
        weights: of a checkpoint, the exponential moving averages that are sampled from, or the raw ones.
            None: the averages; raw where the layout, or the kind of network, knows none.
        config: data that describes the model: JSON or YAML, this project's, score_sde's or NCSN's.

    Raises:
        NotAddedError: a shipped name, or files of another kind.
        ValueError: the weights do not fit the networks (ModelError, CheckpointError, the extractor's own).
        FileNotFoundError: no such file.
    """
    _check_name(name)
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"no such file: {file}")
    if name in catalog.EXTRACTORS or provide_extractor(name) is not None:
        return _add_extractor(name, _only(files), config)
    target = catalog.added_folder() / f"{name}.safetensors"
    partial = target.with_name(f"{target.name}.partial")
    try:
        return _kept(name, partial, target, _write(name, files, weights, config, partial))
    finally:
        partial.unlink(missing_ok=True)


def _check_name(name: str) -> None:
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise NotAddedError(
            f"{name!r} is no name: small letters, digits, . _ - and / between its parts"
        ) from None
    if name in (*catalog.EMBEDDED_MODELS, *catalog.DATA_SETS):
        raise NotAddedError(f"{name} is shipped with the project; choose another name")


def _add_extractor(name: str, file: Path, config: Path | None) -> Added:
    if config is not None:
        raise NotAddedError(f"{name} is an extractor: it takes no configuration")
    load_weight_file(file)  # says what a wrong file is
    load_extractor(name, file)
    suffix = "safetensors" if is_safetensors(file) else "pth"
    target = catalog.added_folder() / f"{name}.{suffix}"
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, partial)
        return _kept(name, partial, target, _Written("extractor", 0, None, f"copy of {file.name}"))
    finally:
        partial.unlink(missing_ok=True)


def _kept(name: str, partial: Path, target: Path, written: _Written) -> Added:
    """Move a finished file to its place, with a record of its sha256 beside it."""
    source = None if written.source is None else asdict(written.source)
    digest = file_sha256(partial)
    partial.replace(target)
    record = {"sha256": digest, "kind": written.kind, "note": written.note}
    catalog.record_of(target).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Added(name, str(target), digest, written.kind, written.parameters, source, written.note)


def _write(
    name: str, files: Sequence[Path], weights: Weights | None, config: Path | None, target: Path
) -> _Written:
    """Write the file that is kept."""
    described = None if config is None else read_model_config_file(config)
    if described is not None:
        provide_networks(described.network_names)
    first = files[0]
    if len(files) == 1 and first.is_dir():
        found, weights_of_it = read_pipeline(first)
        if described is not None and described != found:
            raise NotAddedError(f"{first} says itself what it is, which --config contradicts: leave that out")
        described, files = found, [weights_of_it]
        provide_networks(described.network_names)
        first = weights_of_it
    for file in files:
        if file.is_dir():
            raise NotAddedError(f"{file} is a folder; give files, or one folder of diffusers alone")
    if len(files) == 1 and is_safetensors(first) and "config" in safetensors_metadata(first):
        return _copy_own(name, first, described, weights, target)
    if name in PUBLISHED:
        if described is not None and described != PUBLISHED[name]:
            raise NotAddedError(f"{name} is a published model of another configuration; choose another name")
        described = PUBLISHED[name]
    checkpoints = {file: read_checkpoint(file) for file in files}
    if described is None:
        raise NotAddedError(
            f"{first} holds {whose(checkpoints[first].raw)}, and no configuration: give it with --config, or "
            f"add it as a published model: {not_one_of(name, PUBLISHED)}"
        )
    return _convert(name, described, checkpoints, weights, target)


def _copy_own(
    name: str, file: Path, described: ModelConfig | None, weights: Weights | None, target: Path
) -> _Written:
    load_weight_file(file)  # says how much of it is there
    content = read_model_config(file)
    source = content.pop("source", None)
    found = ModelConfig.from_dict(content)
    for wanted, whose_is in ((PUBLISHED.get(name), name), (described, "--config")):
        if wanted is not None and json.loads(wanted.to_json()) != content:
            raise NotAddedError(f"{file} holds another model than {whose_is}")
    if weights is not None and (source or {}).get("weights", weights) != weights:
        raise NotAddedError(f"{file} was converted already, and holds {SourceSection(**source)}")
    provide_networks(found.network_names)
    load_model(file)  # raises where tensors are missing or of another shape
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    kind, parameters = architecture(found), _parameters(blank_networks(found))
    note = f"copy of {file.name}"
    if source is None:
        return _Written(kind, parameters, None, note)
    return _Written(kind, parameters, Source(**source), f"{note}: {SourceSection(**source)}")


def _convert(
    name: str,
    config: ModelConfig,
    checkpoints: dict[Path, Checkpoint],
    weights: Weights | None,
    target: Path,
) -> _Written:
    networks = blank_networks(config)
    by_role = _roles(config, checkpoints)
    _fill(networks, by_role, checkpoints, "raw", architecture(config))  # do they fit at all?
    chosen = weights or _usual(name, config, checkpoints)
    if chosen == "ema":
        _fill(networks, by_role, checkpoints, "ema", architecture(config))
    config.model(networks)  # raises where networks and SDE do not fit each other
    first = checkpoints[by_role[next(iter(networks))]]
    digests = {role: checkpoints[by_role[role]].sha256 for role in networks}
    source = Source(first.layout, chosen, first.step, digests)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_model(target, config, networks, source)
    said = [str(SourceSection(**asdict(source)))]
    if chosen == "ema" and first.decay is not None:
        said.append(f"of decay {first.decay:g}")
    said += _left_out(networks, by_role, checkpoints)
    if name in UNRELEASED:
        said.append("the published weights of this name were never released, so these are others")
    elif first.step is not None and (place := place_in_training(name, first.step)):
        said.append(place)
    return _Written(architecture(config), _parameters(networks), source, "; ".join(said))


def _left_out(
    networks: Mapping[str, nn.Module], by_role: Mapping[str, Path], checkpoints: Mapping[Path, Checkpoint]
) -> list[str]:
    """What files hold beside a network that is a part of something larger there, in words."""
    said = []
    for role, network in networks.items():
        raw = checkpoints[by_role[role]].raw
        there, _ = place(raw, network.state_dict())
        rest = [name for name in raw if not name.startswith(there)]
        if rest:
            names = ", ".join(rest[:3]) + (", ..." if rest[3:] else "")
            said.append(f"{there}* of {len(raw)} tensors, without {names}")
    return said


def _parameters(networks: Mapping[str, nn.Module]) -> int:
    return sum(each.numel() for network in networks.values() for each in network.parameters())


def _fill(
    networks: Mapping[str, nn.Module],
    by_role: Mapping[str, Path],
    checkpoints: Mapping[Path, Checkpoint],
    weights: Weights,
    kind: str,
) -> None:
    for role, network in networks.items():
        file = by_role[role]
        try:
            checkpoints[file].fill(network, weights, kind if len(networks) == 1 else f"the {role} of {kind}")
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error


def _usual(name: str, config: ModelConfig, checkpoints: dict[Path, Checkpoint]) -> Weights:
    """The averages; the raw weights where there never are any. Raises CheckpointError where they are lost."""
    if all(each.averaged is not None for each in checkpoints.values()):
        return "ema"
    bare = next(each for each in checkpoints.values() if each.averaged is None)
    if isinstance(config, ScoreConfig) and name in PUBLISHED and bare.layout != "NCSN checkpoint":
        raise CheckpointError(
            f"{next(iter(checkpoints))} is a {bare.layout} without the moving averages that {name} is "
            "sampled with: find the whole checkpoint, or take the weights that are there by --weights raw"
        )
    return "raw"


def _roles(config: ModelConfig, checkpoints: dict[Path, Checkpoint]) -> dict[str, Path]:
    """Which file is for which network: a file for each, told apart by their tensors."""
    roles = blank_networks(config)
    if len(checkpoints) != len(roles):
        raise NotAddedError(
            f"{architecture(config)} has the networks {', '.join(roles)}, a file for each: "
            f"got {len(checkpoints)} files"
        )
    if len(roles) == 1:
        return {next(iter(roles)): next(iter(checkpoints))}
    left, found = dict(checkpoints), {}
    for role, network in roles.items():
        expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
        for file, checkpoint in left.items():
            if {name: tensor.shape for name, tensor in checkpoint.raw.items()} == expected:
                found[role] = file
                del left[file]
                break
    missing = [role for role in roles if role not in found]
    for role, file in zip(missing, left, strict=True):  # the check of tensors says how they differ
        found[role] = file
    return found


def _only(files: Sequence[Path]) -> Path:
    if len(files) != 1:
        raise NotAddedError(f"an extractor has one file of weights; got {len(files)}")
    return files[0]
