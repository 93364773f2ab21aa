"""`sdesweep models`: weights that the project does not ship."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from cluster.cli.common import RequestError, command, emit


@click.group()
def models() -> None:
    """Bring in weights that are not shipped, once, under a name that specs can use."""


@models.command()
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--weights",
    type=click.Choice(("ema", "raw")),
    default="ema",
    show_default=True,
    help="Of a training checkpoint: the moving averages, as published samples use them, or the raw weights.",
)
@command
def add(name: str, file: Path, weights: str, as_json: bool) -> None:
    """Check FILE and keep it as NAME.

    \b
    Example:
      sdesweep models add vp/cifar10_ddpm checkpoint_14.pth
    """
    from jobs.added import add_weights

    try:
        added = add_weights(name, file, "raw" if weights == "raw" else "ema")
    except ValueError as error:  # whatever does not fit, and why
        raise RequestError(str(error)) from None
    if as_json:
        emit(dataclasses.asdict(added))
    else:
        click.echo(f"{added.name}: {added.path}, sha256 {added.sha256}; {added.note}")
