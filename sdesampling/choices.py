"""Checking a name against the names that exist, with an error that says what would be right."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any


def one_of(what: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError, with a suggestion, unless value is among the choices."""
    names = list(choices)
    if value in names:
        return
    close = get_close_matches(str(value), names, n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{what}: {value!r} is not one of {', '.join(names)}{suggestion}")


def check_arguments(what: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ValueError unless a function can be called with these named arguments."""
    parameters = inspect.signature(function).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {name: parameters[name] for name, kind in kinds.items() if kind not in variable}
    if inspect.Parameter.VAR_KEYWORD not in kinds.values():
        for name in arguments:
            one_of(f"argument of {what}", name, named)
    needed = [name for name, parameter in named.items() if parameter.default is parameter.empty]
    missing = [name for name in needed if name not in arguments]
    if missing:
        raise ValueError(f"{what} needs {', '.join(missing)}")
