"""Networks and extractors of other packages: what is installed under the entry-point groups, and its loading.

A package registers a factory by name (docs/plugins.md); it is imported when that name is asked for, never
before. Whatever is wrong with it is an error that names package and entry point. Knows no weights.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    entry_points,
    packages_distributions,
    version,
)
from pathlib import Path
from typing import Any

from jobs.inputs.modelfiles import UnresolvedError

NETWORKS = "sdesweep.networks"
EXTRACTORS = "sdesweep.extractors"

#: Networks of this project that need a package of their own: an optional extra.
EXTRAS = {"diffusers_unet": "diffusers"}

COMPILED = (".so", ".pyd", ".dylib")  # endings of what runs on machines of one kind alone

IDENTITY_KEYS = ("network", "layer", "dimension", "resize", "normalisation")


class PluginError(UnresolvedError):
    """A registered factory that cannot be used; the message names package and entry point."""


@dataclass(frozen=True)
class Plugin:
    """A factory that an installed package registers."""

    group: str
    name: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"entry point {self.name} of package {self.package} {self.version} ({self.group})"


def installed(group: str) -> list[Plugin]:
    """Everything that is registered in a group, by name; nothing is imported."""
    found = [_described(entry) for entry in entry_points(group=group)]
    return sorted(set(found), key=lambda plugin: (plugin.name, plugin.package))


def find(group: str, name: str) -> Plugin | None:
    """Who registers a name; None where nobody does. Raises PluginError where two packages do."""
    found = _entry(group, name)
    return None if found is None else _described(found)


def provide_networks(names: Iterable[str]) -> dict[str, str]:
    """Make networks known to `sdesampling` under these names.

    Returns package and version of those that come from other packages, or need one. Raises PluginError.
    """
    versions = {}
    for name in names:
        entry = _entry(NETWORKS, name)
        if entry is None and name in EXTRAS:
            versions[name] = f"{EXTRAS[name]} {_extra_version(name)}"
        if entry is None:
            continue
        from sdesampling import networks  # imports torch

        plugin = _described(entry)
        known = networks.NETWORKS.get(name)
        if known is not None and not isinstance(known, PluginFactory):
            raise PluginError(f"{plugin}: {name} is a network of this project; it needs another name")
        if known is None:
            networks.NETWORKS[name] = _network_factory(plugin, _loaded(plugin, entry))
        versions[name] = f"{plugin.package} {plugin.version}"
    return versions


@dataclass(frozen=True)
class Code:
    """What another machine needs to know a plug-in by: pure Python, and what it registers."""

    plugin: Plugin
    modules: tuple[Path, ...]  # folders of packages, or files of modules
    entry_points: str  # text of its entry_points.txt
    needs: tuple[str, ...]  # other packages, as it names them; they do not travel with it


def code_of(group: str, name: str) -> Code | None:
    """The code of a plug-in; None where no package registers the name.

    Raises PluginError where it cannot be taken to another machine: a module that is compiled, or in pieces.
    """
    entry = _entry(group, name)
    if entry is None or entry.dist is None:
        return None
    plugin = _described(entry)
    tops = {top for top, packages in packages_distributions().items() if plugin.package in packages}
    tops = {top for top in tops if not top.startswith("__editable__")} | {entry.module.partition(".")[0]}
    modules = tuple(_module(plugin, top) for top in sorted(tops))
    needs = tuple(each for each in entry.dist.requires or () if "extra ==" not in each)
    return Code(plugin, modules, entry.dist.read_text("entry_points.txt") or "", needs)


def _module(plugin: Plugin, name: str) -> Path:
    """The folder or the file of a module. Raises PluginError where it is more than Python."""
    found = importlib.util.find_spec(name)
    folders = list((found and found.submodule_search_locations) or ())
    module = Path(folders[0] if folders else (found and found.origin) or "")
    compiled = [path.name for path in module.rglob("*") if path.suffix in COMPILED]
    if len(folders) <= 1 and not compiled and (module.suffix == ".py" or (folders and module.is_dir())):
        return module
    what = f"holds compiled files ({compiled[0]})" if compiled else "is no single folder or file of Python"
    raise PluginError(
        f"{plugin}: its module {name} {what}, so it cannot travel with a job: install {plugin.package} "
        f"{plugin.version} on every machine of the cluster"
    )


def require_networks(names: Iterable[str]) -> None:
    """Make networks of other packages known. Raises PluginError also where one is not installed here."""
    names = tuple(names)
    provided = provide_networks(names)
    for name in names:
        if name not in provided:
            raise PluginError(
                f"network {name!r} is of a package that is not installed here: install it on every "
                "machine that works"
            )


def unknown_networks(names: Iterable[str]) -> list[str]:
    """Names that neither this project nor, after `provide_networks`, an installed package knows."""
    from sdesampling.networks import NETWORKS as known  # imports torch

    return [name for name in names if name not in known]


def _extra_version(name: str) -> str:
    try:
        return version(EXTRAS[name])
    except PackageNotFoundError:
        raise PluginError(
            f"network {name!r} needs the package {EXTRAS[name]}: pip install 'sdesweep[{EXTRAS[name]}]'"
        ) from None


def provide_extractor(name: str) -> Plugin | None:
    """Make an extractor known to `fid` under its name; None for one of this project. Raises PluginError."""
    entry = _entry(EXTRACTORS, name)
    if entry is None:
        return None
    from fid import extractors  # imports torch

    plugin = _described(entry)
    known = extractors.EXTRACTORS.get(name)
    if known is not None and not isinstance(known, PluginFactory):
        raise PluginError(f"{plugin}: {name} is an extractor of this project; it needs another name")
    if known is None:
        factory = _loaded(plugin, entry)
        identity = _identity(plugin, factory)
        extractors.register(name, _extractor_factory(plugin, factory, identity), identity)
    return plugin


def extractor_logits(name: str) -> int:
    """Width of the class logits that a provided extractor gives; 0: none."""
    from fid import extractors

    factory = extractors.EXTRACTORS[name]
    return factory.logits if isinstance(factory, PluginFactory) else 0


def _entry(group: str, name: str) -> EntryPoint | None:
    found = {_described(entry): entry for entry in entry_points(group=group, name=name)}
    if len(found) > 1:
        packages = " and ".join(sorted(f"{plugin.package} {plugin.version}" for plugin in found))
        raise PluginError(f"{name} is registered in {group} by {packages}: uninstall all but one of them")
    return next(iter(found.values()), None)


def _described(entry: EntryPoint) -> Plugin:
    package = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    return Plugin(entry.group, entry.name, package, version)


def _loaded(plugin: Plugin, entry: EntryPoint) -> Callable[..., Any]:
    try:
        factory: Any = entry.load()
    except Exception as error:  # whatever another package's import raises is its fault, and named so
        raise PluginError(
            f"{plugin} cannot be imported from {entry.value}: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise PluginError(f"{plugin} is a {type(factory).__name__}, no factory that can be called")
    return factory


class PluginFactory:
    """The factory of a package, its results checked; it keeps the signature, by which arguments are checked.

    logits: width of the class logits that an extractor gives; 0: none.
    """

    def __init__(self, plugin: Plugin, factory: Callable[..., Any], check: Callable[[Any], None]) -> None:
        """check: raises PluginError for what the factory must not give."""
        functools.update_wrapper(self, factory, updated=())
        self.plugin = plugin
        self.logits = int(getattr(factory, "logits", 0))
        self._factory = factory
        self._check = check

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        try:
            made = self._factory(*arguments, **named)
        except (ValueError, OSError):
            raise  # about its arguments or its file, in its own words
        except Exception as error:  # anything else is a fault of the package, and named so
            raise PluginError(f"{self.plugin} failed: {type(error).__name__}: {error}") from error
        self._check(made)
        return made


def _network_factory(plugin: Plugin, factory: Callable[..., Any]) -> PluginFactory:
    from torch import nn

    def check(made: Any) -> None:
        if not isinstance(made, nn.Module):
            raise PluginError(f"{plugin} gave a {type(made).__name__}, no torch.nn.Module")

    return PluginFactory(plugin, factory, check)


def _extractor_factory(
    plugin: Plugin, factory: Callable[..., Any], identity: Mapping[str, str | int]
) -> PluginFactory:
    def check(made: Any) -> None:
        lacking = [key for key in ("name", "dimension", "identity") if not hasattr(made, key)]
        if lacking or not callable(made):
            what = f"has no {', '.join(lacking)}" if lacking else "cannot be called with images"
            raise PluginError(f"{plugin} gave a {type(made).__name__}, which {what}: it is no extractor")
        if made.dimension != identity["dimension"]:
            raise PluginError(
                f"{plugin} gave an extractor of {made.dimension} features, its identity says "
                f"{identity['dimension']}"
            )

    return PluginFactory(plugin, factory, check)


def _identity(plugin: Plugin, factory: Any) -> dict[str, str | int]:
    identity = getattr(factory, "identity", None)
    if not isinstance(identity, Mapping) or not set(IDENTITY_KEYS) <= identity.keys():
        raise PluginError(f"{plugin} has no `identity` that says {', '.join(IDENTITY_KEYS)}")
    if not isinstance(identity["dimension"], int) or identity["network"] != plugin.name:
        raise PluginError(
            f"{plugin}: the network of its `identity` must be {plugin.name!r}, its dimension a whole number"
        )
    return {key: identity[key] for key in IDENTITY_KEYS}
