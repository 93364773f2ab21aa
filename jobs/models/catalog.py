"""What can be named: ready specs, models, extractors, data sets; where their files are and what they hash to.

Names resolve to digests here, so that nothing later depends on a name. Weights are looked for in the
package (`catalog/weights/`) and in the folder of what the user added. What is known but not here is
`missing`: it can be planned, not run. Builds no network.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from jobs.inputs.modelfiles import (
    UnresolvedError,
    expand,
    read_model_config,
    sha256,
    unset_variable,
    weights_file,
)
from jobs.models.plugins import EXTRACTORS as PLUGIN_EXTRACTORS
from jobs.models.plugins import (
    extractor_logits,
    find,
    installed,
    provide_extractor,
    provide_networks,
    unknown_networks,
)
from jobs.problems import not_one_of, suggestion
from jobs.specs.configuration import Extractor, Model
from jobs.specs.sections import DataSet
from jobs.specs.spec import ExtractorSection, ModelSection

CATALOG = Path(str(importlib.resources.files("jobs") / "catalog"))
WEIGHTS = CATALOG / "weights"

EMBEDDED_MODELS = ("digits-ve", "digits-vp", "digits-gan")

T = TypeVar("T")


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """What a section of a spec stands for."""

    thing: T
    files: Mapping[str, Path] = field(default_factory=dict)  # sha256 -> weights on this machine
    missing: tuple[str, ...] = ()  # what must be done before it can run, a sentence each


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


def spec_path(name: str) -> Path:
    """The file of a ready spec."""
    return CATALOG / f"{name}.yaml"


def added_folder() -> Path:
    """Where weights are that the user added: `$SDESWEEP_MODELS`, else below the user's data folder."""
    chosen = os.environ.get("SDESWEEP_MODELS")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "sdesweep" / "models"


def record_of(weights: Path) -> Path:
    """The file beside added weights that says what they were when they were added."""
    return weights.with_name(f"{weights.name}.json")


def model_names() -> list[str]:
    """Every name that `model:` may have: shipped, added and published models, and data sets for controls."""
    folder = added_folder()
    added = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.safetensors")}
    models = {name for name in added if not is_extractor(name)}
    return sorted({*EMBEDDED_MODELS, *models, *_published(), *DATA_SETS})


def resolve_model(section: ModelSection, folder: Path) -> Resolved[Model]:
    """Return the model of a section; relative paths start at `folder`.

    Raises UnresolvedError for an unknown name, and for a path that leads nowhere or to another kind of file.
    """
    if section.dataset is not None:
        found = _data_set_model(section.dataset, folder, "dataset")
    elif section.weights is not None:
        found = _model_by_path(section.network, section.weights, folder)
    else:
        found = _model_by_name(str(section.name), folder)
    return Resolved(found.thing.model_copy(update={"note": section.note}), found.files, found.missing)


def _model_by_name(name: str, folder: Path) -> Resolved[Model]:
    if name in DATA_SETS:
        return _data_set_model(DataSet(name=name), folder)
    path = (
        WEIGHTS / f"{name}.safetensors" if name in EMBEDDED_MODELS else added_folder() / f"{name}.safetensors"
    )
    if path.is_file():
        return _own_model(name, path)
    if name in _published():
        return Resolved(_described(name, _published()[name], None), missing=(_remedy(name),))
    raise UnresolvedError(f"unknown model: {not_one_of(name, model_names())}", "name")


def _model_by_path(network: str | None, weights: Mapping[str, str], folder: Path) -> Resolved[Model]:
    foreign = {name: config for name, config in _published().items() if config["family"] != "score"}
    if network is not None and network not in foreign:
        raise UnresolvedError(not_one_of(network, foreign), "network")
    gan = network is not None and foreign[network]["family"] == "latent"
    roles = ("generator", "discriminator") if gan else ("model",)
    if set(weights) != set(roles):
        reader = network or "a model without network"
        raise UnresolvedError(
            f"{reader} has the files {', '.join(roles)}; got {', '.join(weights)}", "weights"
        )
    if network is None:
        path = weights_file(weights["model"], folder, "weights")
        return _own_model(path.stem, path)
    unset = {role: unset_variable(weights[role]) for role in roles}
    files = {role: weights_file(weights[role], folder, "weights", role) for role in roles if not unset[role]}
    digests = {role: sha256(path) for role, path in files.items()}
    model = Model(
        name=network,
        family=foreign[network]["family"],
        shape=tuple(foreign[network]["shape"]),
        network=network,
        weights={role: digests.get(role) for role in roles},
        loss=foreign[network].get("loss"),
    )
    missing = dict.fromkeys(_set_variable(name, network) for name in unset.values() if name)
    return Resolved(model, {digests[role]: path for role, path in files.items()}, tuple(missing))


