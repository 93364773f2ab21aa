"""Speed of NCSN++ beside the formulation of the reference code, on the same weights, machine and threads.

The reference formulation is written here in plain PyTorch: resampling by zero insertion, padding and a
convolution over single channels, attention by einsum, group norm and nonlinearity as modules, and the layout
(batch, channels, height, width) throughout. All are run by turns; medians are printed, with the largest
difference of their outputs relative to the largest output.

    python benchmarks/network_speed.py                     # CIFAR-10 NCSN++ (62.8 M parameters), 2 threads
    python benchmarks/network_speed.py --size digits --batch 256 --threads 1
    python benchmarks/network_speed.py --threads 1 --clock cpu   # on a machine that others use too
    python benchmarks/network_speed.py --workers 2    # processes of one thread against one of --threads
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.nn.utils import convert_conv2d_weight_memory_format

from sdesampling.memory import PeakMemory
from sdesampling.networks import attention, build_network, resampling, residual, winograd
from sdesampling.networks.published import PUBLISHED

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
DIGITS = {"nf": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4]}


class ReferenceResample(resampling.Resample):
    def forward(self, x: Tensor) -> Tensor:
        if not self.taps:
            return super().forward(x)
        excess = len(self.taps) - 2
        if self.direction == "up":
            return upfirdn(x, self.kernel, up=2, before=(excess + 1) // 2 + 1, after=excess // 2)
        return upfirdn(x, self.kernel, down=2, before=(excess + 1) // 2, after=excess // 2)


class ReferenceResampleConv2d(resampling.ResampleConv2d):
    def forward(self, x: Tensor) -> Tensor:
        assert self.direction == "down", "CIFAR-10's NCSN++ filters its progressive input alone"
        padding = self.excess + 2
        x = upfirdn(x, self.kernel, before=(padding + 1) // 2, after=padding // 2)
        bias = self.Conv2d_0.bias
        assert bias is not None
        return conv2d(x, self.Conv2d_0.weight, stride=2) + bias.reshape(1, -1, 1, 1)


class ReferenceNIN(attention.NIN):
    def forward(self, x: Tensor) -> Tensor:
        return (torch.einsum("bhwc,cd->bhwd", x.permute(0, 2, 3, 1), self.W) + self.b).permute(0, 3, 1, 2)


class ReferenceAttention(attention.Attention):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        h = self.GroupNorm_0(x)
        queries, keys, values = self.NIN_0(h), self.NIN_1(h), self.NIN_2(h)
        weights = torch.einsum("bchw,bcij->bhwij", queries, keys) * channels**-0.5
        weights = weights.reshape(batch, height, width, -1).softmax(dim=-1)
        weights = weights.reshape(batch, height, width, height, width)
        h = self.NIN_3(torch.einsum("bhwij,bcij->bchw", weights, values))
        return (x + h) * self.gain


class ReferenceResidualBlock(residual.ResidualBlock):
    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        h = self.activation(self.GroupNorm_0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.Conv_0(h)
        if embedding is not None:
            h = h + self.Dense_0(embedding)[:, :, None, None]
        h = self.Conv_1(self.Dropout_0(self.activation(self.GroupNorm_1(h))))
        if hasattr(self, "Conv_2"):
            x = self.Conv_2(x)
        return (x + h) * self.gain


REFERENCES: dict[type[nn.Module], type[nn.Module]] = {
    winograd.Conv3x3: nn.Conv2d,
    resampling.Resample: ReferenceResample,
    resampling.ResampleConv2d: ReferenceResampleConv2d,
    attention.NIN: ReferenceNIN,
    attention.Attention: ReferenceAttention,
    residual.ResidualBlock: ReferenceResidualBlock,
}


def upfirdn(x: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, before: int, after: int) -> Tensor:
    """Insert zeros, pad, filter, drop pixels, one after the other; every channel is an image of its own."""
    batch, channels, height, width = x.shape
    x = x.reshape(-1, 1, height, 1, width, 1)
    x = pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(-1, 1, height * up, width * up)
    x = pad(x, (before, after, before, after))
    x = conv2d(x, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return x.reshape(batch, channels, *x.shape[2:])


def reference_formulation(network: nn.Module) -> nn.Module:
    """A copy of the network, with the same weights, that computes as the reference code does."""
    slow = copy.deepcopy(network)
    convert_conv2d_weight_memory_format(slow, torch.contiguous_format)
    for module in slow.modules():
        if type(module) in REFERENCES:
            module.__class__ = REFERENCES[type(module)]
    return slow


def medians(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each, run by turns after one run for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def subject(size: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network, the same in every process, and the shape of its images."""
    torch.manual_seed(0)
    if size == "cifar10":
        config = PUBLISHED["ve/cifar10_ncsnpp_continuous"]
        network, shape = config.networks()["network"].eval(), config.shape
    else:
        network, shape = build_network("ncsnpp", image_size=8, num_channels=1, **DIGITS).eval(), (1, 8, 8)
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-6:  # layers that start silent would hide differences
            nn.init.normal_(parameter, std=0.02)
    return network, shape


