"""The table of a sweep as data: panels of rows and columns, an entry for each cell, notes below.

Every rendering (terminal, Markdown, CSV, LaTeX, HTML) is made of this, so that all say the same. It must not
know any of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.scores.fidline import with_error
from jobs.scores.results import Cell, MetricSummary, SweepResults, Unscored
from jobs.specs.sections import PublishedValue

BOOTSTRAP_MARK = "†"


@dataclass(frozen=True)
class Entry:
    """One cell: its numbers as text, and the facts that belong beside them."""

    row: str
    column: str
    value: str  # "3.62 ± 0.03", or what is missing
    cell: Cell | None  # None: no result
    summary: MetricSummary | None
    unscored: Unscored | None
    published: str  # "3.60 ± 0.02", empty where there is none
    verdict: str  # one of the judgements, empty without a published value

    @property
    def samples(self) -> int:
        return self.cell.results[0].samples if self.cell else self.unscored.samples if self.unscored else 0

    @property
    def evaluations(self) -> float | None:
        """Network evaluations really made for each image."""
        return self.cell.results[0].evaluations.made if self.cell else None

    @property
    def steps(self) -> int | None:
        """Steps of the sampler; None for controls."""
        if self.cell is None:
            return None
        return getattr(self.cell.results[0].configuration.sampler, "steps", None)

    @property
    def images_per_second(self) -> float | None:
        """Of one worker while it sampled, the mean over replicates."""
        if self.cell is None:
            return None
        rates = [rate for result in self.cell.results if (rate := result.images_per_second) is not None]
        return sum(rates) / len(rates) if rates else None


@dataclass(frozen=True)
class Panel:
    """Rows and columns that share cells; tables whose parts have no column in common fall into several."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    entries: dict[tuple[str, str], Entry]


@dataclass(frozen=True)
class Table:
    """One metric by one extractor against one reference."""

    title: str  # "FID[digits-cnn] against digits-train (1,248 images)"
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]

    @property
    def entries(self) -> list[Entry]:
        """In the order of rows and columns."""
        return [
            panel.entries[row, column]
            for panel in self.panels
            for row in panel.rows
            for column in panel.columns
            if (row, column) in panel.entries
        ]


def tables_of(results: SweepResults) -> list[Table]:
    """One table for each metric, extractor and reference, in the order in which the results name them."""
    keys = dict.fromkeys(
        (summary.label, cell.results[0].reference.name)
        for cell in results.cells
        for summary in cell.summaries
    )
    if not keys:
        entries = [_missing(item) for item in _first_of_each_cell(results.unscored)]
        panels = _panels(results, entries)
        return [Table(f"{results.sweep}: no scores yet", panels, _notes(results, entries))]
    return [_table(results, label, reference) for label, reference in keys]


def _table(results: SweepResults, label: str, reference: str) -> Table:
    entries = []
    for cell in results.cells:
        for summary in cell.summaries:
            if (summary.label, cell.results[0].reference.name) == (label, reference) and summary.stages:
                entries.append(_entry(cell, summary))
    there = {(entry.row, entry.column) for entry in entries}
    unscored = [
        item for item in _first_of_each_cell(results.unscored) if (item.row, item.column) not in there
    ]
    entries += [_missing(item) for item in unscored]
    counts = {entry.cell.results[0].reference.count for entry in entries if entry.cell}
    numbers = ", ".join(f"{count:,}" for count in sorted(counts))
    title = f"{label} against {reference} ({numbers} images)"
    if any(entry.summary and entry.summary.metric == "is" for entry in entries):
        title = f"{label}, 10 splits"  # knows no reference
    return Table(title, _panels(results, entries), _notes(results, entries))


def _entry(cell: Cell, summary: MetricSummary) -> Entry:
    final = summary.final
    if final.std is not None:
        value = with_error(final.mean, final.std)
    elif final.standard_error is not None:
        value = with_error(final.mean, final.standard_error) + BOOTSTRAP_MARK
    else:
        value = f"{final.mean:.4g}"
    comparison = summary.comparisons[0] if summary.comparisons else None
    return Entry(
        row=cell.row,
        column=cell.column,
        value=value,
        cell=cell,
        summary=summary,
        unscored=None,
        published=published_text(comparison.published) if comparison else "",
        verdict=comparison.verdict.judgement if comparison else "",
    )


