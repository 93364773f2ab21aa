"""Reading score_sde's configurations, which are Python files, without running them.

Such a file is a function that sets attributes to constants, on top of a file of defaults that it imports.
This reads exactly that from the syntax tree; whatever else is in the function is refused, never executed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from jobs.inputs.modelfiles import UnresolvedError

FUNCTIONS = ("get_config", "get_default_configs")


def read_python_config(path: Path) -> dict[str, Any]:
    """The nested data that a configuration file of score_sde describes.

    The files that it imports defaults from are looked for from its folder upwards. Raises UnresolvedError.
    """
    try:
        module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (SyntaxError, ValueError) as error:
        raise UnresolvedError(f"{path} is no Python text: {error}") from None
    imports = {
        alias.asname or alias.name: node.module
        for node in module.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    name = next((name for name in FUNCTIONS if name in functions), None)
    if name is None:
        raise UnresolvedError(f"{path} has no function {' or '.join(FUNCTIONS)}")
    return _Reader(path, imports).read(functions[name])


class _Reader:
    """Follows the assignments of one function; names stand for nested data."""

    def __init__(self, path: Path, imports: dict[str, str]) -> None:
        self._path = path
        self._imports = imports
        self._names: dict[str, Any] = {}

    def read(self, function: ast.FunctionDef) -> dict[str, Any]:
        """What the function returns."""
        for statement in function.body:
            if isinstance(statement, ast.Assign):
                value = self._value(statement.value)
                for target in statement.targets:
                    self._assign(target, value)
            elif isinstance(statement, ast.Return) and statement.value is not None:
                found = self._value(statement.value)
                if isinstance(found, dict):
                    return found
                raise self._refused(statement)
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                raise self._refused(statement)
        raise UnresolvedError(f"{self._path}: {function.name} returns nothing")

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, ast.Attribute) and isinstance(holder := self._value(target.value), dict):
            holder[target.attr] = value
        else:
            raise self._refused(target)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id in self._names:
            return self._names[node.id]
        if isinstance(node, ast.Attribute):
            holder = self._value(node.value)
            if isinstance(holder, dict):
                return holder.setdefault(node.attr, {})
            raise self._refused(node)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.IfExp):
            return None  # which device to use; nothing that describes a network depends on the machine
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise self._refused(node) from None

    def _called(self, node: ast.Call) -> Any:
        """An empty configuration, or the defaults of another file."""
        name = ast.unparse(node.func)
        if name.endswith("ConfigDict") and not node.args:
            return {}
        if name in self._imports:
            return read_python_config(self._beside(self._imports[name]))
        raise self._refused(node)

    def _beside(self, module: str) -> Path:
        relative = Path(*module.split(".")).with_suffix(".py")
        for folder in self._path.resolve().parents:
            for candidate in (folder / relative, folder / relative.name):
                if candidate.is_file():
                    return candidate
        raise UnresolvedError(f"{self._path} takes its defaults from {relative}: it is not beside or above")

    def _refused(self, node: ast.AST) -> UnresolvedError:
        line = getattr(node, "lineno", 0)
        return UnresolvedError(
            f"{self._path}, line {line}: `{ast.unparse(node)}` is more than setting a value, and is never run"
        )
