"""The matrix of a spec laid out: which cells there are, what each is called, and its settings.

Structure only: whether the settings make sense is for `jobs/planning/sweep.py` to say. Nothing is laid out
when the axes would give more cells than allowed, so a typing error cannot fill the memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.problems import Location, Problem, dotted_keys, not_one_of, path_text, suggestion
from jobs.specs.layers import Layers
from jobs.specs.spec import Condition, Settings, Spec, SweepSection

MAX_CELLS = 10_000
ONLY_COLUMN = "score"  # label of the column of a table that has one axis or none


@dataclass(frozen=True)
class Cell:
    """One cell: its place in the table and the settings laid over each other."""

    row: str
    column: str
    layers: Layers

    @property
    def name(self) -> str:
        return f"{self.row} / {self.column}"


@dataclass
class Table:
    """The cells of a spec in order, row by row, and what is wrong with its sweep section."""

    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


Levels = Mapping[str, str]  # axis -> level


def lay_out(spec: Spec) -> Table:
    """Return the table of a spec; without a sweep it has one cell."""
    table = Table()
    if spec.sweep is None:
        table.cells.append(Cell(spec.name, ONLY_COLUMN, _layers(spec, [])))
    else:
        table.problems = list(_problems(spec.sweep))
        if not table.problems:
            table.cells = [*_matrix(spec, spec.sweep, table.problems), *_included(spec, spec.sweep)]
            table.problems += _placed_twice(table.cells)
        if not table.cells and not table.problems:
            remedy = "exclude leaves none" if spec.sweep.axes else "give axes or include"
            table.problems.append(Problem("sweep", f"has no cells: {remedy}"))
    table.rows = list(dict.fromkeys(cell.row for cell in table.cells))
    table.columns = _column_order(spec.sweep, table.cells)
    order = {row: number for number, row in enumerate(table.rows)}
    table.cells.sort(key=lambda cell: order[cell.row])
    return table


def _layers(spec: Spec, changes: list[tuple[Location, Mapping[str, Any]]]) -> Layers:
    layers = Layers()
    for origin, settings in [((), spec.settings), *changes, (("--set",), spec.overrides)]:
        layers.add(settings, origin)
    return layers


def _matrix(spec: Spec, sweep: SweepSection, problems: list[Problem]) -> list[Cell]:
    rows, columns = _sides(sweep)
    used: set[int] = set()
    cells = []
    for levels in _combinations(sweep):
        changes: list[tuple[Location, Mapping[str, Any]]] = [
            (("sweep", "axes", axis, level), sweep.axes[axis][level]) for axis, level in levels.items()
        ]
        for number, override in enumerate(sweep.override):
            if _matches(override.when, levels):
                used.add(number)
                changes.append((("sweep", "override", number, "set"), override.set))
        cells.append(
            Cell(_label(sweep, rows, levels), _label(sweep, columns, levels), _layers(spec, changes))
        )
    for number in sorted(set(range(len(sweep.override))) - used):
        problems.append(Problem(path_text(["sweep", "override", number, "when"]), "matches no cell"))
    return cells


def _combinations(sweep: SweepSection) -> Iterator[Levels]:
    if not sweep.axes:
        return
    for combination in itertools.product(*sweep.axes.values()):
        levels = dict(zip(sweep.axes, combination, strict=True))
        if not any(_matches(condition, levels) for condition in sweep.exclude):
            yield levels


def _matches(condition: Condition, levels: Levels) -> bool:
    return all(levels[axis] in wanted for axis, wanted in condition.items())


def _included(spec: Spec, sweep: SweepSection) -> Iterator[Cell]:
    for number, include in enumerate(sweep.include):
        origin = ("sweep", "include", number, "set")
        yield Cell(include.row, include.column, _layers(spec, [(origin, include.set)]))


def _sides(sweep: SweepSection) -> tuple[list[str], list[str]]:
    """Axes of the rows and of the columns: as said, else the first and the second; others join the rows."""
    axes = list(sweep.axes)
    columns = list(sweep.columns) or [axis for axis in axes if axis not in (sweep.rows or axes[:1])][:1]
    rows = [axis for axis in sweep.rows if axis not in columns]
    return rows + [axis for axis in axes if axis not in rows and axis not in columns], columns


def _label(sweep: SweepSection, axes: list[str], levels: Levels) -> str:
    """Levels joined; a level that is a bare number of a key is called with it: `steps 100`."""
    parts = []
    for axis in axes:
        level = levels[axis]
        bare = isinstance(sweep.axes[axis][level].get(axis, ""), int | float | None)
        parts.append(f"{axis.rpartition('.')[2]} {level}" if bare else level)
    return " ".join(parts) or ONLY_COLUMN


def _column_order(sweep: SweepSection | None, cells: list[Cell]) -> list[str]:
    """Columns in the order of their axes, though the first rows may lack some; then the included ones."""
    present = dict.fromkeys(cell.column for cell in cells)
    if sweep is None:
        return list(present)
    axes = [axis for axis in _sides(sweep)[1] if axis in sweep.axes]
    combinations = itertools.product(*(sweep.axes[axis] for axis in axes))
    labels = (_label(sweep, axes, dict(zip(axes, levels, strict=True))) for levels in combinations)
    return list(dict.fromkeys([*(label for label in labels if label in present), *present]))


def _problems(sweep: SweepSection) -> Iterator[Problem]:
    count = math.prod(map(len, sweep.axes.values())) * bool(sweep.axes) + len(sweep.include)
    if count > MAX_CELLS:
        sizes = " x ".join(str(len(levels)) for levels in sweep.axes.values())
        message = f"{count:,} cells ({sizes}); at most {MAX_CELLS:,}: take fewer levels, or several specs"
        yield Problem("sweep", message)
        return
    known = [*Settings.model_fields]
    for axis, levels in sweep.axes.items():
        if not levels:
            yield Problem(path_text(["sweep", "axes", axis]), "has no levels")
        is_list = any(set(settings) == {axis} for settings in levels.values())
        if is_list and axis.partition(".")[0] not in known:
            near = suggestion(axis, [*known, *dotted_keys(Settings)])
            yield Problem(
                path_text(["sweep", "axes", axis]),
                f"a list sets the key that the axis is named after, and there is no key {axis!r}{near}",
            )
    for side in ("rows", "columns"):
        for axis in getattr(sweep, side):
            if axis not in sweep.axes:
                yield Problem(path_text(["sweep", side]), not_one_of(axis, sweep.axes))
    for axis in set(sweep.rows) & set(sweep.columns):
        yield Problem("sweep.columns", f"{axis!r} makes the rows already")
    for number, condition in enumerate(sweep.exclude):
        yield from _condition_problems(sweep, condition, ("sweep", "exclude", number))
    for number, override in enumerate(sweep.override):
        yield from _condition_problems(sweep, override.when, ("sweep", "override", number, "when"))


def _condition_problems(sweep: SweepSection, condition: Condition, where: Location) -> Iterator[Problem]:
    if not condition:
        yield Problem(path_text(where), "is empty, which means every cell; name an axis and its levels")
    for axis, levels in condition.items():
        if axis not in sweep.axes:
            yield Problem(path_text(where), f"axis {not_one_of(axis, sweep.axes)}")
            continue
        for level in levels:
            if level not in sweep.axes[axis]:
                yield Problem(path_text((*where, axis)), not_one_of(level, sweep.axes[axis]))


def _placed_twice(cells: list[Cell]) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for cell in cells:
        if (cell.row, cell.column) in seen:
            yield Problem("sweep", f"two cells are called {cell.name!r}; give one another row or column")
        seen.add((cell.row, cell.column))
