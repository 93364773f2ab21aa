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
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What specs will call it.")
@click.option(
    "--weights",
    type=click.Choice(("ema", "raw")),
    help="Of a training checkpoint: the moving averages, as published samples use them, or the raw weights. "
    "[default: ema, raw where there never are averages]",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What the networks are, where NAME is no published model: JSON or YAML (docs/models.md).",
)
@command
def add(paths: tuple[Path, ...], name: str, weights: str | None, config: Path | None, as_json: bool) -> None:
    """Check weights and keep them as NAME.

    PATH is a checkpoint, an extractor's weights, or a model that `sdesweep train` wrote; a GAN has two,
    in any order.

    \b
    Examples:
      sdesweep models add checkpoint_14.pth --as vp/cifar10_ddpm
      sdesweep models add checkpoint.pth --as mine/small --config config.yaml
      sdesweep models add netG.pth netD.pth --as cifar10_sngan
    """
    from jobs.added import add_weights

    try:
        added = add_weights(name, paths, "raw" if weights == "raw" else "ema" if weights else None, config)
    except ValueError as error:  # whatever does not fit, and why
        raise RequestError(str(error)) from None
    if as_json:
        emit(dataclasses.asdict(added))
    else:
        click.echo(f"{added.name}: {added.kind}, {added.parameters:,} values")
        click.echo(f"  {added.note}")
        click.echo(f"  kept as {added.path}, sha256 {added.sha256}")
