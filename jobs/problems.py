"""`SpecError`: everything that is wrong with a spec, in the user's words: key path, value, remedy.

Turns pydantic's errors into such lines. It must not know what a spec holds.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

MANY = 20  # names, beyond which a misspelt one is told the nearest only


@dataclass(frozen=True)
class Problem:
    """One thing wrong: where it is written, and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(ValueError):
    """A spec that cannot be run. `problems` holds all that was found, in the order of the file."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{source}: {_count(len(self.problems))}", *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.source, self.problems)


def _count(number: int) -> str:
    return "1 problem" if number == 1 else f"{number} problems"


def path_text(location: Iterable[str | int]) -> str:
    """Join a key path as a user would write it: `sweep.axes['VE P1000'].sampler.steps`, `stages[0]`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][\w-]*", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def suggestion(value: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" or nothing. Capital letters make no difference."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(value).lower(), list(names), n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def key_hint(key: str, *models: type[BaseModel]) -> str:
    """Return what a key that none of these models has may have been meant to be, else the keys they have."""
    below = dotted_keys(*models)
    if key in below:
        section, _, inner = key.partition(".")
        return f"; dots are for axes and --set, here write {section}: {{{inner}: ...}}"
    inside = [dotted for dotted in below if dotted.partition(".")[2] == key]
    if inside:
        return f"; did you mean {' or '.join(map(repr, inside))}?"
    known = [field.alias or name for model in models for name, field in model.model_fields.items()]
    return suggestion(key, known) or f"; the keys here are {', '.join(known)}"


def dotted_keys(*models: type[BaseModel]) -> list[str]:
    """Return `section.key` for every key of the single sections that models hold; lists have no such keys."""
    found = [
        f"{field.alias or section}.{inner.alias or key}"
        for model in models
        for section, field in model.model_fields.items()
        if get_origin(field.annotation) is not tuple
        for item in _models_in(field.annotation)
        for key, inner in item.model_fields.items()
    ]
    return list(dict.fromkeys(found))


def and_more(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def not_one_of(value: object, known: Iterable[str]) -> str:
    """Return "'x' is not one of a, b; did you mean 'a'?", without the names where they are many."""
    names = list(known)
    near = suggestion(value, names) if isinstance(value, str) else ""
    if near and len(names) > MANY:
        return f"{show(value)} is not one of the {len(names)} names here{near}"
    return f"{show(value)} is not one of {', '.join(names)}{near}"


def show(value: object) -> str:
    """Return a value as a user would recognise it, cut short when it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def describe(error: ValidationError, model: type[BaseModel], written: object) -> list[tuple[Location, str]]:
    """Return (location, message) for each error that `model` found in `written`, in its order."""
    found = (_describe_one(details, model) for details in error.errors(include_url=False))
    return [(as_written(location, written), message) for location, message in found]


def as_written(location: Location, written: object) -> Location:
    """Drop the parts that only reading added: `[0]` of a single entry, `.name` of a bare name."""
    kept: list[str | int] = []
    for part in location:
        if isinstance(part, int) and not isinstance(written, list | tuple):
            continue
        if kept and not isinstance(written, Mapping | list | tuple | None):
            break
        kept.append(part)
        if isinstance(part, int):
            written = written[part] if isinstance(written, list | tuple) and part < len(written) else None
        else:
            written = written.get(part) if isinstance(written, Mapping) else None
    return tuple(kept)


_LIMITS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}


def _describe_one(details: ErrorDetails, model: type[BaseModel]) -> tuple[Location, str]:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    location, owner = _without_tags(details["loc"], model)
    if kind == "missing":
        return location, "missing" + _choices(owner, str(location[-1]))
    if kind == "extra_forbidden":
        return location, f"unknown key{key_hint(str(location[-1]), owner) if owner else ''}"
    if kind == "literal_error":
        return location, not_one_of(value, _quoted(context["expected"]))
    if kind == "union_tag_invalid":
        return (*location, "kind"), not_one_of(value["kind"], _quoted(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return (*location, "kind"), "missing; one of " + ", ".join(_tags_of(location, model))
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return location, f"{show(value)} {words} {context[key]}"
    if kind in _TYPES:
        return location, f"{show(value)} is not {_TYPES[kind]}{_type_hint(kind, value, location, model)}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return location, f"{show(value)} is no name here: it must match {pattern}{_name_hint(value, pattern)}"
    if kind in ("whole_number_or_auto", "spec"):
        return location, f"{show(value)} {details['msg']}"
    if kind == "sentence":
        return location, details["msg"]
    return location, f"{show(value)}: {details['msg']}"


def _type_hint(kind: str, value: object, location: Location, model: type[BaseModel]) -> str:
    if kind in ("int_type", "int_from_float") and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'; write "{show(value)}"'
    field = model.model_fields.get(str(location[-1])) if len(location) == 1 else None
    if kind == "model_attributes_type" and field is not None and field.discriminator:
        return f"; write {{kind: KIND, ...}}, where KIND is one of {', '.join(_tags_of(location, model))}"
    return ""


def _name_hint(value: str, pattern: str) -> str:
    """A name like the one that was written, for blanks and capital letters where there may be none."""
    near = re.sub(r"[^a-z0-9.]+", "-", value.lower()).strip("-.")
    alike = re.fullmatch(r"[\w .-]+", value) and re.fullmatch(pattern, near)
    return f"; for example {near!r}" if alike else ""


def _quoted(expected: str) -> list[str]:
    """The alternatives in pydantic's "'a', 'b' or 'c'"."""
    return re.findall(r"'([^']*)'", expected)


def _without_tags(
    location: tuple[int | str, ...], model: type[BaseModel]
) -> tuple[Location, type[BaseModel] | None]:
    """Drop the union tags that pydantic puts into a location; also return the owner of its last key."""
    kept: list[str | int] = []
    owner: type[BaseModel] | None = model
    candidates: dict[str, type[BaseModel]] = {}
    for depth, part in enumerate(location):
        if part in candidates:
            owner = candidates[str(part)]
            candidates = {}
            continue
        kept.append(part)
        if depth == len(location) - 1:
            break
        field = owner.model_fields.get(str(part)) if owner else None
        if field is not None:
            models = _models_in(field.annotation)
            candidates = {_tag(item): item for item in models} if len(models) > 1 else {}
            owner = models[0] if len(models) == 1 else None
        elif not isinstance(part, int):
            owner = None
    return tuple(kept), owner


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _tag(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    return str(getattr(kind.annotation, "__args__", ("",))[0]) if kind else ""


def _tags_of(location: Location, model: type[BaseModel]) -> list[str]:
    """The kinds of the section at a location; sections stand at the top level of their model."""
    return [_tag(item) for item in _models_in(model.model_fields[str(location[-1])].annotation)]


def _choices(owner: type[BaseModel] | None, key: str) -> str:
    """What a missing key may be, where its values are a fixed set."""
    field = owner.model_fields.get(key) if owner else None
    values = [
        value for value in getattr(field and field.annotation, "__args__", ()) if isinstance(value, str)
    ]
    return f"; one of {', '.join(values)}" if values else ""
