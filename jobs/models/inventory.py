"""What weights there are: shipped, added by the user, or known and not here, with where to get them.

Reads headers and records, no tensors, except to verify. Adding is in `jobs/models/added.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.fingerprint import file_sha256
from jobs.inputs.modelfiles import UnresolvedError, is_safetensors, read_model_config
from jobs.models import catalog
from jobs.models.origins import ORIGINS
from jobs.models.plugins import EXTRACTORS, NETWORKS, Plugin, installed, provide_extractor, provide_networks
from jobs.problems import not_one_of
from jobs.specs.configuration import Source


@dataclass(frozen=True)
class Entry:
    """Weights by name.

    kind: what the network is, such as NCSN++ deep, or `extractor`.
    state: `missing` ones are known, and can be planned with.
    path: of the file; None where it is not here.
    config: of a model, as its file or the catalogue has it.
    source: where the weights of a model's file come from, where it says so.
    origin: where to get what is missing, in words.
    """

    name: str
    kind: str
    state: Literal["shipped", "added", "missing"]
    path: Path | None
    config: dict[str, Any] | None
    source: Source | None
    origin: str


def entries() -> list[Entry]:
    """Everything that is known, shipped ones first. Raises nothing for damaged files: their kind says it."""
    shipped = catalog.weight_files(catalog.WEIGHTS)
    added = catalog.weight_files(catalog.added_folder())
    found = [_present(name, path, "shipped") for name, path in shipped.items()]
    found += [_present(name, path, "added") for name, path in added.items() if name not in shipped]
    known = {*shipped, *added}
    missing = [name for name in (*catalog.published(), *catalog.EXTRACTORS) if name not in known]
    return [*found, *map(_missing, missing)]


def entry(name: str) -> Entry:
    """One of them. Raises UnresolvedError for an unknown name."""
    known = {each.name: each for each in entries()}
    if name not in known:
        raise UnresolvedError(f"unknown weights: {not_one_of(name, known)}", "name")
    return known[name]


def plugins() -> list[Plugin]:
    """Networks and extractors that installed packages register."""
    return [*installed(NETWORKS), *installed(EXTRACTORS)]


def verify(name: str) -> list[str]:
    """Hash and load weights again; returns what is wrong, a sentence each. Raises UnresolvedError."""
    found = entry(name)
    if found.path is None:
        return [f"not here: {found.origin}"]
    problems = []
    recorded = _recorded_sha256(found)
    digest = file_sha256(found.path)
    if recorded is None:
        problems.append(f"no record of its sha256 ({digest}) was kept: add it again")
    elif recorded != digest:
        problems.append(f"has sha256 {digest}, and had {recorded} when it was {found.state}")
    try:
        _load(found)
    except ValueError as error:  # whatever its reader finds wrong
        problems.append(str(error))
    return problems


def remove(name: str) -> list[Path]:
    """Delete added weights and their record; returns what was deleted.

    Runs that have begun keep their own copy in their store, under its sha256. Raises UnresolvedError for what
    is shipped or not here.
    """
    found = entry(name)
    if found.state == "shipped":
        raise UnresolvedError(f"{name} is shipped with the project and stays", "name")
    if found.path is None:
        raise UnresolvedError(f"{name} is not here, so there is nothing to remove", "name")
    files = [found.path, catalog.record_of(found.path)]
    deleted = [path for path in files if path.exists()]
    for path in deleted:
        path.unlink()
    return deleted


def where_to_get(name: str) -> str:
    """Where the weights of a name are, and what to do with them, in words."""
    if name in catalog.unreleased_names():
        return "its weights were never released; a checkpoint of your own training can be added"
    origin = ORIGINS.get(name)
    if origin is None:
        return "from wherever you have them"
    if origin.files:
        return f"`sdesweep models fetch {name}`, or by hand from {origin.page}"
    return f"get it by hand from {origin.page}, then `sdesweep models add FILE --as {name}`"


def _present(name: str, path: Path, state: Literal["shipped", "added"]) -> Entry:
    if catalog.is_extractor(name):
        return Entry(name, "extractor", state, path, None, None, "")
    try:
        config = read_model_config(path)
    except UnresolvedError as error:
        return Entry(name, f"damaged: {error}", state, path, None, None, "")
    source = config.pop("source", None)
    described = None if source is None else Source(**source)
    return Entry(name, _kind(config), state, path, config, described, "")


def _missing(name: str) -> Entry:
    if name in catalog.EXTRACTORS:
        return Entry(name, "extractor", "missing", None, None, None, where_to_get(name))
    config = catalog.published()[name]
    return Entry(name, _kind(config), "missing", None, config, None, where_to_get(name))


def _kind(config: dict[str, Any]) -> str:
    from sdesampling.configs import ModelConfig, ModelError  # imports torch
    from sdesampling.networks.published import architecture

    try:
        return architecture(ModelConfig.from_dict(config))
    except ModelError as error:
        return f"unreadable: {error}"


def _recorded_sha256(found: Entry) -> str | None:
    """What the weights had when they were shipped or added."""
    if found.path is None:
        return None
    shipped = found.path.with_suffix(".json")
    record = shipped if found.state == "shipped" else catalog.record_of(found.path)
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    digest = content["weights"]["sha256"] if found.state == "shipped" else content.get("sha256")
    return None if digest is None else str(digest)


def _load(found: Entry) -> None:
    from fid.extractors import load_extractor  # imports torch
    from sdesampling.models import load_model

    if found.path is None:
        return
    if found.kind == "extractor":
        provide_extractor(found.name)
        load_extractor(found.name, found.path)
        return
    if not is_safetensors(found.path):
        raise UnresolvedError(f"{found.path} is no model's file")
    config = found.config or {}
    parts = [part for part in config.values() if isinstance(part, dict)]
    provide_networks(part["name"] for part in parts if "name" in part)
    load_model(found.path)
