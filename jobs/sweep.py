"""A spec expanded: its configurations in the order of its table.

`expand` gives the `Sweep`, `find_problems` all that is wrong with it; both go through the same steps, so
what is checked is what runs. Cells are laid out in `jobs/cells.py` and resolved one by one in
`jobs/resolution.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.cells import Cell, lay_out
from jobs.configuration import Configuration
from jobs.layers import Layers
from jobs.problems import Location, Problem, SpecError, not_one_of, path_text
from jobs.resolution import Resolver
from jobs.sections import PlainName, PublishedValue, Resources, Section
from jobs.spec import Spec

MAX_CONFIGURATIONS = 10_000


class Sweep(Section):
    """The configurations of one spec. `to_json` is self-contained: a sweep resumes from it alone."""

    name: PlainName
    description: str
    written: str  # the spec as the user wrote it
    overrides: dict[str, object]  # what the command line set beside it
    rows: tuple[str, ...]  # labels of the table, in order
    columns: tuple[str, ...]
    configurations: tuple[Configuration, ...]  # row by row; replicates of a cell beside each other
    store: str
    resources: Resources
    files: dict[str, str]  # sha256 -> path on this machine of the weights to be put into the store
    missing: tuple[str, ...]  # what must be done before it can run; empty: it can

    def to_json(self) -> str:
        """The text of `sweep.json`."""
        return self.model_dump_json(indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Sweep:
        """Read `to_json` back. Raises pydantic.ValidationError (a ValueError) when it is something else."""
        return Sweep.model_validate_json(text)


def expand(spec: Spec) -> Sweep:
    """Return the sweep of a spec. Raises SpecError with everything that is wrong with it."""
    draft = _Draft(spec)
    if draft.problems:
        raise SpecError(spec.name, draft.problems)
    common = Layers()
    common.add(spec.settings, ())
    common.add(spec.overrides, ())
    return Sweep(
        name=spec.name,
        description=spec.description,
        written=spec.written,
        overrides=spec.overrides,
        rows=draft.rows,
        columns=draft.columns,
        configurations=tuple(draft.configurations),
        store=spec.store,
        resources=Resources.model_validate(common.settings.get("resources", {})),
        files={digest: str(path) for digest, path in draft.files.items()},
        missing=draft.missing,
    )


def find_problems(spec: Spec) -> list[Problem]:
    """Return everything that is wrong with a spec's sweep section, cells and published values."""
    return _Draft(spec).problems


class _Draft:
    """A spec on its way to a sweep: configurations as far as they can be made, and every problem met."""

    def __init__(self, spec: Spec) -> None:
        table = lay_out(spec)
        self.rows, self.columns = tuple(table.rows), tuple(table.columns)
        self.configurations: list[Configuration] = []
        self._findings: dict[tuple[str, str], list[str]] = {}  # (path, message) -> the cells it was found in
        resolver = Resolver(spec.name, Path(spec.folder))
        for cell in table.cells:
            configurations, findings = resolver.settle(cell, _published_for(spec, cell))
            for location, message in findings:
                key = (_place(cell, location), message)
                self._findings.setdefault(key, []).append(cell.name)
            self.configurations += configurations
            if len(self.configurations) > MAX_CONFIGURATIONS:
                table.problems.append(
                    Problem("replicates", f"more than {MAX_CONFIGURATIONS:,} configurations")
                )
                break
        self.files = resolver.files
        self.missing = tuple(resolver.missing)
        self.problems = [*table.problems, *self._reported(len(table.cells))]
        self.problems += [
            *self._at_odds(),
            *_misplaced(spec, {(cell.row, cell.column) for cell in table.cells}),
        ]

    def _reported(self, cells: int) -> Iterator[Problem]:
        """Every finding once, with the cells that it was found in unless that is all of them."""
        for (path, message), names in self._findings.items():
            where = ""
            if len(names) < cells:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                where = f" (cell {names[0]!r}{more})"
            yield Problem(path, message + where)

    def _at_odds(self) -> Iterator[Problem]:
        """Cells that make the same images share them, so they must want the same of them."""
        first_with: dict[str, Configuration] = {}
        for configuration in self.configurations:
            first = first_with.setdefault(configuration.fingerprint, configuration)
            if first is not configuration and (keys := first.differences(configuration)):
                cells = f"cells {first.name!r} and {configuration.name!r} make the same images"
                wanted = (
                    f"and want them with other {', '.join(keys)}; make these equal, or exclude one of them"
                )
                yield Problem("sweep", f"{cells} {wanted}")


def _place(cell: Cell, location: Location) -> str:
    """The path at which the user wrote what is found wrong at `location` of the settings."""
    origin = cell.layers.origin(location)
    if origin == ("--set",):
        return f"--set {path_text(location)}"
    return path_text((*origin, *location))


def _published_for(spec: Spec, cell: Cell) -> tuple[PublishedValue, ...]:
    found = []
    for section in spec.published:
        value = section.values.get(cell.row, {}).get(cell.column)
        if value is not None:
            mean, std = value
            found.append(
                PublishedValue(
                    value=mean,
                    std=std,
                    metric=section.metric,
                    samples=section.samples,
                    reference=section.reference,
                    source=section.source,
                )
            )
    return tuple(found)


def _misplaced(spec: Spec, cells: set[tuple[str, str]]) -> Iterator[Problem]:
    """Published values whose cell does not exist."""
    rows = {row for row, _ in cells}
    for number, section in enumerate(spec.published):
        start: Location = (
            ("published", number, "values") if len(spec.published) > 1 else ("published", "values")
        )
        for row, columns in section.values.items():
            if row not in rows:
                yield Problem(path_text((*start, row)), f"row {not_one_of(row, sorted(rows))}")
                continue
            known = sorted(column for other, column in cells if other == row)
            for column in columns:
                if column not in known:
                    yield Problem(path_text((*start, row, column)), f"column {not_one_of(column, known)}")
