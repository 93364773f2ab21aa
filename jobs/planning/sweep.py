"""A spec expanded: its configurations in the order of its table.

`expand` gives the `Sweep`, `find_problems` all that is wrong with it; both go through the same steps, so
what is checked is what runs. Cells are laid out in `jobs/specs/cells.py` and resolved one by one in
`jobs/planning/resolution.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobs.planning.hardware import Hardware
from jobs.planning.resolution import Resolver
from jobs.problems import Location, Problem, SpecError, and_more, not_one_of, path_text
from jobs.specs.cells import Cell, Table, lay_out
from jobs.specs.configuration import Configuration
from jobs.specs.sections import PlainName, PublishedValue, Resources, Section
from jobs.specs.spec import Spec
from jobs.specs.window import Window

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
    hardware: Hardware | None = (
        None  # by which `auto` was decided (jobs/planning/submission.py); None: it was not yet
    )
    window: Window | None = None  # the hours in which it may be worked on

    def to_json(self) -> str:
        """The text of `sweep.json`."""
        return self.model_dump_json(indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Sweep:
        """Read `to_json` back. Raises pydantic.ValidationError (a ValueError) when it is something else."""
        return Sweep.model_validate_json(text)


def expand(spec: Spec) -> Sweep:
    """Return the sweep of a spec. Raises SpecError with everything that is wrong with it."""
    sweep, problems = _draft(spec)
    if problems:
        raise SpecError(spec.name, problems)
    return sweep


def find_problems(spec: Spec) -> list[Problem]:
    """Return everything that is wrong with a spec's sweep section, cells and published values."""
    return _draft(spec)[1]


def _draft(spec: Spec) -> tuple[Sweep, list[Problem]]:
    """A sweep of the cells that are in order, and every problem of the others."""
    table = lay_out(spec)
    problems = table.problems
    configurations: list[Configuration] = []
    findings: dict[tuple[str, str], list[str]] = {}  # (path, message) -> names of the cells it was found in
    resolver = Resolver(spec.name, Path(spec.folder), spec.store)
    total = sum(map(_replicates, table.cells))
    if total > MAX_CONFIGURATIONS:
        message = f"{total:,} configurations of {len(table.cells):,} cells; at most {MAX_CONFIGURATIONS:,}"
        problems.append(Problem("replicates", f"{message}: take fewer, or several specs"))
    for cell in table.cells if total <= MAX_CONFIGURATIONS else table.cells[:1]:
        found, wrong = resolver.settle(cell, _published_for(spec, cell))
        for location, message in wrong:
            findings.setdefault((_place(cell, location), message), []).append(cell.name)
        configurations += found
    problems += _reported(findings, len(table.cells))
    problems += [*_at_odds(configurations), *_uneven(configurations), *_misplaced(spec, table)]
    sweep = Sweep(
        name=spec.name,
        description=spec.description,
        written=spec.written,
        overrides=spec.overrides,
        rows=tuple(table.rows),
        columns=tuple(table.columns),
        configurations=tuple(configurations),
        store=spec.store,
        resources=configurations[0].resources if configurations else Resources(),
        files={digest: str(path) for digest, path in resolver.files.items()},
        missing=tuple(resolver.missing),
        window=spec.window,
    )
    return sweep, problems


def _replicates(cell: Cell) -> int:
    """As they are written; what cannot be their number is a problem of its own, and counts as one."""
    written = cell.layers.settings.get("replicates", 1)
    return written if isinstance(written, int) and written <= MAX_CONFIGURATIONS else 1


def _reported(findings: Mapping[tuple[str, str], list[str]], cells: int) -> Iterator[Problem]:
    """Every finding once, with the cells that it was found in unless that is all of them."""
    for (path, message), names in findings.items():
        where = ""
        if len(names) < cells:
            where = f" (cell {and_more([repr(names[0]), *names[1:]])})"
        yield Problem(path, message + where)


def _at_odds(configurations: Sequence[Configuration]) -> Iterator[Problem]:
    """Cells that make the same images share them, so they must want the same of them."""
    first_with: dict[str, Configuration] = {}
    for configuration in configurations:
        first = first_with.setdefault(configuration.fingerprint, configuration)
        if first is not configuration and (keys := first.differences(configuration)):
            cells = f"cells {first.name!r} and {configuration.name!r} make the same images"
            wanted = f"and want them with other {', '.join(keys)}; make these equal, or exclude one of them"
            yield Problem("sweep", f"{cells} {wanted}")


def _uneven(configurations: Sequence[Configuration]) -> Iterator[Problem]:
    """Workers serve all cells, so only the micro-batch is a cell's own."""
    for key in (key for key in Resources.model_fields if key != "micro_batch"):
        values = [getattr(each.resources, key) for each in configurations]
        if any(value != values[0] for value in values):
            message = "differs between cells, and workers serve all of them: set it once, at the top level"
            yield Problem(f"resources.{key}", message)


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


def _misplaced(spec: Spec, table: Table) -> Iterator[Problem]:
    """Published values whose cell does not exist."""
    cells = {(cell.row, cell.column) for cell in table.cells}
    for number, section in enumerate(spec.published):
        start: Location = (
            ("published", number, "values") if len(spec.published) > 1 else ("published", "values")
        )
        for row, columns in section.values.items():
            if row not in table.rows:
                yield Problem(path_text((*start, row)), f"row {not_one_of(row, table.rows)}")
                continue
            known = [column for column in table.columns if (row, column) in cells]
            for column in columns:
                if column not in known:
                    yield Problem(path_text((*start, row, column)), f"column {not_one_of(column, known)}")
