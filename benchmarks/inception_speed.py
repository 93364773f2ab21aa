"""Speed of the FID Inception at 299x299 against pytorch-fid's formulation: batch norm apart, channels first.

Interleaved medians in this process's threads: python benchmarks/inception_speed.py [--batch 8] [--rounds 7]
Weights are random: time does not depend on them. Prints milliseconds an image, the ratio, and the largest
relative difference of the features.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from fid.extractors import inception_network, load_extractor
from fid.extractors.inception import RESIZES
from fid.extractors.inception_network import FidInception


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    plain = FidInception().eval().requires_grad_(False)
    random_weights(plain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(plain.state_dict(), path)
        extractor = load_extractor("inception", path)
    images = torch.randint(0, 256, (arguments.batch, 3, 32, 32), dtype=torch.uint8)

    def ours() -> torch.Tensor:
        return extractor(images).features

    def reference() -> torch.Tensor:
        with torch.inference_mode(), mock.patch.object(inception_network, "pooled_branch", pool_first):
            return plain((RESIZES["tf1-bilinear"](images.float()) - 128) / 128)[0]

    difference = (ours() - reference()).abs().max() / reference().abs().max()
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(arguments.rounds):
        for name, run in (("plain", reference), ("ours", ours)):
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) / arguments.batch * 1000)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"threads {torch.get_num_threads()}, batch {arguments.batch}, {arguments.rounds} rounds")
    print(f"plain {medians['plain']:.1f} ms an image, ours {medians['ours']:.1f} ms an image")
    print(f"ratio {medians['plain'] / medians['ours']:.2f}, largest relative difference {difference:.1e}")


if __name__ == "__main__":
    main()
