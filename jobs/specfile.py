"""Reading a spec file: YAML 1.2, data only, everything that is wrong with it reported at once.

YAML 1.2 reads `1e-5` as a number and `22:00` as text. Tags are refused, so a file can name no code; what
anchors unfold to is bounded, so it cannot fill the memory. Knows no sampler: checks of content are in
`jobs/sweep.py`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import (
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    DirectiveToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
    TagToken,
    Token,
)

from jobs import catalog
from jobs.problems import Location, Problem, SpecError, describe, key_hint, path_text, show, suggestion
from jobs.spec import Head, Settings, Spec, level_text
from jobs.sweep import find_problems

MAX_BYTES = 250_000
MAX_NODES = 200_000  # after anchors are unfolded
MAX_DEPTH = 50  # of lists and mappings in each other
_OPENING = (BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken)
_CLOSING = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)


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


def parse(text: str, source: str) -> dict[str, Any]:
    """Return the mapping that a YAML 1.2 text holds. Raises SpecError, with the line, for anything else."""
    try:
        document = _loaded(text)
        if not isinstance(document, dict):
            found = "a list" if isinstance(document, list) else f"the single value {show(document)}"
            found = "empty" if document is None else found
            raise _UnusableError("", f"a spec is a mapping of keys, such as `name: trial`; this is {found}")
        if _nodes(document, MAX_NODES) > MAX_NODES:
            raise _UnusableError(
                "", f"unfolds to more than {MAX_NODES:,} values; write less, or fewer anchors"
            )
        plain: dict[str, Any] = _with_text_keys(document)
    except _UnusableError as error:
        raise SpecError(source, [Problem(*error.args)]) from None
    except RecursionError:  # anchors in anchors
        raise SpecError(source, [Problem("", "is nested too deeply for a spec")]) from None
    return plain


class _UnusableError(Exception):
    """(where, what is wrong) of a text that holds no spec."""


def _loaded(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _PlainConstructor
    yaml.allow_duplicate_keys = False
    try:
        _check_tokens(yaml.scan(text))
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else ""
        raise _UnusableError(where, (error.problem or "not YAML").strip().splitlines()[0]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = f"U+{error.character:04X}"
        raise _UnusableError(f"line {line}", f"the character {code} may not stand in YAML") from None
    except YAMLError as error:
        raise _UnusableError("", f"not YAML: {error}") from None
    except ValueError as error:  # a number of thousands of digits
        reason = str(error).partition(";")[0]
        raise _UnusableError("", f"holds a number that cannot be read: {reason}") from None


def _check_tokens(tokens: Iterator[Token]) -> None:
    """Refuse what a spec does not need, before anything is built of it."""
    depth = 0
    for token in tokens:
        where = f"line {token.start_mark.line + 1}"
        if isinstance(token, TagToken):
            raise _UnusableError(where, "tags (!) are refused: a spec is plain data")
        if isinstance(token, DirectiveToken):
            raise _UnusableError(where, "directives (%) are refused: a spec always is YAML 1.2")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise _UnusableError(where, f"is nested more than {MAX_DEPTH} deep")


class _PlainConstructor(SafeConstructor):
    """Dates stay text, as in the core schema of YAML 1.2."""


_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _with_text_keys(value: Any, where: Location = ()) -> Any:
    """Nested data whose mappings have text as keys: a level may be written 100, a row 2024-01-01."""
    if isinstance(value, Mapping):
        named = {_printable(level_text(key), where): item for key, item in value.items()}
        return {key: _with_text_keys(item, (*where, key)) for key, item in named.items()}
    if isinstance(value, list):
        return [_with_text_keys(item, (*where, number)) for number, item in enumerate(value)]
    return _printable(value, where) if isinstance(value, str) else value


def _printable(text: str, where: Location) -> str:
    """Refuse characters that steer a terminal, and halves of characters, which no file can hold."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            code = f"U+{ord(character):04X}"
            message = f"{show(text)} holds the character {code}, which may not stand in text"
            raise _UnusableError(path_text(where), message)
    return text


def _nodes(value: object, limit: int) -> int:
    """Number of values in nested data, counting shared ones each time; stops beyond the limit."""
    count, waiting = 0, [value]
    while waiting and count <= limit:
        item = waiting.pop()
        count += 1
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return count


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
