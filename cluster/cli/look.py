"""Commands that look and change nothing: plan, catalog, version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import RequestError, command, console, emit, expand_spec, open_store
from cluster.cli.hours import When, nights_of, until_option

if TYPE_CHECKING:
    from cluster.forecast import Expected
    from jobs.planning.plan import Costs
    from jobs.planning.sweep import Sweep
    from jobs.store import Store


@click.command()
@click.argument("spec")
@click.option(
    "--store", metavar="URL", help="A folder, or s3://BUCKET/PREFIX; the spec's own, else `runs`, by default."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key in every cell.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Network evaluations a second, of all workers, to tell how long it takes; else as in the last run.",
)
@until_option
@command
def plan(
    spec: str,
    store: str | None,
    settings: tuple[str, ...],
    rate: float | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Say what `run SPEC` would do: configurations, shards, network evaluations, storage. Starts nothing.

    With a window it says when the next night is, and with a rate how many it takes.

    \b
    Examples:
      sdesweep plan song2020-table1
      sdesweep plan my-spec.yaml --rate 50000
    """
    from jobs.paths import SweepPaths
    from jobs.planning.plan import costs
    from jobs.planning.plan_report import plan_json, render_plan
    from jobs.specs.configuration import Configuration
    from jobs.storage.ledger import scan

    sweep = expand_spec(spec, settings, store)
    opened = open_store(sweep.store)
    if any(each.precision == "auto" for each in sweep.configurations):  # their fingerprints depend on it
        from cluster.settling import recorded_hardware
        from jobs.planning.hardware import hardware_here
        from jobs.planning.submission import settle_precision

        sweep = settle_precision(sweep, recorded_hardware(opened, sweep.name) or hardware_here())

    def done(configuration: Configuration) -> list[range]:
        return scan(opened, SweepPaths(sweep.name).configuration(configuration.fingerprint), []).done

    planned = costs(sweep, done)
    expected = _expected(opened, sweep, planned, rate, until)
    if as_json:
        emit({**plan_json(planned), **expected.to_json()})
    else:
        console().print(render_plan(planned))
        for line in expected.sentences():
            click.echo(line)


def _expected(store: Store, sweep: Sweep, planned: Costs, rate: float | None, until: str | None) -> Expected:
    from cluster.forecast import Expected, forecast, measured_rate
    from cluster.nights import now
    from jobs.paths import SweepPaths
    from jobs.storage import runrecord

    nights = nights_of([sweep], When(until=until))[sweep.name]
    used = rate or measured_rate(runrecord.runs(store, SweepPaths(sweep.name)))
    work = sum(cost.work_left for cost in planned.configurations)
    if not used or not work:
        return Expected(nights, None)
    return Expected(nights, forecast(work, used, rate is None, nights.hours, now()))


@click.command()
@command
def catalog(as_json: bool) -> None:
    """List ready specs, models, extractors and data sets by the names that specs use.

    \b
    Example:
      sdesweep catalog --json
    """
    from jobs.models import catalog as known

    found: dict[str, Any] = {
        "specs": known.spec_names(),
        "training_specs": known.training_names(),
        "models": known.model_names(),
        "extractors": {name: entry.about for name, entry in known.EXTRACTORS.items()},
        "data_sets": list(known.DATA_SETS),
    }
    if as_json:
        emit(found)
        return
    models = [name for name in found["models"] if name not in known.DATA_SETS]
    shipped = [name for name in models if name in known.EMBEDDED_MODELS]
    others = [name for name in models if name not in known.EMBEDDED_MODELS]
    _print_names("specs, for `plan` and `run`", known.descriptions(found["specs"]))
    _print_names("training specs, for `train`", known.descriptions(found["training_specs"]))
    _print_names("extractors", found["extractors"])
    _print_names("models, weights shipped", shipped)
    _print_names("models whose weights are added, see `sdesweep models list`", others)
    _print_names("data sets, as references and as models of a control", found["data_sets"])


def _print_names(title: str, names: Mapping[str, str] | Sequence[str]) -> None:
    """Names in a paragraph, or one a line with what each is; 80 columns."""
    click.echo(f"{title}:")
    if not isinstance(names, Mapping):
        click.echo(click.wrap_text(", ".join(names), 79, "  ", "  "))
        return
    width = max(map(len, names)) + 4
    for name, about in names.items():
        click.echo(click.wrap_text(about, 79, f"  {name}".ljust(width), " " * width))


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