def _own_model(name: str, path: Path) -> Resolved[Model]:
    """A model in the project's own safetensors, which say themselves what they hold."""
    digest = sha256(path)
    try:
        config = read_model_config(path)
        model = _described(name, config, digest)
        unknown = [] if name in EMBEDDED_MODELS else unknown_networks(_networks(config))
    except (KeyError, TypeError, ValidationError) as error:
        raise UnresolvedError(
            f"{path} describes no model that this version knows: {error}", "weights"
        ) from None
    if unknown:
        raise UnresolvedError(
            f"{path} needs the network {unknown[0]!r}, which no installed package registers", "weights"
        )
    return Resolved(model, {digest: path})


def _networks(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The networks in a model's description, by name."""
    return {part["name"]: part for part in config.values() if isinstance(part, Mapping) and "name" in part}


def _described(name: str, config: Mapping[str, Any], digest: str | None) -> Model:
    """What a model's own description says of it, in the words of a configuration."""
    networks = _networks(config)
    plugins = tuple(provide_networks(networks))
    sde = config.get("sde") or {}
    return Model(
        name=name,
        family=config["family"],
        shape=tuple(config["shape"]),
        weights={"model": digest},
        sde=sde.get("family"),
        beta_min=sde.get("beta_min", 0.1) if sde.get("family") in ("vp", "subvp") else None,
        beta_max=sde.get("beta_max", 20.0) if sde.get("family") in ("vp", "subvp") else None,
        sigmas=(sde.get("sigma_min", 0.01), sde.get("sigma_max", 50.0))
        if sde.get("family") == "ve"
        else None,
        continuous=config.get("continuous"),
        scales=config.get("scales"),
        fractional_labels=config.get("continuous") is not False or _take_fractions(networks),
        classes=next((each["num_classes"] for each in networks.values() if each.get("num_classes")), None),
        loss=config.get("loss", "logistic") if config["family"] == "latent" else None,
        source=config.get("source"),
        plugins=plugins,
    )


def _take_fractions(networks: Collection[str]) -> bool:
    """Whether all of these networks take labels between those of the scales they were trained on."""
    from sdesampling.networks import NETWORKS  # imports torch, which takes seconds
    from sdesampling.score import takes_fractions

    return all(takes_fractions(NETWORKS.get(name)) for name in networks)


@functools.cache
def _published() -> dict[str, dict[str, Any]]:
    """Descriptions of the published models, whose weights are not shipped."""
    from sdesampling.networks.published import PUBLISHED  # imports torch, which takes seconds

    return {name: json.loads(config.to_json()) for name, config in PUBLISHED.items()}


def published_names() -> list[str]:
    """Names of the published models."""
    return list(_published())


def unreleased_names() -> tuple[str, ...]:
    """Published models of which no weights were ever released."""
    from sdesampling.networks.published import UNRELEASED  # imports torch

    return UNRELEASED


def is_extractor(name: str) -> bool:
    """Whether weights of this name are an extractor's, of this project or of an installed package."""
    return name in EXTRACTORS or find(PLUGIN_EXTRACTORS, name) is not None


def published_config(name: str) -> dict[str, Any]:
    """The description of a published model."""
    return _published()[name]


def _remedy(name: str) -> str:
    return f"the weights of {name} are not here: `sdesweep models add FILE --as {name}` brings them in"


def _set_variable(variable: str, name: str) -> str:
    return f"set the environment variable {variable}: it leads to {name}"


def _extractor_remedy(name: str) -> str:
    return (
        _remedy(_weights_name(name))
        + f", {weights_variable(name)}=FILE leads to them, or give their path as `weights`"
    )


def resolve_extractor(section: ExtractorSection, folder: Path) -> Resolved[Extractor]:
    """Return the extractor of a section. Raises UnresolvedError."""
    entry = extractor_entry(section.name)
    missing: tuple[str, ...] = ()
    path: Path | None = None
    if section.weights is None:
        path = next((file for file in _extractor_files(section.name) if file.is_file()), None)
        missing = () if path else (_extractor_remedy(section.name),)
    elif unset := unset_variable(section.weights):
        missing = (_set_variable(unset, section.name),)
    else:
        path = weights_file(section.weights, folder, "weights")
    extractor = Extractor(
        name=section.name,
        weights=sha256(path) if path else None,
        dimension=entry.dimension,
        logits=entry.logits,
    )
    return Resolved(extractor, {str(extractor.weights): path} if path else {}, missing)


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


def weights_variable(name: str) -> str:
    """The environment variable that leads to an extractor's weights: `SDESWEEP_WEIGHTS_INCEPTION`."""
    return "SDESWEEP_WEIGHTS_" + _weights_name(name).upper().replace("-", "_").replace(".", "_")


def _weights_name(name: str) -> str:
    """The extractor whose weights these are: all conventions of the FID Inception share one file."""
    return "inception" if name.startswith("inception-") else name


def _extractor_files(name: str) -> list[Path]:
    """Where the weights of an extractor can be when a spec gives no path.

    Raises UnresolvedError when the environment variable that should lead to them leads nowhere.
    """
    variable, name = weights_variable(name), _weights_name(name)
    if variable in os.environ:
        path = Path(os.environ[variable]).expanduser()
        if not path.is_file():
            raise UnresolvedError(
                f"{variable} leads to {path}, where no file is: mend or unset the variable", "weights"
            )
        return [path]
    return [
        WEIGHTS / f"{name}.safetensors",
        added_folder() / f"{name}.safetensors",
        added_folder() / f"{name}.pth",
    ]


def resolve_reference(section: DataSet, folder: Path, named: Collection[str] = ()) -> Resolved[DataSet]:
    """Return the data set of a reference; `named`: references that the store has. Raises UnresolvedError."""
    for key in ("split", "content"):
        if section.path is None and getattr(section, key) is not None:
            raise UnresolvedError(f"a {key} is said of data sets by path; this one has none", key)
    if section.path is None and section.name in named:
        return Resolved(section)
    if section.path is None and section.name not in DATA_SETS:
        raise UnresolvedError(
            f"unknown reference {not_one_of(section.name, [*DATA_SETS, *named])}; others need a path, or "
            f"`sdesweep reference build {section.name} --from PATH` brings them into the store",
            "name",
        )
    if section.path is not None and (unset := unset_variable(section.path)):
        return Resolved(section, missing=(_set_variable(unset, section.name),))
    found = resolve_data_set(section, folder)
    if found.path is not None:
        from jobs.inputs.datasets import DatasetError, find_dataset  # imports pyarrow

        try:
            find_dataset(found.name, found.path, found.split)
        except DatasetError as error:
            raise UnresolvedError(str(error), "path") from None
    return Resolved(found)


def resolve_images(section: DataSet, folder: Path) -> Resolved[Model]:
    """Return what is known of images that a sampler needs beside its model. Raises UnresolvedError."""
    if section.path is not None and (unset := unset_variable(section.path)):
        unread = Model(name=section.name, family="dataset", shape=None, dataset=section)
        return Resolved(unread, missing=(_set_variable(unset, section.name),))
    try:
        return _data_set_model(section, folder)
    except UnresolvedError as error:
        raise UnresolvedError(str(error), "name" if section.path is None else "path") from None


def resolve_data_set(section: DataSet, folder: Path, *key: str) -> DataSet:
    """Return the data set with its path absolute. Raises UnresolvedError."""
    if section.path is not None:
        return section.model_copy(update={"path": str(expand(section.path, folder, *key, "path"))})
    if section.name not in DATA_SETS:
        known = ", ".join(DATA_SETS) + suggestion(section.name, DATA_SETS)
        message = f"unknown data set {section.name!r}: others than these need a path: {known}"
        raise UnresolvedError(message, *key, "name")
    return section


def _data_set_model(section: DataSet, folder: Path, *key: str) -> Resolved[Model]:
    """A data set as what the control `real` samples from."""
    data_set = resolve_data_set(section, folder, *key)
    known = DATA_SETS.get(data_set.name)
    if data_set.path is not None or known is None:
        known = _read(data_set.name, str(data_set.path), data_set.split)
    if data_set.content not in (None, known.content):
        raise UnresolvedError(f"its images have the content {known.content}", *key, "content")
    model = Model(
        name=data_set.name,
        family="dataset",
        shape=known.shape,
        dataset=data_set,
        content=known.content,
        images=known.images,
    )
    return Resolved(model)


@functools.cache
def _read(name: str, path: str, split: str | None) -> KnownDataSet:
    """Read a whole data set for what must be known of it."""
    from jobs.inputs.datasets import DatasetError, open_dataset  # imports pyarrow

    try:
        data = open_dataset(name, path, split)
    except DatasetError as error:
        raise UnresolvedError(str(error), "dataset") from None
    return KnownDataSet(len(data), data.shape, data.content_hash)
