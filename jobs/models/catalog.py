"""What can be named: ready specs, models, extractors, data sets, and where their files are.

Tables and folders alone: weights lie in the package (`catalog/weights/`) and in the folder of what the user
added. What a section of a spec stands for is said in `jobs/models/resolve.py`. Builds no network.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.plugins import EXTRACTORS as PLUGIN_EXTRACTORS
from jobs.models.plugins import extractor_logits, find, installed, provide_extractor
from jobs.problems import not_one_of
from jobs.specs.plain_yaml import parse

CATALOG = Path(str(importlib.resources.files("jobs") / "catalog"))
WEIGHTS = CATALOG / "weights"
DOWNLOADS = "downloads"  # folder of what is being fetched, among what the user added

EMBEDDED_MODELS = ("digits-ve", "digits-vp", "digits-gan")


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


@dataclass(frozen=True)
class KnownDataSet:
    """A data set that needs no path: what it holds, so that planning need not read it."""

    images: int
    shape: tuple[int, int, int]
    content: str  # hash of its pixels, checked when it is read


DATA_SETS = {
    "digits": KnownDataSet(
        1797, (1, 8, 8), "b8f6054dededc0561caea7e2402289755ead4f49b648b87acc8aa0c9f0e3d73a"
    ),
    "digits-train": KnownDataSet(
        1248, (1, 8, 8), "1280abf6140fd26dd6d1656c4de09c22733b74aa486f98ee102ed87ef2cfc4f1"
    ),
    "digits-heldout": KnownDataSet(
        549, (1, 8, 8), "c14cc9fe6aad63214cf20d0943703978c6ae6a6370a2a0f99c5bb9df62b551b2"
    ),
}


def spec_names() -> list[str]:
    """Names of the specs that can be planned and run; `train-*` files are for `sdesweep train`."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml") if not path.stem.startswith("train-"))


def training_names() -> list[str]:
    """Names of the specs of trainings."""
    return sorted(path.stem for path in CATALOG.glob("train-*.yaml"))


def spec_path(name: str) -> Path:
    """The file of a ready spec."""
    return CATALOG / f"{name}.yaml"


def descriptions(names: Sequence[str]) -> dict[str, str]:
    """What each of these specs says of itself."""
    written = {name: parse(spec_path(name).read_text(), name) for name in names}
    return {name: str(keys.get("description", "")) for name, keys in written.items()}


def added_folder() -> Path:
    """Where weights are that the user added: `$SDESWEEP_MODELS`, else below the user's data folder."""
    chosen = os.environ.get("SDESWEEP_MODELS")
    if chosen:
        return Path(chosen)
    home = os.path.expanduser("~")
    if home == "~":  # of a user whom the system does not know, as in containers: nothing was ever added
        home = "/nonexistent"
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    return Path(data) / "sdesweep" / "models"


def record_of(weights: Path) -> Path:
    """The file beside added weights that says what they were when they were added."""
    return weights.with_name(f"{weights.name}.json")


def weight_files(folder: Path) -> dict[str, Path]:
    """Weights in a folder, by the name under which they were shipped or added."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.suffix in (".safetensors", ".pth") and DOWNLOADS not in below.parts and path.is_file():
            found.setdefault(below.with_suffix("").as_posix(), path)
    return found


def model_names() -> list[str]:
    """Every name that `model:` may have: shipped, added and published models, and data sets for controls."""
    added = {name for name, path in weight_files(added_folder()).items() if path.suffix == ".safetensors"}
    models = {name for name in added if not is_extractor(name)}
    return sorted({*EMBEDDED_MODELS, *models, *published(), *DATA_SETS})


@functools.cache
def published() -> dict[str, dict[str, Any]]:
    """Descriptions of the published models, whose weights are not shipped."""
    from sdesampling.networks.published import PUBLISHED  # imports torch, which takes seconds

    return {name: json.loads(config.to_json()) for name, config in PUBLISHED.items()}


def unreleased_names() -> tuple[str, ...]:
    """Published models of which no weights were ever released."""
    from sdesampling.networks.published import UNRELEASED  # imports torch

    return UNRELEASED


def is_extractor(name: str) -> bool:
    """Whether weights of this name are an extractor's, of this project or of an installed package."""
    return name in EXTRACTORS or find(PLUGIN_EXTRACTORS, name) is not None


def extractor_entry(name: str) -> ExtractorEntry:
    """What is known of an extractor of this project or of an installed package. Raises UnresolvedError."""
    plugin = provide_extractor(name)
    if plugin is None and name in EXTRACTORS:
        return EXTRACTORS[name]
    if plugin is None and not name.startswith("inception-"):
        known = [*EXTRACTORS, *(each.name for each in installed(PLUGIN_EXTRACTORS))]
        raise UnresolvedError(f"unknown extractor: {not_one_of(name, known)}", "name")
    from fid.extractors import identity_of  # imports torch, which takes seconds

    try:
        identity = identity_of(name)
    except ValueError as error:
        raise UnresolvedError(str(error), "name") from None
    dimension = int(identity["dimension"])
    if plugin is not None:
        about = f"of package {plugin.package} {plugin.version}; weights by path"
        return ExtractorEntry(dimension, extractor_logits(name), about)
    usual = EXTRACTORS["inception"]
    logits = usual.logits if identity["layer"] == "pool" else 0
    return ExtractorEntry(dimension, logits, "the FID Inception under other conventions")
