"""Commands that look and change nothing: plan, catalog, version."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.common import RequestError, command, emit, expand_spec, open_store


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