def _missing(item: Unscored) -> Entry:
    value = "failed" if item.failed else f"{item.done / item.samples:.0%} sampled"
    return Entry(item.row, item.column, value, None, None, item, "", "")


def _first_of_each_cell(unscored: Sequence[Unscored]) -> list[Unscored]:
    found: dict[tuple[str, str], Unscored] = {}
    for item in unscored:
        found.setdefault((item.row, item.column), item)
    return list(found.values())


def _panels(results: SweepResults, entries: Sequence[Entry]) -> tuple[Panel, ...]:
    """Connected parts of the table: rows and columns that are joined by cells."""
    by_place = {(entry.row, entry.column): entry for entry in entries}
    left = [row for row in results.rows if any(row == place[0] for place in by_place)]
    panels = []
    while left:
        rows, columns = {left[0]}, set[str]()
        while True:
            reached = {column for row, column in by_place if row in rows}
            widened = rows | {row for row, column in by_place if column in reached}
            if reached == columns and widened == rows:
                break
            rows, columns = widened, reached
        inside = {place: entry for place, entry in by_place.items() if place[0] in rows}
        ordered = tuple(row for row in results.rows if row in rows)
        panels.append(Panel(ordered, tuple(c for c in results.columns if c in columns), inside))
        left = [row for row in left if row not in rows]
    return tuple(panels)


def _notes(results: SweepResults, entries: Sequence[Entry]) -> tuple[str, ...]:
    notes = []
    finals = [entry.summary.final for entry in entries if entry.summary]
    replicates = sorted({len(final.values) for final in finals if final.std is not None})
    if replicates:
        notes.append(f"± is the standard deviation over {' or '.join(map(str, replicates))} replicates.")
    if any(final.std is None and final.standard_error is not None for final in finals):
        notes.append(
            f"{BOOTSTRAP_MARK} one replicate; ± is the standard error over other draws of its samples."
        )
    notes += _notes_on_samples([entry for entry in entries if entry.cell])
    models = (entry.cell.results[0].configuration.model for entry in entries if entry.cell)
    notes += dict.fromkeys(f"{model.name}: {model.source}" for model in models if model.source)
    reasons: dict[str, None] = {}
    for entry in entries:
        for comparison in entry.summary.comparisons if entry.summary else ():
            if comparison.verdict.judgement == "not comparable":
                reasons.setdefault(f"Not comparable: {comparison.verdict.reason}.")
    notes += reasons
    sources = dict.fromkeys(c.published.source for e in entries if e.summary for c in e.summary.comparisons)
    notes += [f"Published values: {source}." for source in sources]
    if results.unscored:
        number = len(results.unscored)
        have = "configuration has" if number == 1 else "configurations have"
        notes.append(f"{number} {have} no score yet: run the sweep again.")
    return tuple(notes)


def _notes_on_samples(entries: Sequence[Entry]) -> list[str]:
    """How many images are behind the scores, and how much of a Fréchet distance that alone explains."""
    samples = sorted({entry.samples for entry in entries})
    if not samples:
        return []
    if len(samples) == 1:
        notes = [f"N = {samples[0]:,} generated images in each score."]
    else:
        counts = ", ".join(f"{count:,}" for count in samples)
        notes = [f"N differs between cells ({counts} generated images): compare those of equal N."]
    of_models = [
        entry.cell.results[0]
        for entry in entries
        if entry.cell and entry.summary and entry.summary.metric == "fid" and not entry.cell.control
    ]
    biases = [fid.bias_generated + fid.bias_reference for each in of_models if (fid := each.final.fid)]
    if biases:
        notes.append(f"Finite N alone is predicted to add about {_span(biases)} to each score.")
    controls = {(each.control.value, each.control.spread) for each in of_models if each.control}
    if controls:
        alone = len(controls) == 1
        about = with_error(*controls.pop()) if alone else _span([value for value, _ in controls])
        notes.append(f"Real images in these numbers score about {about}, by random splits of the reference.")
    return notes


def _span(values: Sequence[float]) -> str:
    least, most = f"{min(values):.2g}", f"{max(values):.2g}"
    return least if least == most else f"{least} to {most}"


def published_text(published: PublishedValue) -> str:
    """The published value as published, with its standard deviation where it is stated."""
    if published.std is None:
        return f"{published.value:g}"
    places = max(0, -math.floor(math.log10(published.std))) if published.std > 0 else 2
    return f"{published.value:.{max(2, places)}f} ± {published.std:.{max(2, places)}f}"
