"""YAML 1.2 as plain data: `1e-5` is a number and `22:00` is text, and a text can do no harm.

Tags are refused, so a file can name no code; what anchors unfold to is bounded, so it cannot fill the memory.
Apart from spec files because trainings, models and options of commands are written so too. It must not know
what the keys mean.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

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

from jobs.problems import Location, Problem, SpecError, path_text, show
from jobs.specs.spec import level_text

MAX_NODES = 200_000  # after anchors are unfolded
MAX_DEPTH = 50  # of lists and mappings in each other
_OPENING = (BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken)
_CLOSING = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)


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
