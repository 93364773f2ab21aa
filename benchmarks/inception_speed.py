"""Speed of the FID Inception at 299x299 against pytorch-fid's formulation: batch norm apart, channels first.

    python benchmarks/inception_speed.py [--batch 8] [--rounds 7] [--images FILE --count 256]

Interleaved rounds in this process's threads, in float32 and in bfloat16: medians, and the best of each, which
other work on the machine disturbs least. Weights are random: time does not depend on them. Prints
milliseconds an image, the ratio, and the largest relative difference of the features.
With `--images` (whatever a data set may be) it measures instead what bfloat16 does to a score: the distance
between two halves of the images, each in float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from fid.control import measure
from fid.extractors import Extractor, inception_network, load_extractor
from fid.extractors.inception import RESIZES
from fid.extractors.inception_network import FidInception
from jobs.compute.extraction import extract
from jobs.inputs.datasets import read_dataset


def random_weights(network: FidInception) -> None:
    """Weights and statistics of a realistic size, so that features neither vanish nor blow up."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
        elif name.endswith("running_var"):
            tensor.copy_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
        elif name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))


def pool_first(unit: inception_network.ConvUnit, x: torch.Tensor) -> torch.Tensor:
    """The pool branch in the order of the published code."""
    return unit(torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))


def effect_on_scores(extractors: dict[str, Extractor], images: np.ndarray) -> None:
    """Distances of the first half of the images from the second, in each arithmetic and across them."""
    features = {
        name: extract(extractor, 0, images, [range(len(images))]).features
        for name, extractor in extractors.items()
    }
    half = len(images) // 2
    print(f"{half} against {len(images) - half} images")
    for ours in extractors:
        for theirs in extractors:
            value = measure(features[ours][:half], features[theirs][half:]).distance
            print(f"generated in {ours}, reference in {theirs}: {value:.6g}")
    exact, fast = features.values()
    same = measure(exact, fast)
    size = float(np.linalg.norm(fast - exact) / np.linalg.norm(exact - exact.mean(axis=0)))
    print(f"the same images in both: {same.distance:.4g}, of it the means {same.mean_term:.4g}")
    print(f"features differ by {size:.4f} of their spread")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=Path, help="a folder, Parquet file or archive")
    parser.add_argument("--count", type=int, default=256)
    arguments = parser.parse_args()

    plain = FidInception().eval().requires_grad_(False)
    random_weights(plain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(plain.state_dict(), path)
        extractors = {
            "float32": load_extractor("inception", path),
            "bfloat16": load_extractor("inception-bfloat16", path),
        }
    if arguments.images is not None:
        found = read_dataset("images", arguments.images).images
        drawn = np.random.default_rng(0).permutation(len(found))[: arguments.count]
        effect_on_scores(extractors, found[drawn])
        return
    images = torch.randint(0, 256, (arguments.batch, 3, 32, 32), dtype=torch.uint8)

    def reference() -> torch.Tensor:
        with torch.inference_mode(), mock.patch.object(inception_network, "pooled_branch", pool_first):
            return plain((RESIZES["tf1-bilinear"](images.float()) - 128) / 128)[0]

    ways: dict[str, Callable[[], torch.Tensor]] = {"plain": reference}
    for name, extractor in extractors.items():
        ways[name] = lambda extractor=extractor: extractor(images).features
    truth = reference()
    differences = {name: float((way() - truth).abs().max() / truth.abs().max()) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - began) / arguments.batch * 1000)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"threads {torch.get_num_threads()}, batch {arguments.batch}, {arguments.rounds} rounds")
    best = {name: min(found) for name, found in times.items()}
    for name, median in medians.items():
        print(
            f"{name}: median {median:.1f} ms an image, {medians['plain'] / median:.2f} times plain; best "
            f"{best[name]:.1f}, {best['plain'] / best[name]:.2f} times; largest relative difference "
            f"{differences[name]:.1e}"
        )


if __name__ == "__main__":
    main()
