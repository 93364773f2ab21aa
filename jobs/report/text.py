"""The table as text: for the terminal, Markdown, CSV and LaTeX.

Each is the same data in another dress. It must not read storage.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from jobs.report.table import Entry, Panel, Table, tables_of
from jobs.scores.results import SweepResults

Format = Literal["terminal", "markdown", "csv", "latex"]

_STYLES = {"agrees": "green", "differs": "yellow", "not comparable": "dim"}


def render_table(
    results: SweepResults, format: Format = "terminal", *, colour: bool = False, width: int = 120
) -> str:
    """The sweep's tables as text that ends with a newline.

    Args:
        results: of the sweep.
        format: terminal, markdown, csv (one line a cell, every number) or latex (booktabs).
        colour: of the terminal form.
        width: of the terminal form, in characters.

    Raises:
        ValueError: unknown format.
    """
    renderers: dict[str, Callable[[Sequence[Table]], str]] = {
        "terminal": lambda tables: _terminal(tables, results.warnings, colour, width),
        "markdown": _markdown,
        "csv": _csv,
        "latex": _latex,
    }
    if format not in renderers:
        raise ValueError(f"unknown format {format!r}: known are {', '.join(renderers)}")
    return renderers[format](tables_of(results))


# --- terminal -----------------------------------------------------------------------------------------------


def _terminal(tables: Sequence[Table], warnings: Sequence[str], colour: bool, width: int) -> str:
    output = io.StringIO()
    console = Console(
        file=output,
        force_terminal=colour,
        color_system="standard" if colour else None,
        width=width,
        highlight=False,
        markup=False,  # labels of rows and columns are the user's
        emoji=False,
    )
    for table in tables:
        console.print(Text(table.title, style="bold"))
        for panel in table.panels:
            console.print(_rich_panel(panel))
        for note in table.notes:
            console.print(Text(note, style="dim"))
        console.print()
    for warning in warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"))
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().splitlines()) + "\n"


def _rich_panel(panel: Panel) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("")
    for column in panel.columns:
        grid.add_column(column, justify="right")
    for row in panel.rows:
        grid.add_row(row, *(_rich_entry(panel.entries.get((row, column))) for column in panel.columns))
    return grid


def _rich_entry(entry: Entry | None) -> Text:
    if entry is None:
        return Text("")
    text = Text(entry.value, style="" if entry.cell else "dim")
    if entry.evaluations:
        text.append(f"\n{_count(entry.evaluations)} NFE", style="dim")
    if entry.published:
        text.append(f"\npublished {entry.published}", style="dim")
        text.append(f"\n{entry.verdict}", style=_STYLES[entry.verdict])
    return text


# --- Markdown -----------------------------------------------------------------------------------------------


def _markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        parts.append(f"### {table.title}")
        for panel in table.panels:
            lines = [_pipes(["", *panel.columns]), _pipes(["---", *["---:"] * len(panel.columns)])]
            for row in panel.rows:
                lines.append(
                    _pipes([row, *(_markdown_entry(panel.entries.get((row, c))) for c in panel.columns)])
                )
            parts.append("\n".join(lines))
        parts.append("\n".join(f"- {note}" for note in table.notes))
        lines = [_pipes(["row", "column", *_DETAILS]), _pipes(["---", "---", *["---:"] * len(_DETAILS)])]
        lines += [_pipes([entry.row, entry.column, *_details(entry)]) for entry in table.entries]
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    """A row of a table, which is one line."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _markdown_entry(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if not entry.published:
        return entry.value
    return f"{entry.value}<br>(published {entry.published}: {entry.verdict})"


_DETAILS = ("score", "published", "verdict", "N", "steps", "NFE", "images/s")


def _details(entry: Entry) -> list[str]:
    rate = entry.images_per_second
    return [
        entry.value,
        entry.published,
        entry.verdict,
        f"{entry.samples:,}",
        "" if entry.steps is None else f"{entry.steps:,}",
        "" if entry.evaluations is None else _count(entry.evaluations),
        "" if rate is None else f"{rate:.3g}",
    ]


def _count(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


# --- CSV ----------------------------------------------------------------------------------------------------

_FIELDS = (
    "metric",
    "row",
    "column",
    "step",
    "mean",
    "std",
    "standard_error",
    "replicates",
    "published",
    "published_std",
    "verdict",
    "reason",
    "samples",
    "steps",
    "evaluations",
    "images_per_second",
    "reference",
    "reference_samples",
    "fingerprints",
)


def _csv(tables: Sequence[Table]) -> str:
    """One line a cell and stage; numbers in full, empty where there are none."""
    output = io.StringIO()
    writer = csv.DictWriter(output, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for entry in table.entries:
            writer.writerows(_csv_rows(entry))
    return output.getvalue()


def _csv_rows(entry: Entry) -> list[dict[str, object]]:
    if entry.cell is None or entry.summary is None:
        reason = entry.unscored.reason if entry.unscored else ""
        return [{"row": entry.row, "column": entry.column, "samples": entry.samples, "reason": reason}]
    first = entry.cell.results[0]
    comparison = entry.summary.comparisons[0] if entry.summary.comparisons else None
    rows = []
    for stage in entry.summary.stages:
        final = stage is entry.summary.final
        rows.append(
            {
                "metric": entry.summary.label,
                "row": entry.row,
                "column": entry.column,
                "step": stage.step,
                "mean": stage.mean,
                "std": stage.std,
                "standard_error": stage.standard_error,
                "replicates": len(stage.values),
                "published": comparison.published.value if comparison and final else None,
                "published_std": comparison.published.std if comparison and final else None,
                "verdict": comparison.verdict.judgement if comparison and final else None,
                "reason": comparison.verdict.reason if comparison and final else None,
                "samples": entry.samples,
                "steps": entry.steps,
                "evaluations": entry.evaluations,
                "images_per_second": entry.images_per_second,
                "reference": first.reference.name,
                "reference_samples": first.reference.count,
                "fingerprints": " ".join(result.fingerprint for result in entry.cell.results),
            }
        )
    return rows


# --- LaTeX --------------------------------------------------------------------------------------------------

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
}


def _latex(tables: Sequence[Table]) -> str:
    """A booktabs tabular for each panel; needs \\usepackage{booktabs}."""
    parts = []
    for table in tables:
        for number, panel in enumerate(table.panels):
            notes = table.notes if number == 0 else ()
            lines = [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(' '.join([table.title + '.', *notes]))}}}",
                rf"\begin{{tabular}}{{l{'r' * len(panel.columns)}}}",
                r"\toprule",
                " & ".join(["", *map(_escaped, panel.columns)]) + r" \\",
                r"\midrule",
            ]
            for row in panel.rows:
                entries = [panel.entries.get((row, column)) for column in panel.columns]
                lines.append(
                    " & ".join([_escaped(row), *(_escaped(e.value) if e else "" for e in entries)]) + r" \\"
                )
                if any(entry and entry.published for entry in entries):
                    cells = [f"({_escaped(e.published)})" if e and e.published else "" for e in entries]
                    lines.append(" & ".join([r"\quad published", *cells]) + r" \\")
            lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
