"""`sdesweep evaluate`: other scores of images that a sweep has already.

It must not compute anything.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import INCOMPLETE, command, emit, find_extractor, open_store, store_option
from cluster.cli.fid import error_option, metrics_option, parse_metrics
from cluster.cli.running import address_option, workers_option
from cluster.cli.tables import print_results, results_data

if TYPE_CHECKING:
    from cluster.account import Outcome
    from cluster.prepare_evaluation import Evaluation
    from jobs.planning.sweep import Sweep
    from jobs.specs.sections import DataSet, ErrorMethod
    from jobs.store import Store


@click.command()
@click.argument("target", metavar="SWEEP[/FINGERPRINT]")
@click.option("--extractor", "extractors", multiple=True, metavar="E[=WEIGHTS]", help="May be repeated.")
@click.option("--reference", "references", multiple=True, metavar="R[=PATH[:SPLIT]]", help="May be repeated.")
@metrics_option
@error_option
@address_option
@workers_option
@store_option
@command
def evaluate(
    target: str,
    extractors: tuple[str, ...],
    references: tuple[str, ...],
    metrics: str | None,
    error: ErrorMethod | None,
    address: str | None,
    workers: int | None,
    store: str,
    as_json: bool,
) -> int:
    """Score the stored images of a sweep again: by other extractors, references or metrics.

    What is not given is the sweep's own. Features are made by the same workers and committed like those of a
    run; no image is ever made, and configurations that lack some are named. Stopped at any moment, the same
    command goes on.

    \b
    Examples:
      sdesweep evaluate digits-demo --metrics kid,precision_recall --store runs
      sdesweep evaluate song2020-table1 --extractor inception=weights.pth --reference cifar10-test
    """
    from cluster.prepare_evaluation import Evaluation
    from jobs.planning.lookup import find_configurations, find_sweep
    from jobs.work.evaluation import EvaluationRequest, refuse_impossible, without_impossible

    opened = open_store(store)
    sweep = find_sweep(opened, target.partition("/")[0])
    found = [find_extractor(text) for text in extractors]
    asked, strict = parse_metrics(metrics)
    request = EvaluationRequest(
        extractors=tuple(item.thing for item in found) or None,
        references=tuple(_reference(opened, text) for text in references) or None,
        metrics=None if metrics is None else tuple(asked),
        standard_error=error,
    )
    chosen = find_configurations(opened, target)
    left_out: list[str] = []
    if strict:
        refuse_impossible(opened, request, chosen)
    else:
        request, left_out = without_impossible(opened, request, chosen)
        if not as_json:
            click.echo("\n".join(f"left out: {reason}" for reason in left_out), err=True)
    files = {digest: str(path) for item in found for digest, path in item.files.items()}
    evaluation = Evaluation(request, files, chosen)
    outcome = _run(opened, sweep, evaluation, address, workers, as_json)
    return _show_end(opened, sweep, evaluation, outcome, left_out, as_json)


def _reference(store: Store, text: str) -> DataSet:
    """`NAME`, `NAME=PATH` or `NAME=PATH:SPLIT`. Raises RequestError or UnresolvedError."""
    from pydantic import ValidationError

    from cluster.cli.common import RequestError
    from jobs.models.resolve import resolve_reference
    from jobs.references.imagesets import path_and_split
    from jobs.specs.sections import DataSet
    from jobs.storage.reference_index import named_references

    name, _, place = text.partition("=")
    path, split = path_and_split(place) if place else ("", None)
    try:
        section = DataSet(name=name, path=path or place or None, split=split)
    except ValidationError as error:
        raise RequestError(f"--reference {text}: {error.errors()[0]['msg']}") from None
    return resolve_reference(section, Path.cwd(), named_references(store)).thing


def _run(
    store: Store, sweep: Sweep, evaluation: Evaluation, address: str | None, workers: int | None, quiet: bool
) -> Outcome:
    from rich.console import Console

    from cluster.demand import Demand
    from cluster.display import open_display
    from cluster.ray_session import open_ray_pool
    from cluster.run import run_sweep

    open_pool = partial(open_ray_pool, store.url, address, Demand.of(sweep.resources, workers))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open_display(Console(file=sys.stdout), quiet=quiet) as display:
        return run_sweep(store, sweep, open_pool, display, sys.argv, preparing=evaluation.prepare)


def _show_end(
    store: Store,
    sweep: Sweep,
    evaluation: Evaluation,
    outcome: Outcome,
    left_out: list[str],
    as_json: bool,
) -> int:
    missing = [
        {
            "configuration": f"{sweep.name}/{item.fingerprint}",
            "name": item.name,
            "missing": [[span.start, span.stop] for span in spans],
        }
        for item, spans in evaluation.missing
    ]
    code = INCOMPLETE if missing and outcome.exit_code == 0 else outcome.exit_code
    ended: dict[str, Any] = {"sweep": sweep.name, "store": store.url, "exit_code": code}
    ended |= {"reason": outcome.reason, "missing": missing, "left_out": left_out}
    if not outcome.complete:
        if as_json:
            emit(ended)
        else:
            click.echo(f"incomplete: {outcome.reason}\nto go on: the same command")
        return code
    if as_json:
        emit({**ended, **results_data(store, sweep.name)})
        return code
    print_results(store, sweep.name)
    for record in missing:
        spans = ", ".join(f"[{first}, {last})" for first, last in record["missing"])
        click.echo(
            f"not scored: {record['name']} ({record['configuration'][:40]}) lacks the images {spans}; "
            f"`sdesweep resume {sweep.name} --store {store.url}` makes them"
        )
    if outcome.exit_code == 1:
        click.echo(f"some work failed: `sdesweep status {sweep.name} --store {store.url}` tells why")
    return code
