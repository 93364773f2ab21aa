"""What can be named: ready specs, models, extractors, data sets; where their files are and what they hash to.

Names resolve to digests here, so that nothing later depends on a name. Weight files are looked for in the
package (`catalog/weights/`) and in the folder of models that the user added. Knows headers of files, not
networks.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import fingerprint
from jobs.configuration import Extractor, Model
from jobs.problems import not_one_of, suggestion
from jobs.sections import DataSet
from jobs.spec import ExtractorSection, ModelSection

CATALOG = Path(str(importlib.resources.files("jobs") / "catalog"))
WEIGHTS = CATALOG / "weights"

EMBEDDED_MODELS = ("digits-ve", "digits-vp", "digits-gan")
DATA_SETS = ("digits", "digits-train", "digits-heldout")


@dataclass(frozen=True)
class ExtractorEntry:
    """A feature network that the project has the code of."""

    dimension: int
    logits: int
    about: str


EXTRACTORS = {
    "digits-cnn": ExtractorEntry(64, 10, "classifier of the 8x8 digits; weights shipped"),
    "mnist-lenet": ExtractorEntry(84, 10, "LeNet classifier of MNIST; weights by path"),
    "cifar10-resnet20": ExtractorEntry(64, 10, "ResNet-20 classifier of CIFAR-10; weights by path"),
    "inception": ExtractorEntry(2048, 1008, "the FID Inception of 2015-12-05; weights by path"),
}


class UnresolvedError(ValueError):
    """A name or a path that leads nowhere; `key` is the part of its section to blame."""

    def __init__(self, message: str, *key: str) -> None:
        self.key = key
        super().__init__(message)


# --- ready specs --------------------------------------------------------------------------------------------


def spec_names() -> list[str]:
    """Names of the specs that can be planned and run; `train-*` files are for `sdesweep train`."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml") if not path.stem.startswith("train-"))


def spec_path(name: str) -> Path:
    return CATALOG / f"{name}.yaml"


# --- models -------------------------------------------------------------------------------------------------


def models_folder() -> Path:
    """Where the user's own models are: `$SDESWEEP_MODELS`, else sdesweep/models in the user's data folder."""
    chosen = os.environ.get("SDESWEEP_MODELS")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "sdesweep" / "models"


def model_names() -> list[str]:
    """Every name that `model:` may have: shipped, added and published models, and data sets for controls."""
    folder = models_folder()
    added = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.safetensors")]
    return sorted({*EMBEDDED_MODELS, *added, *_published(), *DATA_SETS})


def resolve_model(section: ModelSection, folder: Path) -> tuple[Model, dict[str, Path]]:
    """Return the model and, by sha256, the files of its weights. Relative paths start at `folder`.

    A published model whose weights are not here is returned with `missing` true: it can be planned.
    Raises UnresolvedError for an unknown name, and for a path that leads nowhere or to another kind of file.
    """
    if section.dataset is not None:
        return _data_set_model(resolve_data_set(section.dataset, folder, "dataset")), {}
    if section.weights is not None:
        files = {role: expand(path, folder, "weights", role) for role, path in section.weights.items()}
        return _model_by_path(section, files)
    assert section.name is not None  # ModelSection has exactly one of the three
    return _model_by_name(section.name)


def _model_by_name(name: str) -> tuple[Model, dict[str, Path]]:
    if name in DATA_SETS:
        return _data_set_model(DataSet(name=name)), {}
    path = (
        WEIGHTS / f"{name}.safetensors"
        if name in EMBEDDED_MODELS
        else models_folder() / f"{name}.safetensors"
    )
    if path.is_file():
        return _own_model(name, path)
    if name in _published():
        return _published_model(name), {}
    names = model_names()
    raise UnresolvedError(f"unknown model {not_one_of(name, names)}, nor in {models_folder()}", "name")


def _model_by_path(section: ModelSection, files: dict[str, Path]) -> tuple[Model, dict[str, Path]]:
    if section.network is None:
        if set(files) != {"model"}:
            raise UnresolvedError("several files need a network that reads them: set network", "weights")
        path = files["model"]
        return _own_model(path.stem, path)
    layout = FOREIGN.get(section.network)
    if layout is None:
        raise UnresolvedError(not_one_of(section.network, FOREIGN), "network")
    if set(files) != set(layout["roles"]):
        wanted, got = ", ".join(layout["roles"]), ", ".join(files)
        raise UnresolvedError(f"{section.network} has the files {wanted}; got {got}", "weights")
    digests = {role: sha256(path) for role, path in files.items()}
    model = Model(
        name=section.network,
        family=layout["family"],
        shape=layout["shape"],
        network=section.network,
        weights=dict(digests),
    )
    return model, {digests[role]: path for role, path in files.items()}


#: Weight files of others that are read as they are: network -> roles of its files and what it makes.
FOREIGN: dict[str, dict[str, Any]] = {
    "mnist_mlp_gan": {"roles": ("generator", "discriminator"), "family": "latent", "shape": (1, 28, 28)},
}


def _own_model(name: str, path: Path) -> tuple[Model, dict[str, Path]]:
    """A model in the project's own safetensors, which say themselves what they hold."""
    digest = sha256(path)
    return _described(name, read_model_config(path), digest), {digest: path}


