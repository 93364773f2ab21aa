"""`sdesweep train`: weights from a training spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import click

from cluster.cli.common import RequestError, command, emit


@click.command()
@click.argument("spec")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("weights"),
    show_default=True,
    help="Folder of the weights and their record.",
)
@command
def train(spec: str, out: Path, as_json: bool) -> None:
    """Train what SPEC describes, a training spec or the name of a ready one, in this process.

    Stopped at any moment, the same command goes on from the last saved state.

    \b
    Examples:
      sdesweep train train-digits-cnn --out weights
      sdesweep train my-training.yaml --out weights --json
    """
    from jobs.models import catalog
    from jobs.training.run import OtherTrainingError
    from jobs.training.run import train as run_training

    path = Path(spec) if Path(spec).is_file() else catalog.spec_path(spec)
    if not path.is_file():
        ready = ", ".join(catalog.training_names())
        raise RequestError(f"no training spec {spec!r}: neither a file nor one of {ready}")

    def show(step: int, steps: int, losses: Mapping[str, float]) -> None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        click.echo(f"step {step:,} of {steps:,}: {values}")

    try:
        record = run_training(path, out, None if as_json else show)
    except OtherTrainingError as error:
        raise RequestError(str(error)) from None
    if as_json:
        emit(dataclasses.asdict(record))
    else:
        click.echo(f"{out / record.weights['file']}: sha256 {record.weights['sha256']}")
