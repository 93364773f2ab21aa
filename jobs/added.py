"""Bringing in weights that the project does not ship: `sdesweep models add NAME FILE`.

A published checkpoint is converted once, checked tensor by tensor against the network of its name; what the
project wrote itself is copied. Afterwards the name is all that a spec needs.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from fid.extractors import load_extractor
from jobs import catalog
from jobs.fingerprint import file_sha256
from jobs.modelfiles import is_safetensors, read_model_config
from jobs.problems import not_one_of
from jobs.sections import ModelName
from sdesampling.checkpoints import read_checkpoint
from sdesampling.models import load_model, save_model
from sdesampling.networks.published import PUBLISHED


class NotAddedError(ValueError):
    """The file cannot go by that name; the message says why."""


@dataclass(frozen=True)
class Added:
    """What was brought in."""

    name: str
    path: str
    sha256: str
    note: str  # where the weights come from


def add_weights(name: str, file: Path, weights: Literal["ema", "raw"] = "ema") -> Added:
    """Put weights into the user's folder under a name.

    Args:
        name: a published model (FILE is a checkpoint of score_sde), an extractor (FILE holds its weights), or
            any other name (FILE is a model that `sdesweep train` wrote).
        file: stays as it is.
        weights: of a checkpoint, the exponential moving averages that are sampled from, or the raw ones.

    Raises:
        NotAddedError: a shipped name, or a file of another kind.
        ValueError: the weights do not fit the network of that name (ModelError, CheckpointError, the
            extractor's own).
        FileNotFoundError: no such file.
    """
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise NotAddedError(
            f"{name!r} is no name: small letters, digits, . _ - and / between its parts"
        ) from None
    if name in (*catalog.EMBEDDED_MODELS, *catalog.DATA_SETS):
        raise NotAddedError(f"{name} is shipped with the project; choose another name")
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    suffix = "safetensors"
    if name in catalog.EXTRACTORS:
        load_extractor(name, file)
        suffix = "safetensors" if is_safetensors(file) else "pth"
    elif name not in PUBLISHED and not is_safetensors(file):
        raise NotAddedError(
            f"{file} is a checkpoint, so its name must say its network: {not_one_of(name, PUBLISHED)}"
        )
    target = catalog.added_folder() / f"{name}.{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    try:
        note = _write(name, file, weights, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return Added(name, str(target), file_sha256(target), note)


def _write(name: str, file: Path, weights: Literal["ema", "raw"], target: Path) -> str:
    """Write the file that is kept; return where its weights come from."""
    if name in PUBLISHED and not is_safetensors(file):
        checkpoint = read_checkpoint(file)
        network = checkpoint.network(PUBLISHED[name], weights)
        save_model(target, PUBLISHED[name], {"network": network})
        kind = "moving averages" if weights == "ema" else "raw weights"
        return f"{kind} of the checkpoint at step {checkpoint.step}, sha256 {checkpoint.sha256}"
    if name not in catalog.EXTRACTORS:
        config = read_model_config(file)
        load_model(file)  # raises where tensors are missing or of another shape
        if name in PUBLISHED and config != catalog.published_config(name):
            raise NotAddedError(f"{file} holds another model than {name}")
    shutil.copyfile(file, target)
    return f"copy of {file.name}"
