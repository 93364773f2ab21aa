"""Checking a name against the names that exist, with an error that says what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches


def one_of(what: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError, with a suggestion, unless value is among the choices."""
    names = list(choices)
    if value in names:
        return
    close = get_close_matches(str(value), names, n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{what}: {value!r} is not one of {', '.join(names)}{suggestion}")
