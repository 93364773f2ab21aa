"""FID[mnist-lenet] of a published MNIST GAN over steps of latent Langevin dynamics, calibrated and not.

The table and the figure of docs/samplers.md come from here. DATA is a folder with weights/mnist_mlp_gan,
weights/mnist_lenet and mnist/{train,test}.parquet (see the ready spec ddls-mnist-mlp). The discriminator is
calibrated on the first test images; distances are to the training images.

    python benchmarks/ddls_mnist.py measure DATA curves.json --step-size 0.01 --calibrated
    python benchmarks/ddls_mnist.py draw curves.json docs/figures/ddls-mnist.svg
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from fid.extractors import Extractor, load_extractor
from fid.moments import Moments
from fid.scores import fid_score
from jobs.inputs.datasets import read_dataset
from sdesampling.calibration import Calibration, calibrate
from sdesampling.latent import LatentModel
from sdesampling.networks import MnistMLPDiscriminator, MnistMLPGenerator
from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler

GROUP = 1000
CALIBRATED_ON = 5000


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--step-size", type=float, default=0.01, show_default=True)
@click.option("--calibrated", is_flag=True)
@click.option("--metropolis", is_flag=True)
@click.option("--samples", default=4000, show_default=True)
@click.option("--stages", default="0,5,10,25,50,100,200", show_default=True)
def measure(
    data: Path, out: Path, step_size: float, calibrated: bool, metropolis: bool, samples: int, stages: str
) -> None:
    """Add one curve to the file OUT."""
    model, extractor = published_gan(data), load_extractor("mnist-lenet", lenet(data))
    steps = [int(stage) for stage in stages.split(",")]
    calibration = fitted(model, data) if calibrated else None
    sampler = build_sampler(
        "ddls", model, steps=steps[-1], step_size=step_size, metropolis=metropolis, calibration=calibration
    )
    features: dict[int, list[np.ndarray]] = {step: [] for step in steps}
    reports = []
    began = time.process_time()
    for first in range(0, samples, GROUP):
        noise = NoiseStream(1, 0, range(first, first + GROUP))
        state = sampler.init(noise)
        while True:
            if state.step in features:
                features[state.step].append(features_of(extractor, sampler.finish(state)))
            if state.step == sampler.steps:
                break
            state = sampler.step(state, noise)
        reports.append(sampler.diagnostics(state))
    moments = reference(data, extractor)
    scores = [fid_score(np.concatenate(features[step]), moments) for step in steps]
    curve = {
        "step_size": step_size,
        "calibrated": calibrated,
        "metropolis": metropolis,
        "samples": samples,
        "steps": steps,
        "fid": [score.value for score in scores],
        "standard_error": [score.standard_error.value for score in scores],
        "diagnostics": {key: float(np.mean([each[key] for each in reports])) for key in reports[0]},
        "cpu_seconds": time.process_time() - began,
    }
    click.echo(json.dumps(curve))
    known = json.loads(out.read_text()) if out.exists() else []
    out.write_text(json.dumps([*known, curve], indent=1) + "\n")


@main.command()
@click.argument("curves", type=click.Path(exists=True, path_type=Path))
@click.argument("figure", type=click.Path(dir_okay=False, path_type=Path))
def draw(curves: Path, figure: Path) -> None:
    """Draw all curves of a file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "sdesweep"  # the same bytes every time
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(6.4, 4))
    for curve in json.loads(curves.read_text()):
        name = f"step size {curve['step_size']:g}" + ", calibrated" * curve["calibrated"]
        name += ", Metropolis-adjusted" * curve["metropolis"]
        axes.errorbar(curve["steps"], curve["fid"], curve["standard_error"], label=name, capsize=2)
    axes.set(xlabel="Langevin steps", ylabel="FID[mnist-lenet] to the training images", xscale="symlog")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    plt.tight_layout()
    plt.savefig(figure, metadata={"Date": None})


def published_gan(data: Path) -> LatentModel:
    networks = []
    for network, file in ((MnistMLPGenerator(), "G--300.ckpt"), (MnistMLPDiscriminator(), "D--300.ckpt")):
        weights = torch.load(data / "weights" / "mnist_mlp_gan" / file, map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        networks.append(network.requires_grad_(False))
    return LatentModel(networks[0], networks[1], 64, (1, 28, 28), micro_batch=GROUP)


def lenet(data: Path) -> Path:
    return data / "weights" / "mnist_lenet" / "lenet_epoch12.pth"


def fitted(model: LatentModel, data: Path) -> Calibration:
    held_out = read_dataset("mnist-test", data / "mnist" / "test.parquet").images[:CALIBRATED_ON]
    return calibrate(model, torch.from_numpy(held_out), NoiseStream(1, 0, range(len(held_out))))


def features_of(extractor: Extractor, images: Tensor) -> np.ndarray:
    return extractor((images.clamp(0, 1) * 255).to(torch.uint8)).features.numpy()


def reference(data: Path, extractor: Extractor) -> Moments:
    """Moments of the training images' features."""
    images = torch.from_numpy(read_dataset("mnist-train", data / "mnist" / "train.parquet").images)
    moments = Moments(extractor.dimension)
    for block in images.split(GROUP):
        moments.update(extractor(block).features.numpy())
    return moments


if __name__ == "__main__":
    main()
