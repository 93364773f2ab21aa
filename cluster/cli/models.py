"""`sdesweep models`: weights that the project does not ship."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cluster.cli.common import RequestError, command, emit

if TYPE_CHECKING:
    from jobs.models.added import Added
    from jobs.models.inventory import Entry

weights_option = click.option(
    "--weights",
    type=click.Choice(("ema", "raw")),
    help="Of a training checkpoint: the moving averages, as published samples use them, or the raw weights. "
    "[default: ema, raw where there never are averages]",
)
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What the networks are, where NAME is no published model: JSON, YAML, or a configuration of "
    "score_sde (docs/models.md).",
)


@click.group()
def models() -> None:
    """Bring in weights that are not shipped, once, under a name that specs can use."""


@models.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What specs will call it.")
@weights_option
@config_option
@command
def add(paths: tuple[Path, ...], name: str, weights: str | None, config: Path | None, as_json: bool) -> None:
    """Check weights and keep them as NAME.

    PATH is a checkpoint, an extractor's weights, or a model that `sdesweep train` wrote; a GAN has two,
    in any order. Or PATH is the folder of a diffusers pipeline.

    \b
    Examples:
      sdesweep models add checkpoint_14.pth --as vp/cifar10_ddpm
      sdesweep models add checkpoint.pth --as mine/small --config config.yaml
      sdesweep models add netG.pth netD.pth --as cifar10_sngan
    """
    from jobs.models.added import add_weights

    try:
        added = add_weights(name, paths, _choice(weights), config)
    except ValueError as error:  # whatever does not fit, and why
        raise RequestError(str(error)) from None
    _tell(added, as_json)


@models.command("list")
@command
def list_(as_json: bool) -> None:
    """Say which weights are shipped, added, or missing, and where to get those.

    \b
    Example:
      sdesweep models list
    """
    from jobs.models import inventory

    found, plugins = inventory.entries(), inventory.plugins()
    if as_json:
        emit({"weights": [_data(each) for each in found], "plugins": [vars(each) for each in plugins]})
        return
    width = max(len(each.name) for each in found)
    for state in ("shipped", "added", "missing"):
        chosen = [each for each in found if each.state == state]
        if chosen:
            click.echo(f"{state}:")
        for each in chosen:
            about = each.origin or (str(each.source) if each.source else "")
            click.echo(f"  {each.name:{width}}  {each.kind}" + (f"  ({about})" if about else ""))
    if plugins:
        click.echo("networks and extractors of other packages:")
    for plugin in plugins:
        click.echo(f"  {plugin.name}  {plugin.package} {plugin.version} ({plugin.group})")


@models.command()
@click.argument("name")
@command
def show(name: str, as_json: bool) -> None:
    """Say what NAME is: its networks, where its weights come from, its file.

    \b
    Example:
      sdesweep models show vp/cifar10_ddpm
    """
    import json

    from jobs.models import inventory

    found = inventory.entry(name)
    if as_json:
        emit(_data(found))
        return
    click.echo(f"{found.name}: {found.kind}, {found.state}")
    if found.source:
        click.echo(f"  weights: {found.source}")
    if found.path:
        click.echo(f"  file: {found.path}, {found.path.stat().st_size:,} bytes")
    if found.origin:
        click.echo(f"  {found.origin}")
    for key, value in (found.config or {}).items():
        click.echo(f"  {key}: {value if isinstance(value, str) else json.dumps(value)}")


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Hash and load weights again; all that are here unless NAMEs are given. Exit code 1 if any is damaged.

    \b
    Example:
      sdesweep models verify
    """
    from jobs.models import inventory

    chosen = names or [each.name for each in inventory.entries() if each.state != "missing"]
    found = {}
    for name in chosen:
        found[name] = inventory.verify(name)
        if not as_json:
            click.echo(f"{name}: {'; '.join(found[name]) or 'in order'}")
    if as_json:
        emit({"weights": found})
    return 1 if any(found.values()) else 0


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@command
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Delete added weights. Sweeps that have begun keep the copy in their store.

    \b
    Example:
      sdesweep models remove mine/small
    """
    from jobs.models import inventory

    for name in names:
        inventory.entry(name)  # all names are right before anything is deleted
    removed = {name: [str(path) for path in inventory.remove(name)] for name in names}
    if as_json:
        emit({"removed": removed})
    else:
        for name, paths in removed.items():
            click.echo(f"{name}: removed {', '.join(paths)}")


@models.command()
@click.argument("what", metavar="NAME|URL")
@click.option("--as", "name", metavar="NAME", help="Of a URL: what specs will call it.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Only download.")
@click.option("--sha256", metavar="HEX", help="What the file at a URL must have.")
@weights_option
@config_option
@command
def fetch(
    what: str,
    name: str | None,
    to: Path | None,
    sha256: str | None,
    weights: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Download weights and add them. Stopped or cut off, the same command goes on where it was.

    NAME is one of `sdesweep models list`; URL a single file, which needs --as or --to.

    \b
    Examples:
      sdesweep models fetch inception
      sdesweep models fetch https://example.org/checkpoint_9.pth --as mine/small --config config.yaml
    """
    from jobs.models.fetched import bring, download

    if "://" in what and (name is None) == (to is None):
        raise RequestError("a URL needs either --as NAME, to be added, or --to FILE, to be kept")
    if "://" not in what and (name or to or sha256):
        raise RequestError("--as, --to and --sha256 are for URLs; a NAME says all of it")
    try:
        if to is not None:
            found = download(what, to, sha256, _bytes_shown(as_json))
            data = {"path": str(found.path), "sha256": found.sha256, "bytes": found.size}
            if as_json:
                emit(data)
            else:
                click.echo(f"{found.path}: {found.size:,} bytes, sha256 {found.sha256}")
            return
        added, files = bring(what, name, sha256, _choice(weights), config, _bytes_shown(as_json))
    except ValueError as error:
        raise RequestError(str(error)) from None
    if not as_json:
        for file in files:
            click.echo(f"fetched {file.path.name}: {file.size:,} bytes, sha256 {file.sha256}")
    _tell(added, as_json)


def _bytes_shown(quiet: bool) -> Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]:
    """Opens a display of bytes for a file."""
    from cluster.cli.bars import byte_bar

    return lambda what: byte_bar(what, quiet=quiet)


def _choice(weights: str | None) -> Literal["ema", "raw"] | None:
    return None if weights is None else "raw" if weights == "raw" else "ema"


def _tell(added: Added, as_json: bool) -> None:
    """Say what was added."""
    if as_json:
        emit(dataclasses.asdict(added))
        return
    click.echo(
        f"{added.name}: {added.kind}" + (f", {added.parameters:,} parameters" if added.parameters else "")
    )
    click.echo(f"  {added.note}")
    click.echo(f"  kept as {added.path}, sha256 {added.sha256}")


def _data(found: Entry) -> dict[str, Any]:
    """An entry as JSON."""
    source = None if found.source is None else found.source.model_dump()
    return {**vars(found), "path": found.path and str(found.path), "source": source}
