"""`sdesweep export`: a sweep's images for other tools.

It must not write files itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.cli.bars import bar
from cluster.cli.common import command, emit, open_store, store_option

if TYPE_CHECKING:
    from jobs.inspection.export import Format
    from jobs.specs.configuration import Configuration

_FORMATS = ("png", "npz", "huggingface")


@click.command()
@click.argument("target", metavar="SWEEP[/FINGERPRINT]")
@click.option("--to", "path", required=True, type=click.Path(path_type=Path), metavar="PATH")
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True)
@click.option("--step", type=click.IntRange(min=0), metavar="S", help="A kept stage; the last, by default.")
@store_option
@command
def export(target: str, path: Path, form: Format, step: int | None, store: str, as_json: bool) -> None:
    """Write the images of a configuration to PATH: PNG files, an npz archive, or a Hugging Face data set.

    png: a folder of 000000.png, ...; npz: arr_0, uint8 (count, height, width, channels), as guided-diffusion
    has it; huggingface: a folder that datasets.load_dataset reads. A sweep, or several configurations, go
    below PATH, one each. PATH appears whole or not at all, and nothing is overwritten; an export that was
    stopped goes on by the same command.

    \b
    Examples:
      sdesweep export digits-demo/3fa9 --to samples --format png --store runs
      sdesweep export digits-demo --to exported --format npz --store runs
    """
    from dataclasses import asdict

    from jobs.inspection.export import export_images
    from jobs.planning.lookup import find_configurations

    opened = open_store(store)
    found = find_configurations(opened, target)
    written = []
    for configuration in found:
        place = path if len(found) == 1 else path / _file_name(configuration, form)
        with bar(f"images of {configuration.name}", configuration.samples, quiet=as_json) as advance:
            written.append(export_images(opened, configuration, place, form, step, advance))
        if not as_json:
            there = ", there already" if written[-1].found else ""
            click.echo(f"{written[-1].path}: {written[-1].images:,} images of {configuration.name}{there}")
    if as_json:
        emit({"exported": [asdict(item) for item in written]})


def _file_name(configuration: Configuration, form: Format) -> str:
    """The cell in letters that every file system takes, and the fingerprint's beginning."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in configuration.name.lower())
    parts = [part for part in plain.split("-") if part]
    suffix = ".npz" if form == "npz" else ""
    return f"{'-'.join(parts)[:80]}-{configuration.fingerprint[:8]}{suffix}"
