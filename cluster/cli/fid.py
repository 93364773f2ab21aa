"""`sdesweep fid`: one set of images against another, without a sweep.

It must not compute anything.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from cluster.cli.bars import bar
from cluster.cli.common import RequestError, command, console, emit, find_extractor, open_store, store_option

if TYPE_CHECKING:
    from jobs.scores.results import SetResult
    from jobs.specs.sections import ErrorMethod, Metric

metrics_option = click.option(
    "--metrics",
    metavar="M,...",
    help="fid, fid_infinity, is, kid, precision_recall, density_coverage, memorisation, or all.",
)

error_option = click.option(
    "--standard-error",
    "error",
    type=click.Choice(["jackknife", "bootstrap"]),
    help="Of FID; jackknife by default. The bootstrap is slow, and too large for sets that are close.",
)


@click.command()
@click.argument("generated", metavar="A")
@click.argument("reference", metavar="B")
@click.option(
    "--extractor", default="inception", show_default=True, metavar="E[=WEIGHTS]", help="Feature network."
)
@metrics_option
@error_option
@click.option("--count", type=click.IntRange(min=2), metavar="N", help="Images behind mu and sigma.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be used, and say so.")
@click.option("--device", metavar="D", help="cpu or cuda; cuda where there is a GPU, by default.")
@store_option
@command
def fid(
    generated: str,
    reference: str,
    extractor: str,
    metrics: str | None,
    error: ErrorMethod | None,
    count: int | None,
    skip_unreadable: bool,
    device: str | None,
    store: str,
    as_json: bool,
) -> None:
    """Score the images A against the images B, and state all that the scores depend on.

    A and B are each a folder of images, a Parquet file or a folder of them, an npz archive, a CIFAR archive
    or an idx file (PATH, or PATH:SPLIT), a reference of the store, SWEEP/FINGERPRINT, or an npz of statistics
    (pool_3, or mu and sigma, which serve FID alone).

    \b
    Examples:
      sdesweep fid samples/ cifar-10-python.tar.gz:train --extractor inception=weights.pth --metrics all
      sdesweep fid digits-demo/3fa9 digits-heldout --extractor digits-cnn --store runs
    """
    from jobs.compute.worker import WorkerState, best_device
    from jobs.inspection.setscores import possible, score_sets
    from jobs.references.imagesets import SetReader, identify

    found = find_extractor(extractor)
    asked, strict = parse_metrics(metrics)
    opened = open_store(store)
    given = [identify(opened, text) for text in (generated, reference)]

    worker = WorkerState(device or best_device())
    reader = SetReader(opened, found, worker, partial(bar, quiet=as_json), skip_unreadable, count)
    first, second = map(reader.open, given)
    chosen, left_out = possible(first, second, found.thing, asked, strict=strict)
    result = score_sets(first, second, found.thing, chosen, left_out, error or "jackknife")
    show_line(result, as_json)


def parse_metrics(text: str | None, default: tuple[Metric, ...] = ("fid",)) -> tuple[list[Metric], bool]:
    """Metrics of a command line, and whether each was asked for by name. Raises RequestError."""
    from jobs.problems import not_one_of
    from jobs.specs.sections import METRICS

    if text is None:
        return list(default), True
    if text == "all":
        return list(METRICS), False
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {str(metric): metric for metric in METRICS}
    for name in names:
        if name not in known:
            raise RequestError(f"--metrics: {not_one_of(name, [*METRICS, 'all'])}")
    if not names:
        raise RequestError("--metrics: name at least one, or all")
    return [known[name] for name in dict.fromkeys(names)], True


def show_line(result: SetResult, as_json: bool) -> None:
    """The FID line in its three forms: table and sentence, or JSON with both."""
    from rich.table import Table

    from jobs.scores.fidline import facts, sentence

    told = facts(result)
    if as_json:
        emit({"sentence": sentence(result), "facts": told, "result": result.model_dump(mode="json")})
        return
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in told.items():
        grid.add_row(name, value)
    console().print(grid)
    click.echo(f"\n{sentence(result)}")
