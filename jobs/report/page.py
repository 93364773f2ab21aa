"""One self-contained HTML page of a sweep: table first, samples, curves, provenance, how to reproduce.

It gathers what the template shows; nothing is fetched when the page is read. It must not compute scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.report.nearest import NearestImages
from jobs.report.pictures import Curve, Grid, curves_svg, sample_grid
from jobs.report.table import Entry, Panel, Table, tables_of
from jobs.report.text import Format, render_table
from jobs.scores.fidline import control_text, sentence_of_cell
from jobs.scores.gather import reduce_sweep
from jobs.scores.results import Cell, Result, SweepResults, score_label
from jobs.storage.commit import DamageError
from jobs.store import Store

LINES = "lines.txt"  # the FID line of every cell, a sentence each
_TEXT_FORMS: dict[str, Format] = {"table.md": "markdown", "table.csv": "csv", "table.tex": "latex"}


@dataclass(frozen=True)
class Sheet:
    """A cell's samples: the last images, and those on the way where stages were kept."""

    cell: Cell
    grid: Grid
    stages: tuple[Grid, ...]
    nearest: Grid | None  # the memorisation figure, where that metric was asked for


def write_report(store: Store, sweep_name: str) -> str:
    """Write the page and the tables beside it; returns the page's name in the store.

    Raises:
        FileNotFoundError: no such sweep.
    """
    paths = SweepPaths(sweep_name)
    sweep = Sweep.from_json(store.get(paths.resolved))
    results = reduce_sweep(store, sweep_name)
    for name, form in _TEXT_FORMS.items():
        store.put(paths.report(name), render_table(results, form).encode())
    store.put(paths.report(LINES), "".join(f"{line}\n" for line in lines_of(results)).encode())
    page = paths.report("index.html")
    store.put(page, _render(store, sweep, results).encode())
    return page


def lines_of(results: SweepResults) -> list[str]:
    """The FID line of every cell: row and column, then the sentence."""
    return [f"{cell.row} / {cell.column}: {sentence_of_cell(cell)}" for cell in results.cells]


