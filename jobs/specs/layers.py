"""Settings laid over settings, remembering where each was written, so that an error can name the place.

Mappings below `sampler` and `resources` merge key by key; everything else is replaced whole. A sampler of
another kind replaces the section, for its keys mean nothing to the other. Knows no key by its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.problems import Location

MERGED = ("sampler", "resources")


class Layers:
    """Nested settings that grow layer by layer; `origin` tells which layer wrote a key last."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self._origins: dict[Location, Location] = {}

    def add(self, changes: Mapping[str, Any], origin: Location) -> None:
        """Lay dotted or nested `changes` over what is there."""
        for key, value in nest(changes).items():
            old = self.settings.get(key)
            if key in MERGED and isinstance(value, Mapping) and isinstance(old, Mapping):
                another_kind = "kind" in value and value["kind"] != old.get("kind")
                self.settings[key] = value if another_kind else _laid_over(old, value)
            else:
                self.settings[key] = value
            self._origins.update(dict.fromkeys(_paths(key, value), origin))

    def origin(self, location: Location) -> Location:
        """Where a key was last written; for a missing key, where the section was that lacks it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self._origins:
                return self._origins[location[:length]]
        return ()


def nest(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested mappings: {"sampler.steps": 10} into {"sampler": {"steps": 10}}."""
    nested: dict[str, Any] = {}
    for dotted, value in changes.items():
        first, *rest = str(dotted).split(".")
        for key in reversed(rest):
            value = {key: value}
        nested[first] = _laid_over(nested.get(first), value)
    return nested


def _laid_over(old: object, new: object) -> object:
    """Mappings merge key by key; anything else replaces what was there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _laid_over(old.get(key), value) for key, value in new.items()}}
    return new


def _paths(key: str, value: object) -> Iterator[Location]:
    """The path of a value and of everything below it."""
    yield (key,)
    if isinstance(value, Mapping):
        for inner, item in value.items():
            for path in _paths(str(inner), item):
                yield (key, *path)
