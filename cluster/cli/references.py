"""`sdesweep reference`: real images, or published statistics of them, under a name of their own in the store.

It must not compute anything.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.bars import bar
from cluster.cli.common import (
    INCOMPLETE,
    RequestError,
    command,
    console,
    emit,
    find_extractor,
    open_store,
    store_option,
)

if TYPE_CHECKING:
    from jobs.inputs.sources import ImageSource
    from jobs.references.check import ReferenceSummary
    from jobs.specs.sections import DataSet
    from jobs.storage.reference_index import Indexed
    from jobs.store import Store


@click.group()
def reference() -> None:
    """Real images to compare with, under a name that specs and commands can use."""


@reference.command()
@click.argument("name")
@click.option("--from", "source", required=True, metavar="PATH", help="What to read, or datasets:NAME.")
@click.option("--split", metavar="S", help="Of an archive, a folder of Parquet files or a `datasets` name.")
@click.option(
    "--extractor",
    "extractors",
    multiple=True,
    metavar="E[=WEIGHTS]",
    help="Make its features now; may be repeated.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be used, and say so.")
@store_option
@command
def build(
    name: str,
    source: str,
    split: str | None,
    extractors: tuple[str, ...],
    skip_unreadable: bool,
    store: str,
    as_json: bool,
) -> int:
    """Read real images once, keep what they are as NAME, and their features by each --extractor.

    PATH is a Parquet file or a folder of them (Hugging Face layout), a folder of images, an npz archive, a
    CIFAR archive (python or binary; packed or a folder) or an idx file (plain or .gz). Features that are not
    made now are made by the first run that needs them, as long as PATH is there. Stopped at any moment, the
    same command goes on.

    \b
    Examples:
      sdesweep reference build cifar10-train --from cifar-10-python.tar.gz --split train --extractor inception
      sdesweep reference build faces --from images/ --extractor inception=weights.pth
    """
    from jobs.inputs.datasets import open_dataset
    from jobs.references.reference import register_reference

    named = _named(name)
    resolved = [find_extractor(text) for text in extractors]
    opened = open_store(store)
    data = open_dataset(
        name, source, split, skip_unreadable=skip_unreadable, reading=partial(bar, quiet=as_json)
    )
    where = source if source.startswith("datasets:") else str(Path(source).resolve())
    register_reference(opened, name, data, where, split)
    for found in resolved:
        if not _make_features(opened, named, data, found, as_json):
            return INCOMPLETE
    _tell(opened, name, as_json, data.skipped)
    return 0


def _make_features(store: Store, named: DataSet, data: ImageSource, found: Any, as_json: bool) -> bool:
    """Build what is missing, with progress; False when it was stopped."""
    from jobs.compute.extraction import BATCH
    from jobs.compute.worker import WorkerState, best_device
    from jobs.models.weights import send_weights
    from jobs.references.reference import build_reference

    send_weights(store, {digest: str(path) for digest, path in found.files.items()})
    with bar(f"features of {named.name} by {found.thing.key}", len(data), quiet=as_json) as advance:
        try:
            build_reference(
                store, named, found.thing, WorkerState(best_device()), lambda: advance(BATCH), images=data
            )
        except KeyboardInterrupt:
            message = "stopped; what is done stays, and the same command goes on"
            if as_json:
                emit({"error": message, "exit_code": INCOMPLETE})
            else:
                click.echo(message, err=True)
            return False
    return True


@reference.command("import")
@click.argument("name")
@click.option("--from", "file", required=True, type=click.Path(path_type=Path), metavar="FILE")
@click.option("--count", type=click.IntRange(min=2), metavar="N", help="Images behind mu and sigma.")
@click.option("--split", metavar="S", help="Of the data set that the file is of.")
@click.option(
    "--extractor",
    default="inception",
    show_default=True,
    metavar="E",
    help="What made the file. pytorch-fid: inception-half-pixel-symmetric.",
)
@store_option
@command
def import_(
    name: str, file: Path, count: int | None, split: str | None, extractor: str, store: str, as_json: bool
) -> None:
    """Keep published statistics as NAME: an npz with raw features (pool_3, feats) or with mu and sigma.

    Raw features (score_sde's cifar10_stats.npz, clean-fid's *_kid.npz) serve every metric. A mean and a
    covariance (pytorch-fid, EDM, DPM-Solver, clean-fid) serve FID alone. Neither says which weights made it,
    nor how images were resized: say that with --extractor, and it is stated with every score.

    \b
    Examples:
      sdesweep reference import cifar10-train --from cifar10_stats.npz --split train
      sdesweep reference import cifar10-pytorch-fid --from fid_stats_cifar10_train.npz --count 50000 \\
          --extractor inception-half-pixel-symmetric
    """
    from cluster.cli.common import extractor_section
    from jobs.models.resolve import resolve_extractor
    from jobs.references.importing import import_reference

    _named(name)
    opened = open_store(store)
    made_by = resolve_extractor(extractor_section(extractor), Path.cwd()).thing
    import_reference(opened, name, file, made_by, count, split)
    _tell(opened, name, as_json)


@reference.command("list")
@store_option
@command
def list_(store: str, as_json: bool) -> None:
    """List the references that specs can name: built, imported, shipped.

    \b
    Example:
      sdesweep reference list --store runs
    """
    from rich.table import Table

    from jobs.references.check import references_of

    found = references_of(open_store(store))
    if as_json:
        emit({"references": [_as_data(item) for item in found]})
        return
    table = Table(box=None, pad_edge=False)
    for header in ("reference", "images", "split", "content", "kind", "features"):
        table.add_column(header, justify="right" if header == "images" else "left")
    for item in found:
        features = ", ".join(
            held.extractor if held.complete else f"{held.extractor} ({held.images:,} images)"
            for held in item.features
        )
        record = item.record
        row = (item.name, f"{record.count:,}", record.split or "", record.content[:12], record.kind, features)
        table.add_row(*row)
    console().print(table)


@reference.command()
@click.argument("name")
@store_option
@command
def show(name: str, store: str, as_json: bool) -> None:
    """Say what NAME is, where it came from, and what it can and cannot be used for.

    \b
    Example:
      sdesweep reference show cifar10-train --store runs
    """
    _tell(open_store(store), name, as_json)


@reference.command()
@click.argument("name")
@store_option
@command
def verify(name: str, store: str, as_json: bool) -> int:
    """Read and hash all features of NAME, and its source; move what is damaged to the quarantine.

    \b
    Example:
      sdesweep reference verify cifar10-train --store runs
    """
    from dataclasses import asdict

    from jobs.references.check import check_reference

    opened = open_store(store)
    found = check_reference(opened, name, _record(opened, name))
    if as_json:
        emit(asdict(found) | {"intact": found.intact})
    else:
        for problem in found.problems:
            click.echo(problem)
        click.echo(f"{found.files:,} files read, {len(found.problems)} damaged; source {found.source}")
    return 0 if found.intact else 1


def _named(name: str) -> DataSet:
    from pydantic import ValidationError

    from jobs.specs.sections import DataSet

    try:
        return DataSet(name=name)
    except ValidationError:
        raise RequestError(
            f"{name!r} is no name: small letters, digits, '.', '_' and '-', 100 at most"
        ) from None


def _record(store: Store, name: str) -> Indexed:
    from jobs.problems import not_one_of
    from jobs.references.check import references_of

    known = {item.name: item.record for item in references_of(store)}
    if name not in known:
        raise RequestError(f"no reference of that name in the store {store.url}: {not_one_of(name, known)}")
    return known[name]


def _tell(store: Store, name: str, as_json: bool, skipped: tuple[str, ...] = ()) -> None:
    from jobs.references.check import summary

    found = summary(store, name, _record(store, name))
    if as_json:
        emit(_as_data(found) | ({"left_out": list(skipped)} if skipped else {}))
        return
    record = found.record
    for line in skipped:
        click.echo(f"left out: {line}", err=True)
    split = f", split {record.split}" if record.split else ""
    what = {"images": "images", "features": "images (features alone)", "moments": "images (moments alone)"}
    click.echo(f"{name}: {record.count:,} {what[record.kind]}{split}, content {record.content}")
    click.echo(f"source: {record.source or 'shipped'}")
    if record.skipped:
        click.echo(f"left out: {record.skipped:,} images of the source that could not be used")
    for held in found.features:
        part = "" if held.complete else f", {held.images:,} of {record.count:,} images"
        click.echo(f"features: {held.extractor}{part}")
    click.echo(f"usable for: {record.uses}")


def _as_data(found: ReferenceSummary) -> dict[str, Any]:
    from dataclasses import asdict

    features = [asdict(held) for held in found.features]
    return {"name": found.name, **found.record.model_dump(), "uses": found.record.uses, "features": features}