def _render(store: Store, sweep: Sweep, results: SweepResults) -> str:
    folder = files("jobs.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(short=_short, number=_number, plain=_plain)
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    tables = tables_of(results)
    sheets, unseen = _sheets(store, results)
    return template.render(
        style=(folder / "page.css").read_text(encoding="utf-8"),
        results=results,
        sweep=sweep,
        tables=tables,
        sheets=sheets,
        warnings=[*results.warnings, *unseen],
        curves=[figure for table in tables if (figure := _curves(table))],
        anchor=_anchor,
        error_text=_stage_text,
        provenance=_provenance,
        line=sentence_of_cell,
        images=sum(result.samples for cell in results.cells for result in cell.results),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=_versions(results),
    )


def _sheets(store: Store, results: SweepResults) -> tuple[list[Sheet], list[str]]:
    """One for each cell of the table; and why a cell has none, though its scores are there."""
    sheets, unseen = [], []
    nearest = NearestImages(store, results.sweep)
    cells: dict[tuple[str, str], Cell] = {}
    for cell in results.cells:
        cells.setdefault((cell.row, cell.column), cell)
    for cell in cells.values():
        try:
            sheet = _sheet(store, results.sweep, cell, nearest)
        except DamageError as error:
            remedy = f"`sdesweep verify {results.sweep}` moves it away, the next run makes it again"
            unseen.append(f"No pictures of {cell.row}, {cell.column}: {error}; {remedy}")
            continue
        if sheet is not None:
            sheets.append(sheet)
    return sheets, unseen


def _sheet(store: Store, sweep: str, cell: Cell, nearest: NearestImages) -> Sheet | None:
    """Of a cell's first replicate; None where its images are not in the store any more."""
    first = cell.results[0]
    grid = sample_grid(store, sweep, first, first.final.step)
    if grid is None:
        return None
    steps = [stage.step for stage in first.stages[:-1]]
    early = [sample_grid(store, sweep, first, step, rows=2, columns=4) for step in steps]
    return Sheet(cell, grid, tuple(item for item in early if item), nearest.grid(first))


def _curves(table: Table) -> tuple[str, str] | None:
    """Title and SVG of the cells with more than one stage."""
    found = [
        Curve(f"{entry.row}, {entry.column}", entry.summary)
        for entry in table.entries
        if entry.summary and len(entry.summary.stages) > 1
    ]
    if not found:
        return None
    return table.title, curves_svg(found, found[0].summary.label)


def _provenance(result: Result) -> list[tuple[str, str]]:
    """What one result depends on, in words for people; everything is in its JSON file too."""
    item = result.configuration
    weights = {role: digest or "missing" for role, digest in item.model.weights.items()}
    sampler = item.sampler.model_dump(exclude={"kind"}, exclude_none=True)
    evaluations, reference = result.evaluations, result.reference
    lines = [
        ("fingerprint", result.fingerprint),
        ("model", f"{item.model.name} {_plain(weights)}".strip()),
        ("sampler", f"{item.sampler.kind} {_plain(sampler)}".strip()),
        ("seed, replicate", f"{item.seed}, {item.replicate}"),
        ("samples", f"{result.samples:,} in groups of {item.group_size:,}"),
        ("evaluations", f"{_number(evaluations.made)} an image made, {evaluations.planned:,} planned"),
        ("quantisation", f"{item.quantisation}, sampled in {item.arithmetic}"),
        *_fid_lines(result),
        ("extractor", _plain(result.extractor)),
        ("reference", f"{reference.name}, {reference.count:,} images, content {reference.content}"),
        ("statistics", _plain(result.statistics.model_dump())),
    ]
    for share in result.executions:
        lines.append(("execution", f"{share.samples:,} samples: {_plain(share.execution.model_dump())}"))
    seconds = ", ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items())
    lines += [("seconds", seconds), ("images", f"digest {result.images}")]
    for name, found in result.diagnostics.items():
        lines.append((name, f"{found.mean:.4g} (between groups {found.least:.4g} to {found.most:.4g})"))
    for step, outside in result.clipped.items():
        lines.append(("outside [0, 1]", f"{outside:.2%} of values at step {step}, clipped"))
    return lines


def _fid_lines(result: Result) -> list[tuple[str, str]]:
    fid = result.final.fid
    if fid is None or fid.standard_error is None:
        return []
    bias = f"{fid.bias_generated:.3g} from N generated, {fid.bias_reference:.3g} from N reference"
    lines = [
        (
            f"{score_label('FID', result.extractor)}, its two terms",
            f"{fid.value!r}: means {fid.mean_term:.6g}, covariances {fid.trace_term:.6g}",
        ),
        ("standard error", f"{fid.standard_error:.3g} ({fid.standard_error_method})"),
        ("predicted bias", bias),
    ]
    if result.control is not None:
        lines.append(("real images in these numbers", control_text(result.control)))
    return lines


def _versions(results: SweepResults) -> str:
    """Every combination of versions that scores were computed with."""
    found = dict.fromkeys(_plain(result.versions) for cell in results.cells for result in cell.results)
    return "; ".join(found)


def _stage_text(entry: Entry, panel: Panel) -> str:
    """Steps, NFE and N of a cell in one line; N only where the panel's cells differ in it."""
    parts = []
    if entry.evaluations:
        parts.append(f"{_number(entry.evaluations)} NFE")
    if len({other.samples for other in panel.entries.values()}) > 1:
        parts.append(f"N = {entry.samples:,}")
    return ", ".join(parts)


def _anchor(row: str, column: str) -> str:
    return "cell-" + "".join(c if c.isalnum() else "-" for c in f"{row}-{column}".lower())


def _short(digest: str) -> str:
    return digest[:12]


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _plain(mapping: Mapping[str, object]) -> str:
    """`key value, key value`, nested mappings in line."""
    parts = []
    for key, value in mapping.items():
        parts.append(f"{key} {_plain(value) if isinstance(value, Mapping) else value}")
    return ", ".join(parts)