def evaluate_when_asked(connection: Connection, size: str, batch: int) -> None:
    """One worker: an evaluation of a batch, by one thread, for everything that it is sent."""
    torch.set_num_threads(1)
    network, shape = subject(size)
    x, labels = torch.rand(batch, *shape), torch.full((batch,), 0.5)
    with torch.no_grad():
        while connection.recv():
            network(x, labels)
            connection.send(True)


@contextmanager
def workers(count: int, size: str, batch: int) -> Iterator[Callable[[], None]]:
    """Processes, and the function that has each of them evaluate a batch, all at the same time."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=evaluate_when_asked, args=(theirs, size, batch), daemon=True)
        for _, theirs in pipes
    ]
    for process in processes:
        process.start()

    def together() -> None:
        for ours, _ in pipes:
            ours.send(True)
        for ours, _ in pipes:
            ours.recv()

    try:
        yield together
    finally:
        for ours, _ in pipes:
            ours.send(False)
        for process in processes:
            process.join()


def compare_workers(arguments: argparse.Namespace) -> None:
    """Images a second of single-threaded processes beside the reference formulation in one process."""
    network, shape = subject(arguments.size)
    slow, batch = reference_formulation(network), arguments.batch
    del network
    x, labels = torch.rand(batch, *shape), torch.full((batch,), 0.5)
    with workers(arguments.workers, arguments.size, batch) as together, torch.no_grad():
        runs = {"reference": lambda: slow(x, labels), "workers": together}
        seconds = medians(runs, arguments.repeats)
    images = {"reference": batch / seconds["reference"]}
    images["workers"] = arguments.workers * batch / seconds["workers"]
    print(
        f"reference, {arguments.threads} threads: {images['reference']:.2f} images a second and evaluation\n"
        f"{arguments.workers} workers of 1 thread: {images['workers']:.2f}, "
        f"{images['workers'] / images['reference']:.2f} times as many"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=("cifar10", "digits"), default="cifar10")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process (1 thread)")
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false")
    parser.add_argument("--compile", action="store_true", help="both forms through torch.compile as well")
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread to compare with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.workers:
        compare_workers(arguments)
        return
    network, shape = subject(arguments.size)
    slow = reference_formulation(network)
    low = copy.deepcopy(network)
    low.set_precision(torch.bfloat16)
    x, labels = torch.rand(arguments.batch, *shape), torch.full((arguments.batch,), 0.5)
    forms: dict[str, Any] = {"reference": slow, "float32": network} | (
        {"bfloat16": low} if arguments.bfloat16 else {}
    )
    if arguments.compile:
        forms |= {"reference compiled": torch.compile(slow), "float32 compiled": torch.compile(network)}
    with torch.no_grad():
        expected = slow(x, labels)
        for name in forms:
            start = time.perf_counter()
            forms[name](x, labels)
            print(f"{name}: first evaluation after {time.perf_counter() - start:.1f} s")
        outputs = {name: form(x, labels) for name, form in forms.items()}
        runs: dict[str, Callable[[], object]] = {
            name: partial(form, x, labels) for name, form in forms.items()
        }
        seconds = medians(runs, arguments.repeats, CLOCKS[arguments.clock])
        with PeakMemory() as memory:
            network(x, labels)
    weights = sum(each.numel() * each.element_size() for each in network.parameters())
    kept = [each._transformed for each in network.modules() if isinstance(each, winograd.Conv3x3)]
    transformed = sum(each[1].numel() * each[1].element_size() for each in kept if each is not None)
    print(
        f"weights {weights / 1e6:.1f} MB, transformed ones {transformed / 1e6:.1f} MB, activations "
        f"{memory.peak / arguments.batch / 1e6:.2f} MB an image in batches of {arguments.batch}"
    )
    for name, value in seconds.items():
        difference = (outputs[name] - expected).abs().max() / expected.abs().max()
        print(
            f"{name:18} {value / arguments.batch * 1e3:8.3f} ms per image and evaluation, "
            f"{seconds['reference'] / value:.2f} times as fast; difference {difference:.1e}"
        )


if __name__ == "__main__":
    main()
