"""The arrows of docs/architecture.md: which package may import which, and what is imported nowhere else."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: package -> what it must not import, by first name
FORBIDDEN = {
    "sdesampling": {"ray", "pyarrow", "click", "pydantic", "ruamel", "rich", "jobs", "cluster", "fid"},
    "fid": {"ray", "click", "jobs", "cluster", "sdesampling"},
    "jobs": {"ray", "click", "cluster"},
    "cluster": set(),
}

#: rooms of `jobs`, each of which may import those before it; modules of `jobs` itself import no room
ROOMS = (
    "specs",
    "storage",
    "inputs",
    "models",
    "planning",
    "compute",
    "scores",
    "references",
    "work",
    "inspection",
    "training",
    "report",
)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """First names of everything that a module imports."""
    return {name.partition(".")[0] for name in full_names(path)}


def full_names(path: Path) -> set[str]:
    """Everything that a module imports, anywhere in it, by statement or by a constant name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return names


def rooms_of(names: set[str]) -> set[str]:
    """Rooms of `jobs` among imported names."""
    return {room for room in ROOMS if any(f"{name}.".startswith(f"jobs.{room}.") for name in names)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_in_one_direction(package: str):
    assert modules(package)
    wrong = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in modules(package)
        if (found := imported(path) & FORBIDDEN[package])
    }
    assert wrong == {}


def test_rooms_of_jobs_import_in_one_direction():
    found = {path.name for path in (ROOT / "jobs").iterdir() if (path / "__init__.py").exists()}
    assert found == set(ROOMS)
    wrong = {
        str(path.relative_to(ROOT)): sorted(rooms)
        for path in modules("jobs")
        if (rooms := rooms_of(full_names(path)) - allowed(path))
    }
    assert wrong == {}


def allowed(path: Path) -> set[str]:
    """Rooms that a module of `jobs` may import: its own and those before it."""
    room = path.relative_to(ROOT / "jobs").parts[0]
    return set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set()


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_are_absolute(package: str):
    """A relative import has an empty first name, and would slip through the check of directions."""
    assert [str(path) for path in modules(package) if "" in imported(path)] == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_tests_mirror_the_packages(package: str):
    assert (ROOT / "tests" / package).is_dir()


def test_no_two_test_files_have_one_name():
    """pytest collects files by their names alone: of two alike it refuses one, and with it all tests."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_every_module_says_what_it_holds():
    silent = [
        str(path.relative_to(ROOT))
        for package in FORBIDDEN
        for path in modules(package)
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


@pytest.mark.parametrize("package", ["jobs", "cluster"])
def test_the_page_names_every_module(package: str):
    """A stranger looks there for the room of a change."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    known = [path for path in modules(package) if path.name != "__init__.py" and path.parent.name != "cli"]
    assert [str(path.relative_to(ROOT)) for path in known if f"`{path.name}`" not in page] == []


def test_the_check_finds_what_it_looks_for(tmp_path: Path):
    (tmp_path / "module.py").write_text(
        "import ray.util\n"
        "def f():\n    from jobs.specs.spec import Spec\n    importlib.import_module('cluster.cli')\n"
        "from . import x\n"
    )
    assert imported(tmp_path / "module.py") == {"ray", "jobs", "cluster", ""}
    assert rooms_of(full_names(tmp_path / "module.py")) == {"specs"}
