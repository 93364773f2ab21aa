"""`sdesweep likelihood`: bits per dimension of a data set by the probability flow.

It must not compute anything.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.bars import bar
from cluster.cli.common import (
    INCOMPLETE,
    RequestError,
    command,
    emit,
    model_section,
    open_store,
    store_option,
)

if TYPE_CHECKING:
    from jobs.inputs.sources import Dataset
    from jobs.inspection.likelihoods import Bits, LikelihoodRequest
    from jobs.models.resolve import Resolved
    from jobs.specs.configuration import Model
    from jobs.store import Store

positive = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("model")
@click.argument("dataset")
@click.option("--path", metavar="PATH", help="Where the images are; shipped data sets need none.")
@click.option("--split", metavar="S", help="Of an archive, or of a folder of Parquet files.")
@click.option("--images", type=click.IntRange(1), help="The first so many.  [default: all]")
@click.option("--passes", type=click.IntRange(1), default=1, show_default=True, help="Over the data set.")
@click.option(
    "--trace", type=click.Choice(("rademacher", "gaussian", "exact")), default="rademacher", show_default=True
)
@click.option("--rtol", type=positive, default=1e-5, show_default=True)
@click.option("--atol", type=positive, default=1e-5, show_default=True)
@click.option("--error-norm", type=click.Choice(("group", "sample")), default="group", show_default=True)
@click.option("--eps", type=positive, default=1e-5, show_default=True, help="Time of the images.")
@click.option("--group-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--share", metavar="I/N", default="1/1", help="Do the I-th of N shares, in one of N processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@store_option
@command
def likelihood(
    model: str,
    dataset: str,
    path: str | None,
    split: str | None,
    share: str,
    device: str,
    store: str,
    as_json: bool,
    images: int | None,
    **settings: Any,
) -> int:
    """Print bits per dimension of DATASET under the score model MODEL, a name or a model's file.

    Images are dequantised by uniform noise: bits are an upper bound of those of the bytes. They count bytes
    whatever the range of the network: 8 are added for data in [0, 1] and 7 for data in [-1, 1], where a level
    is twice as wide. ± is the standard error over images. Groups are kept in the store: stopped at any
    moment, the same command goes on.

    \b
    Examples:
      sdesweep likelihood digits-vp digits-heldout --passes 5
      sdesweep likelihood vp/cifar10_ddpmpp_continuous cifar10-test --path cifar10/test.parquet
    """
    from jobs.inputs.datasets import read_dataset
    from jobs.inspection.likelihoods import (
        LikelihoodRequest,
        UnfitError,
        check_request,
        gather,
        missing_parts,
    )

    found = _resolved(model)
    data = read_dataset(dataset, path, split)
    count = len(data) if images is None else images
    if count > len(data):
        raise RequestError(f"--images {count}: {dataset} has {len(data):,}")
    torch_device = _device(device)
    request = LikelihoodRequest(model=found.thing, content=data.content_hash, images=count, **settings)
    try:
        check_request(request, tuple(data.images.shape[1:]))
    except UnfitError as error:
        raise RequestError(str(error)) from None
    opened = open_store(store)
    mine, missing = _share(request.parts, share), missing_parts(opened, request)
    left = [part for part in mine if part in missing]
    if left:
        _make(opened, request, left, found, torch_device, data, quiet=as_json)
        missing = missing_parts(opened, request)
    if missing:
        return _incomplete(len(missing), len(request.parts), as_json)
    try:
        bits = gather(opened, request)
    except UnfitError as error:
        raise RequestError(str(error)) from None
    _show(request, dataset, bits, as_json)
    return 0


def _make(
    store: Store,
    request: LikelihoodRequest,
    parts: list[tuple[int, range]],
    found: Resolved[Model],
    device: Any,
    data: Dataset,
    *,
    quiet: bool,
) -> None:
    """Compute and keep parts, until all are there or Ctrl-C."""
    from jobs.inspection.likelihoods import make_parts
    from jobs.models.build import build_model
    from sdesampling.score import ScoreModel

    network = build_model(found.thing, lambda digest: found.files[digest], device)
    assert isinstance(network, ScoreModel)  # its family was checked
    try:
        with bar(f"likelihood of {data.name}", sum(len(group) for _, group in parts), quiet=quiet) as advance:
            make_parts(store, request, parts, network, data, advance)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise RequestError(f"--device {name}: take cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError(f"--device {name}: there is no GPU here that torch can use")
    return device


def _resolved(model: str) -> Resolved[Model]:
    """What MODEL stands for, with its weights. Raises RequestError where they are not here."""
    from jobs.models.resolve import resolve_model

    found = resolve_model(model_section(model), Path.cwd())
    if found.missing:
        raise RequestError("; ".join(found.missing))
    return found


def _share(parts: list[tuple[int, range]], share: str) -> list[tuple[int, range]]:
    number, _, total = share.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise RequestError(f"--share {share}: write I/N with I from 1 to N, for example 1/2 and 2/2")
    return parts[int(number) - 1 :: int(total)]


def _incomplete(missing: int, total: int, as_json: bool) -> int:
    if as_json:
        emit({"complete": False, "groups_left": missing, "groups": total, "exit_code": INCOMPLETE})
    else:
        click.echo(f"{total - missing} of {total} groups are kept; the same command does the others")
    return INCOMPLETE


def _show(request: LikelihoodRequest, dataset: str, bits: Bits, as_json: bool) -> None:
    settings = request.model_dump(mode="json", exclude={"model", "content"})
    if as_json:
        model = {"name": request.model.name, "weights": request.model.weights}
        data = {"name": dataset, "content": request.content}
        emit({"complete": True, "model": model, "dataset": data, "settings": settings, **asdict(bits)})
        return
    error = "" if bits.standard_error is None else f" ± {bits.standard_error:.3f}"
    click.echo(
        f"{request.model.name} on {bits.images:,} images of {dataset}: {bits.mean:.3f}{error} bits/dim"
    )
    if len(bits.passes) > 1:
        click.echo(f"passes: {', '.join(f'{mean:.4f}' for mean in bits.passes)}")
    click.echo(
        f"trace {request.trace}, eps {request.eps:g}, rtol {request.rtol:g}, atol {request.atol:g}; "
        f"{bits.evaluations:.0f} evaluations, {bits.seconds:.0f} s of work"
    )
    if len(bits.made_by) > 1:
        click.echo(f"made by several: {'; '.join(bits.made_by)}")
