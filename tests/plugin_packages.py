"""Packages with entry points, installed for a test as pip would: modules and metadata on sys.path."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; what they registered is forgotten afterwards."""
    from fid import extractors
    from sdesampling import networks

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    known = set(sys.modules)
    yield folder
    for table in (networks.NETWORKS, extractors.EXTRACTORS):
        for name in [name for name, factory in table.items() if hasattr(factory, "plugin")]:
            del table[name]
            extractors._IDENTITIES.pop(name, None)
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


Install = Callable[..., None]


@pytest.fixture
def install(site: Path) -> Install:
    """Install a package by name, entry points {group: {name: value}}, modules {name: source} and version."""

    def put(
        package: str,
        groups: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        version: str = "1.2.3",
    ) -> None:
        information = site / f"{package.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    return put


def install_example(install: Install, name: str) -> Path:
    """Install one of examples/ from its own pyproject; returns its folder."""
    folder = EXAMPLES / name
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    modules = {path.stem: path.read_text() for path in folder.glob("example_*.py")}
    install(project["name"], project["entry-points"], modules, project["version"])
    return folder


def uninstall(site: Path, package: str) -> None:
    """Take a package's metadata and modules away again."""
    for path in site.glob(f"{package.replace('-', '_')}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    importlib.invalidate_caches()
