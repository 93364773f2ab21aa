"""What sampling costs beside the network: time of a predictor-corrector step without it over that of its two
evaluations.

The step is timed with a network that returns its input, so that what is small is measured by itself and not
as the difference of two large times; network and step are timed by turns, and medians are compared.

    python benchmarks/sampler_overhead.py --image-size 32 --batch 16 --micro-batch 4 --clock cpu
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sdesampling.networks import build_network
from sdesampling.noise import NoiseStream
from sdesampling.samplers import State, build_sampler
from sdesampling.score import ScoreModel, in_micro_batches
from sdesampling.sde import VE

SIZES = {  # arguments of NCSN++ by image size: the digits' network, and that of the published CIFAR-10 model
    8: {"num_channels": 1, "nf": 16, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,)},
    32: {
        "num_channels": 3,
        "nf": 128,
        "ch_mult": (1, 2, 2, 2),
        "num_res_blocks": 4,
        "attn_resolutions": (16,),
    },
}

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Free(nn.Module):
    """A network that costs nothing: the score of standard normal data, near enough."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    start = clock()
    work()
    return clock() - start


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, choices=SIZES, default=8, help="8: digits; 32: CIFAR-10")
    parser.add_argument("--batch", type=int, default=256, help="images in a group (default 256)")
    parser.add_argument("--rounds", type=int, default=20, help="timed pairs (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of one worker (default 1)")
    parser.add_argument("--micro-batch", type=int, help="images that pass through the network together")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process (1 thread)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = build_network("ncsnpp", image_size=options.image_size, **SIZES[options.image_size]).eval()
    channels = SIZES[options.image_size]["num_channels"]
    assert isinstance(channels, int)
    shape = (channels, options.image_size, options.image_size)
    model = ScoreModel(Free(), VE(), shape, micro_batch=options.micro_batch)
    sampler = build_sampler("predictor_corrector", model, steps=1000)
    noise = NoiseStream(0, 0, range(options.batch))
    state = sampler.init(noise)
    x, labels = torch.rand(options.batch, *shape), torch.full((options.batch,), 1.0)

    @torch.no_grad()
    def evaluations() -> None:
        for _ in range(2):
            in_micro_batches(network, options.micro_batch, x, labels)

    steps = iter(range(1, 1000))

    def step() -> None:
        sampler.step(State(next(steps), state.tensors), noise)  # other noise every time

    evaluations()
    step()
    clock = CLOCKS[options.clock]
    pairs = [(seconds(evaluations, clock), seconds(step, clock)) for _ in range(options.rounds)]
    network_time, step_time = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"two evaluations        {network_time * 1e3:10.2f} ms   (batch {options.batch})")
    print(f"a step without them    {step_time * 1e3:10.2f} ms")
    print(f"overhead               {100 * step_time / network_time:10.2f} %")


if __name__ == "__main__":
    main()
