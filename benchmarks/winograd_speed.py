"""Winograd's 3x3 convolution beside the direct one, layer by layer as in CIFAR-10 NCSN++: speed and error.

    python benchmarks/winograd_speed.py --batch 4 --clock cpu

Both are run by turns in one thread; medians, and the largest error beside float64, as a share of the largest
value.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from network_speed import CLOCKS, medians
from torch import Tensor
from torch.nn.functional import conv2d

from sdesampling.networks import winograd

LAYERS = ((128, 128, 32), (256, 128, 32), (384, 128, 32), (256, 256, 16), (512, 256, 16), (256, 256, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for inputs, outputs, side in LAYERS:
        x = torch.randn(options.batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last)
        transformed = winograd.transform_weight(weight)
        exact = conv2d(x.double(), weight.double(), padding=1)
        runs = {
            "direct": partial(conv2d, x, weight, padding=1),
            "winograd": partial(winograd.winograd, x, transformed, None),
        }
        seconds = medians(runs, options.repeats, CLOCKS[options.clock])
        errors = ", ".join(f"{name} {relative_error(run(), exact):.1e}" for name, run in runs.items())
        ratio = seconds["direct"] / seconds["winograd"]
        taken = "taken" if side >= winograd.MIN_SIDE else "not taken"
        print(f"{inputs} to {outputs} channels, {side}x{side} ({taken}): {ratio:.2f} times as fast; {errors}")


def relative_error(result: Tensor, exact: Tensor) -> float:
    return float((result - exact).abs().max() / exact.abs().max())


if __name__ == "__main__":
    main()
