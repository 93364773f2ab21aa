"""A sweep's results as commands show them: the tables, the FID line of each cell, where the page is.

It must not know how a run ended.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import page_url

if TYPE_CHECKING:
    from jobs.report.text import Format
    from jobs.scores.results import SweepResults
    from jobs.store import Store


def read_results(store: Store, sweep: str) -> SweepResults:
    """What the last report or run wrote down."""
    from jobs.paths import SweepPaths
    from jobs.scores.results import SweepResults

    return SweepResults.model_validate_json(store.get(SweepPaths(sweep).results))


def results_data(store: Store, sweep: str) -> dict[str, Any]:
    """The JSON form: results, the FID line of each cell, the page's address."""
    from jobs.report import lines_of

    results = read_results(store, sweep)
    page = page_url(store, sweep)
    return {
        "sweep": sweep,
        "page": page,
        "lines": lines_of(results),
        "results": results.model_dump(mode="json"),
    }


def print_results(store: Store, sweep: str, form: Format = "terminal") -> None:
    """Print the tables; for people also what the scores depend on, or where that is told, and the page."""
    from rich.console import Console

    from jobs.paths import SweepPaths
    from jobs.report import LINES, lines_of, render_table

    results = read_results(store, sweep)
    width = max(80, Console().width)
    click.echo(render_table(results, form, colour=sys.stdout.isatty(), width=width), nl=False)
    if form == "terminal":
        lines = lines_of(results)
        if len(lines) == 1:
            click.echo(lines[0])
        elif lines:
            click.echo(f"all that each score depends on: {store.url}/{SweepPaths(sweep).report(LINES)}")
    click.echo(f"page: {page_url(store, sweep)}", err=form != "terminal")
