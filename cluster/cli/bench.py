"""The command that measures this machine.

A module of its own because it needs no store and no Ray. It must not measure: `jobs.planning.bench` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import RequestError, command, console, emit, model_section

if TYPE_CHECKING:
    from jobs.models.build import Source
    from jobs.planning.bench import Bench


@click.command()
@click.argument("model")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Steps of the sampler that images per second are stated for.",
)
@click.option(
    "--micro-batch",
    "micro_batches",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Images that pass through the network together; may be given more than once.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["float32", "bfloat16"]),
    multiple=True,
    help="May be given twice. Default: both.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="CPU threads, as many as a worker has `cpus`.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@command
def bench(
    model: str,
    steps: int,
    micro_batches: tuple[int, ...],
    precisions: tuple[Any, ...],
    threads: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure MODEL on this machine, and propose micro-batch and precision for a spec.

    MODEL is a name as in a spec, or a file of `sdesweep train`. A published model whose weights are not here
    is measured with random ones: its speed is the same.

    \b
    Examples:
      sdesweep bench digits-ve
      sdesweep bench ve/cifar10_ncsnpp_continuous --steps 2000 --micro-batch 4 --json
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    import torch

    from jobs.compute.worker import WorkerState, best_device
    from jobs.planning import bench as measuring

    torch.set_num_threads(threads)
    chosen = WorkerState(best_device() if device == "auto" else device).device
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: PyTorch sees no GPU here")
    source, trained = _source(model, chosen)

    def tell(line: str) -> None:
        click.echo(f"measuring {line}", err=True)

    try:
        found = measuring.bench(
            source,
            steps,
            micro_batches=micro_batches or measuring.MICRO_BATCHES,
            precisions=precisions or ("float32", "bfloat16"),
            trained=trained,
            tell=(lambda line: None) if as_json else tell,
        )
    except ValueError as error:
        raise RequestError(f"{model}: {error}") from error
    if as_json:
        emit({"model": model, "trained": trained, **found.to_json()})
    else:
        _print(model, trained, found)


def _source(name: str, device: Any) -> tuple[Source, bool]:
    """The model of a name or of a file, and whether its weights mean something."""
    from pathlib import Path

    from jobs.models.build import build_model
    from jobs.models.resolve import resolve_model
    from sdesampling.networks.published import PUBLISHED

    resolved = resolve_model(model_section(name), Path.cwd())
    if not resolved.missing:
        return build_model(resolved.thing, lambda digest: resolved.files[digest], device), True
    config = PUBLISHED.get(name)
    if config is None:
        raise RequestError("\n".join(resolved.missing))
    networks = config.networks()
    return config.model({role: network.to(device) for role, network in networks.items()}), False


def _print(name: str, trained: bool, found: Bench) -> None:
    from rich.table import Table

    image = "" if found.image_bytes is None else f", {_bytes(found.image_bytes)} of activations an image"
    weights = f"{_bytes(found.weight_bytes)} of weights"
    click.echo(f"{name} on {found.device}, {found.threads} threads: {weights}{image}")
    table = Table(box=None, pad_edge=False)
    for header in ("precision", "micro-batch", "evaluations/s", "images/s", "memory"):
        table.add_column(header, justify="left" if header == "precision" else "right")
    for rate in found.rates:
        memory = "" if rate.peak_bytes is None else _bytes(rate.peak_bytes)
        speeds = (f"{rate.evaluations_per_second:.3g}", f"{rate.images_per_second:.3g}")
        table.add_row(rate.precision, str(rate.micro_batch), *speeds, memory)
    console().print(table)
    said = ", ".join(f"{key} {value}" for key, value in found.sampler.items())
    click.echo(f"images/s: {said}; {found.evaluations} evaluations an image; one worker")
    if found.auto_share is not None:
        click.echo(f"auto: bfloat16 for {found.auto_share:.0%} of the evaluations, those of most noise")
    if found.errors:
        pairs = ", ".join(f"{error:.1%} at {level:.2g}" for level, error in found.errors[::4])
        click.echo(f"error of bfloat16 beside the noise, by noise level: {pairs}")
    if not trained:
        click.echo("random weights: the model's own are not here")
    best = found.proposal
    click.echo(
        f"proposed: precision: {best.precision}, resources: {{micro_batch: {best.micro_batch}}} "
        f"({best.images_per_second:.3g} images/s)"
    )


def _bytes(count: int) -> str:
    power = min(3, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
