"""`sdesweep compare`: scores beside each other, ranked only where they measure the same thing.

It must not decide what is comparable: `jobs.scores.comparison` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.cli.common import WRONG_REQUEST, RequestError, command, console, emit, open_store, store_option

if TYPE_CHECKING:
    from jobs.scores.comparison import Compared
    from jobs.scores.results import ScoreLine
    from jobs.store import Store


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="A B ...")
@click.option("--metric", metavar="M", help="What to rank by; the first that all have, by default.")
@click.option("--extractor", metavar="E", help="Of a configuration with several results.")
@click.option("--reference", metavar="R", help="Of a configuration with several results.")
@store_option
@command
def compare(
    results: tuple[str, ...],
    metric: str | None,
    extractor: str | None,
    reference: str | None,
    store: str,
    as_json: bool,
) -> int:
    """Put scores beside each other: results files, what `fid --json` printed, or SWEEP/FINGERPRINT.

    SWEEP alone stands for all its configurations. Scores of other extractors, references or numbers of images
    are not ranked: what differs is said, and the exit code is 2.

    \b
    Examples:
      sdesweep compare digits-demo --store runs
      sdesweep compare mine.json theirs.json --metric kid
    """
    from jobs.problems import not_one_of
    from jobs.scores.comparison import common_metric
    from jobs.scores.comparison import compare as compared
    from jobs.specs.sections import METRICS

    opened = open_store(store)
    found = [pair for text in results for pair in _lines(opened, text, extractor, reference)]
    names, lines = [name for name, _ in found], [line for _, line in found]
    known = {str(each): each for each in METRICS}
    if metric is not None and metric not in known:
        raise RequestError(f"--metric {not_one_of(metric, known)}")
    chosen = known[metric] if metric else common_metric(lines)
    if chosen is None:
        raise RequestError("the results have no metric in common; --metric NAME says what each has")
    try:
        outcome = compared(names, lines, chosen)
    except ValueError as error:
        raise RequestError(str(error)) from None
    _show(outcome, lines, as_json)
    return 0 if outcome.comparable else WRONG_REQUEST


def _lines(
    store: Store, text: str, extractor: str | None, reference: str | None
) -> list[tuple[str, ScoreLine]]:
    """Name and line of each result that a text stands for."""
    from pydantic import ValidationError

    from jobs.scores.fidline import read_line

    if Path(text).is_file():
        try:
            return [(text, read_line(Path(text).read_bytes()))]
        except (ValidationError, ValueError):
            raise RequestError(
                f"{text} is neither the results file of a configuration nor what `sdesweep fid --json` "
                "printed, or it is of another version; a whole sweep is given by its name"
            ) from None
    return _of_store(store, text, extractor, reference)


def _of_store(
    store: Store, text: str, extractor: str | None, reference: str | None
) -> list[tuple[str, ScoreLine]]:
    from jobs.planning.lookup import find_configurations
    from jobs.scores.gather import stored_results

    found: list[tuple[str, ScoreLine]] = []
    for configuration in find_configurations(store, text):
        place = f"{configuration.sweep}/{configuration.fingerprint[:8]} ({configuration.name})"
        matching = {
            (key, name): result
            for (key, name), result in stored_results(store, configuration).items()
            if extractor in (None, key, result.extractor_name) and reference in (None, name)
        }
        if len(matching) != 1:
            have = ", ".join(f"{key} against {name}" for key, name in matching) or "none that fits"
            raise RequestError(
                f"{place} has {len(matching)} results ({have}): choose one by --extractor and --reference"
            )
        found += [(place, result) for result in matching.values()]
    return found


def _show(outcome: Compared, lines: list[ScoreLine], as_json: bool) -> None:
    from dataclasses import asdict

    from rich.table import Table

    from jobs.scores.fidline import sentence, with_error

    if as_json:
        emit(asdict(outcome) | {"sentences": [sentence(line) for line in lines]})
        return
    grid = Table(box=None, pad_edge=False)
    for header in ("", *outcome.names):
        grid.add_column(header, overflow="fold")
    values = [next(iter(line.final.measures(outcome.metric).values())) for line in lines]
    grid.add_row(outcome.label, *(with_error(*value) for value in values))
    for difference in outcome.differences:
        style = "bold" if difference.decisive else ""
        grid.add_row(difference.what, *difference.values, style=style)
    console().print(grid)
    if not outcome.comparable:
        reasons = ", ".join(item.what for item in outcome.differences if item.decisive)
        click.echo(f"not comparable, and so not ranked: they differ in {reasons}")
        return
    for number, rank in enumerate(outcome.ranking, 1):
        line = f"{number}. {rank.name}: {with_error(rank.value, rank.standard_error)}"
        if rank.behind is not None:
            told = {True: "told apart", False: "not told apart by their errors", None: "errors not known"}
            line += f", {rank.behind:.3g} behind ({told[rank.distinct]})"
        click.echo(line)
