"""Reading a spec file: everything that is wrong with it reported at once.

Knows no sampler: checks of content are in `jobs/planning/sweep.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.models import catalog
from jobs.planning.sweep import find_problems
from jobs.problems import Problem, SpecError, describe, key_hint, path_text, suggestion
from jobs.specs.plain_yaml import parse
from jobs.specs.spec import Head, Settings, Spec

MAX_BYTES = 250_000


def load_spec(source: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read a spec and check every cell that it expands to.

    Args:
        source: path of a YAML file, or the name of a spec in the catalogue.
        overrides: dotted key -> value, as if set in every cell: {"samples": 100, "sampler.steps": 10}.

    Raises:
        SpecError: with all the problems of the file.
    """
    path = _find(source)
    text = _read(path)
    document = parse(text, str(source))
    return build_spec(document, text, path.resolve().parent, str(source), overrides or {})


def build_spec(
    document: Mapping[str, Any], text: str, folder: Path, source: str, overrides: Mapping[str, Any]
) -> Spec:
    """Check a parsed document and return it as a spec. Raises SpecError."""
    head_overrides = {
        key: value for key, value in overrides.items() if key in ("name", "store", "description", "window")
    }
    cell_overrides = {key: value for key, value in overrides.items() if key not in head_overrides}
    document = {**document, **head_overrides}
    head = {key: document[key] for key in Head.model_fields if key in document}
    problems = _unknown_keys(document)
    broken: set[str] = set()
    try:
        Head.model_validate(head)
    except ValidationError as error:
        found = describe(error, Head, head)
        problems += [Problem(path_text(location), message) for location, message in found]
        broken = {str(location[0]) for location, _ in found}
    spec = Spec(
        # cells are checked even where the head is wrong: all errors at once
        **{"name": "unnamed", **{key: value for key, value in head.items() if key not in broken}},
        settings={key: value for key, value in document.items() if key in Settings.model_fields},
        overrides=cell_overrides,
        written=text,
        folder=str(folder),
    )
    if "sweep" not in broken:
        problems += find_problems(spec)
    if problems:
        raise SpecError(source, problems)
    return spec


def _find(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    names = catalog.spec_names()
    name = os.fspath(source)
    if name in names:
        return catalog.spec_path(name)
    if name.startswith("train-") and catalog.spec_path(name).is_file():
        raise SpecError(name, [Problem("", f"is a training spec, for `sdesweep train {name}`")])
    beside = next((text for end in (".yaml", ".yml") if Path(text := name + end).is_file()), None)
    near = f"; did you mean {beside!r}?" if beside else suggestion(name, names)
    message = f"neither a file nor a spec of the catalogue ({', '.join(names)}){near}"
    raise SpecError(name, [Problem("", message)])


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(str(path), [Problem("", f"{path.stat().st_size:,} bytes; at most {MAX_BYTES:,}")])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError(str(path), [Problem("", f"not UTF-8 text: {error.reason}")]) from None


def _unknown_keys(document: Mapping[str, Any]) -> list[Problem]:
    known = [*Head.model_fields, *Settings.model_fields]
    return [
        Problem(path_text([key]), f"unknown key{key_hint(key, Head, Settings)}")
        for key in document
        if key not in known
    ]
