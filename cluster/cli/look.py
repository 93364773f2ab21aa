"""Commands that look and change nothing: plan, status, catalog, version."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import RequestError, command, emit, expand_spec, load_sweep, open_store, store_option

if TYPE_CHECKING:
    from cluster.status import SweepStatus


@click.command()
@click.argument("spec")
@click.option(
    "--store", metavar="URL", help="A folder, or s3://BUCKET/PREFIX; the spec's own, else `runs`, by default."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key in every cell.")
@command
def plan(spec: str, store: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Say what `run SPEC` would do: configurations, shards, network evaluations, storage. Starts nothing.

    \b
    Example:
      sdesweep plan song2020-table1
    """
    from rich.console import Console

    from jobs.configuration import Configuration
    from jobs.ledger import scan
    from jobs.paths import SweepPaths
    from jobs.plan import costs
    from jobs.plan_report import plan_json, render_plan

    sweep = expand_spec(spec, settings, store)
    opened = open_store(sweep.store)
    if any(each.precision == "auto" for each in sweep.configurations):  # their fingerprints depend on it
        from cluster.settling import recorded_hardware
        from jobs.hardware import hardware_here
        from jobs.submission import settle_precision

        sweep = settle_precision(sweep, recorded_hardware(opened, sweep.name) or hardware_here())

    def done(configuration: Configuration) -> list[range]:
        return scan(opened, SweepPaths(sweep.name).configuration(configuration.fingerprint), []).done

    planned = costs(sweep, done)
    if as_json:
        emit(plan_json(planned))
    else:
        Console().print(render_plan(planned))


@click.command()
@click.argument("name")
@store_option
@command
def status(name: str, store: str, as_json: bool) -> None:
    """Say how far the sweep NAME is, from storage alone: it needs no cluster and disturbs no run.

    \b
    Example:
      sdesweep status digits-demo --store runs
    """
    from cluster.status import status_of

    opened = open_store(store)
    found = status_of(opened, load_sweep(opened, name))
    if as_json:
        last_run = found.last_run.model_dump(mode="json") if found.last_run else None
        shallow = dataclasses.replace(found, last_run=None)
        emit({**dataclasses.asdict(shallow), "last_run": last_run, "complete": found.complete})
    else:
        _print_status(found)


def _print_status(found: SweepStatus) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cluster.display import number

    console = Console(highlight=False)
    console.print(f"{found.sweep} in {found.store}: {'complete' if found.complete else 'incomplete'}")
    driver = found.driver
    if driver.state != "none":
        seen = f", last seen {driver.last_seen:.0f} s ago" if driver.last_seen is not None else ""
        console.print(f"driver: {driver.state}, process {driver.pid} on {driver.host}{seen}")
    run = found.last_run
    if run is not None:
        retries = ", ".join(f"{count} for {cause}" for cause, count in run.retries.items()) or "none"
        console.print(
            f"last run ({found.runs} in all): {run.outcome}, began {run.started}, {run.workers} workers, "
            f"{run.shards_done:,} of {run.shards:,} shards, {number(found.images_per_second or 0)} images/s, "
            f"{number(found.evaluations_per_second or 0)} evaluations/s, retries: {retries}"
        )
    table = Table(box=None, pad_edge=False)
    for header in ("configuration", "samples", "shards", "snapshots", "failed", "scored"):
        table.add_column(header, justify="left" if header == "configuration" else "right")
    for item in found.configurations:
        samples, shards = f"{item.samples_done:,}/{item.samples:,}", f"{item.shards_done:,}/{item.shards:,}"
        scored = "yes" if item.reduced else "no"
        row = (samples, shards, str(item.snapshots), str(len(item.failed)), scored)
        table.add_row(escape(item.name), *row)
    console.print(table)
    for item in found.configurations:
        if item.damaged:
            console.print(
                f"{escape(item.name)}: {item.damaged} damaged ranges; the next run makes them again"
            )
        for shard in item.failed:
            where = f"{escape(item.name)}: shard [{shard.first}, {shard.last})"
            console.print(f"{where} failed {shard.attempts} times: {escape(shard.error)}")


@click.command()
@command
def catalog(as_json: bool) -> None:
    """List ready specs, models, extractors and data sets by the names that specs use.

    \b
    Example:
      sdesweep catalog --json
    """
    from jobs import catalog as known

    found: dict[str, Any] = {
        "specs": known.spec_names(),
        "training_specs": sorted(path.stem for path in known.CATALOG.glob("train-*.yaml")),
        "models": known.model_names(),
        "extractors": {name: entry.about for name, entry in known.EXTRACTORS.items()},
        "data_sets": list(known.DATA_SETS),
    }
    if as_json:
        emit(found)
        return
    for title, names in found.items():
        click.echo(f"{title.replace('_', ' ')}:")
        for name in names:
            about = f"  {names[name]}" if isinstance(names, dict) else ""
            click.echo(f"  {name}{about}")


@click.command()
@command
def version(as_json: bool) -> None:
    """Say which version this is, and of what it is made.

    \b
    Example:
      sdesweep version --json
    """
    import platform
    from importlib import metadata

    names = ("sdesweep", "torch", "ray", "pyarrow", "numpy")
    try:
        versions = {name: metadata.version(name) for name in names} | {"python": platform.python_version()}
    except metadata.PackageNotFoundError as error:
        raise RequestError(f"{error.name} is not installed; `make setup` installs everything") from None
    if as_json:
        emit(versions)
    else:
        click.echo(", ".join(f"{name} {number}" for name, number in versions.items()))
