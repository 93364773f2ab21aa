"""Commands that work on what a store holds, without a cluster: report, reduce."""

from __future__ import annotations

from typing import Literal, get_args

import click

from cluster.cli.common import INCOMPLETE, command, emit, load_sweep, open_store, page_url, store_option
from cluster.cli.tables import print_results, results_data

Format = Literal["terminal", "markdown", "csv", "latex"]


@click.command()
@click.argument("name")
@store_option
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="terminal", show_default=True)
@command
def report(name: str, store: str, form: Format, as_json: bool) -> None:
    """Print the table of the sweep NAME and write its page, from the results that are there.

    \b
    Example:
      sdesweep report digits-demo --store runs --format latex
    """
    from jobs.report import write_report

    opened = open_store(store)
    load_sweep(opened, name)  # a clear error where there is none
    write_report(opened, name)
    if as_json:
        emit(results_data(opened, name))
    else:
        print_results(opened, name, form)


@click.command()
@click.argument("name")
@store_option
@command
def reduce(name: str, store: str, as_json: bool) -> int:
    """Compute the scores of the sweep NAME again from the features that are there, in this process.

    Configurations without all their samples are left out and named.

    \b
    Example:
      sdesweep reduce digits-demo --store runs
    """
    from jobs.compute.worker import WorkerState
    from jobs.references.reference import build_reference
    from jobs.report import write_report
    from jobs.work.reduce import IncompleteError, reduce_configuration

    opened = open_store(store)
    sweep = load_sweep(opened, name)
    worker = WorkerState()
    left_out = []
    for configuration in sweep.configurations:
        try:
            for extractor in configuration.extractors:
                for data_set in configuration.references:
                    build_reference(opened, data_set, extractor, worker)
            reduce_configuration(opened, name, configuration)
        except IncompleteError as error:
            left_out.append(str(error))
            continue
        if not as_json:
            click.echo(f"reduced {configuration.name}")
    write_report(opened, name)
    if as_json:
        emit({"sweep": name, "page": page_url(opened, name), "left_out": left_out})
    else:
        for line in left_out:
            click.echo(f"left out {line}")
    return INCOMPLETE if left_out else 0