def _published_model(name: str) -> Model:
    return _described(name, _published()[name], None)


def _described(name: str, config: dict[str, Any], digest: str | None) -> Model:
    """What a model's own description says of it, in the words of a configuration."""
    sde = config.get("sde") or {}
    return Model(
        name=name,
        family=config["family"],
        shape=tuple(config["shape"]),
        weights={"model": digest},
        sde=sde.get("family"),
        beta_max=sde.get("beta_max"),
        continuous=config.get("continuous"),
        scales=config.get("scales"),
    )


@functools.cache
def _published() -> dict[str, dict[str, Any]]:
    """Descriptions of the published models, whose weights are not shipped."""
    from sdesampling.networks.published import PUBLISHED  # imports torch, which takes seconds

    return {name: json.loads(config.to_json()) for name, config in PUBLISHED.items()}


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the description in a safetensors file of the project. Raises UnresolvedError for other files."""
    metadata = safetensors_metadata(path)
    if "config" not in metadata:
        raise UnresolvedError(
            f"{path} does not say what model it holds; was it written by sdesweep?", "weights"
        )
    config: dict[str, Any] = json.loads(metadata["config"])
    return config


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the text metadata of a safetensors file, reading its header alone.

    Raises UnresolvedError when the file is of another kind or cut off.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        header = file.read(length) if 0 < length <= 100_000_000 else b""
    if not header.startswith(b"{") or len(header) != length:
        raise UnresolvedError(f"{path} is no safetensors file, or only the beginning of one", "weights")
    metadata: dict[str, str] = json.loads(header).get("__metadata__", {})
    return metadata


# --- extractors and data sets -------------------------------------------------------------------------------


def resolve_extractor(section: ExtractorSection, folder: Path) -> tuple[Extractor, dict[str, Path]]:
    """Return the extractor and, by sha256, the file of its weights. Raises UnresolvedError."""
    entry = EXTRACTORS.get(section.name)
    if entry is None:
        raise UnresolvedError(f"unknown extractor {not_one_of(section.name, EXTRACTORS)}", "name")
    if section.weights is not None:
        path = expand(section.weights, folder, "weights")
    else:
        path = WEIGHTS / f"{section.name}.safetensors"
    if not path.is_file():
        remedy = f"give their path: {{name: {section.name}, weights: PATH}}"
        raise UnresolvedError(f"{section.name}'s weights are not shipped; {remedy}", "weights")
    digest = sha256(path)
    extractor = Extractor(name=section.name, weights=digest, dimension=entry.dimension, logits=entry.logits)
    return extractor, {digest: path}


def resolve_reference(section: DataSet, folder: Path) -> tuple[DataSet, dict[str, Path]]:
    """Return the data set of a reference; there are no weights to it. Raises UnresolvedError."""
    return resolve_data_set(section, folder), {}


def resolve_data_set(section: DataSet, folder: Path, *key: str) -> DataSet:
    """Return the data set with its path absolute. Raises UnresolvedError."""
    if section.path is not None:
        return DataSet(name=section.name, path=str(expand(section.path, folder, *key, "path")))
    if section.name not in DATA_SETS:
        near = suggestion(section.name, DATA_SETS)
        known = ", ".join(DATA_SETS)
        message = (
            f"unknown data set {section.name!r}: known by name are {known}; for others give a path{near}"
        )
        raise UnresolvedError(message, *key, "name")
    return section


def _data_set_model(data_set: DataSet) -> Model:
    """A data set as what the control `real` samples from."""
    path = None if data_set.path is None else Path(data_set.path)
    shape, images, content = _data_set_content(data_set.name, path)
    return Model(
        name=data_set.name, family="dataset", shape=shape, dataset=data_set, content=content, images=images
    )


@functools.cache
def _data_set_content(name: str, path: Path | None) -> tuple[tuple[int, int, int], int, str]:
    """Shape of its images, their number, and the content hash; reads the whole data set."""
    from jobs.datasets import DatasetError, read_dataset  # imports pyarrow

    try:
        data = read_dataset(name, path)
    except DatasetError as error:
        raise UnresolvedError(str(error), "dataset") from None
    channels, height, width = data.images.shape[1:]
    return (channels, height, width), len(data), data.content_hash


# --- files --------------------------------------------------------------------------------------------------


def expand(path: str, folder: Path, *key: str) -> Path:
    """Return the absolute path of a file or folder that a spec names, `${VARIABLES}` filled in.

    Relative ones start at `folder`. Raises UnresolvedError when a variable is not set or nothing is there.
    """
    unset = [name for name in re.findall(r"\$\{(\w+)\}", path) if name not in os.environ]
    if unset:
        raise UnresolvedError(f"{path!r}: the environment variable {unset[0]} is not set", *key)
    filled = re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], path)
    found = (folder / Path(filled).expanduser()).resolve()
    if not found.exists():
        raise UnresolvedError(f"{path!r}: nothing is at {found}", *key)
    return found


def sha256(path: Path) -> str:
    """sha256 of a file, computed once as long as its size and time of change stay."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    return fingerprint.file_sha256(path)
