"""What the sections of a spec stand for: names and paths become digests; nothing later depends on them.

What is known but not here is `missing`: it can be planned, not run. Which names there are is said in
`jobs/models/catalog.py`. Reads headers of weight files and hashes them; builds no network.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from jobs.inputs.modelfiles import (
    UnresolvedError,
    locate,
    read_model_config,
    sha256,
    unset_variable,
    weights_file,
)
from jobs.models.catalog import (
    DATA_SETS,
    EMBEDDED_MODELS,
    WEIGHTS,
    KnownDataSet,
    added_folder,
    extractor_entry,
    model_names,
    published,
)
from jobs.models.plugins import provide_networks, unknown_networks
from jobs.problems import not_one_of, suggestion
from jobs.specs.configuration import Extractor, Model
from jobs.specs.sections import DataSet
from jobs.specs.spec import ExtractorSection, ModelSection

T = TypeVar("T")


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """What a section of a spec stands for."""

    thing: T
    files: Mapping[str, Path] = field(default_factory=dict)  # sha256 -> weights on this machine
    missing: tuple[str, ...] = ()  # what must be done before it can run, a sentence each


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
    path = (WEIGHTS if name in EMBEDDED_MODELS else added_folder()) / f"{name}.safetensors"
    if path.is_file():
        return _own_model(name, path)
    if name in published():
        return Resolved(_described(name, published()[name], None), missing=(_remedy(name),))
    raise UnresolvedError(f"unknown model: {not_one_of(name, model_names())}", "name")


def _model_by_path(network: str | None, weights: Mapping[str, str], folder: Path) -> Resolved[Model]:
    foreign = {name: config for name, config in published().items() if config["family"] != "score"}
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
    has_betas, has_sigmas = sde.get("family") in ("vp", "subvp"), sde.get("family") == "ve"
    return Model(
        name=name,
        family=config["family"],
        shape=tuple(config["shape"]),
        weights={"model": digest},
        sde=sde.get("family"),
        beta_min=sde.get("beta_min", 0.1) if has_betas else None,
        beta_max=sde.get("beta_max", 20.0) if has_betas else None,
        sigmas=(sde.get("sigma_min", 0.01), sde.get("sigma_max", 50.0)) if has_sigmas else None,
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
        path = Path(os.path.expanduser(os.environ[variable]))
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
        return section.model_copy(update={"path": str(locate(section.path, folder, *key, "path"))})
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
