"""A step hands work to the device and asks nothing of it, so that a GPU is never idle for want of work.

Tensors on the device `meta` have no numbers, so asking for one is an error; and a transfer from the host to
the device, which makes the host wait as well, is seen by its operation.
"""

import copy
from typing import Any

import pytest
import torch
from test_resume import CASES
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler
from sdesampling.score import ScoreModel

ADAPTIVE = {"ode-0", "ode-1", "dpm_solver-2"}  # they ask how far they are
META = torch.device("meta")


class NoTransfers(TorchDispatchMode):
    """Raises where an operation brings numbers from one device to another."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if len({each.device for each in (*given, *made)}) > 1:
            raise AssertionError(f"{func} brings numbers from one device to another")
        return result


class OfTwoPrecisions(nn.Module):
    """A network that keeps in `asked`, for all copies of it, in which precision it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked = set()
        self.precision = torch.float32

    def __deepcopy__(self, memo):
        other = OfTwoPrecisions()
        other.asked = self.asked
        return other

    def set_precision(self, dtype):
        self.precision = dtype

    def forward(self, x, labels):
        self.asked.add(self.precision)
        return torch.zeros_like(x)


def on_meta(name, network=None, float32_below=0.0):
    """The sampler of a case with its model on the device, and its noise there.

    network: in place of the case's own, in bfloat16 down to float32_below.
    """
    model, hyper = copy.deepcopy(CASES[name])
    kind = name.rsplit("-", 1)[0]
    if network is not None:
        model = ScoreModel(network, model.sde, model.shape)
        model.set_precision("bfloat16", float32_below)
    if isinstance(model, Tensor):
        model = model.to(META)
    for network in ("network", "generator", "discriminator"):
        if hasattr(model, network):
            getattr(model, network).to(META)
    return build_sampler(kind, model, **hyper), NoiseStream(5, 1, range(3, 9), META)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ADAPTIVE])
def test_no_step_waits_for_the_device(name):
    sampler, noise = on_meta(name)
    state = sampler.init(noise)
    if sampler.steps > 1:
        state = sampler.step(state, noise)  # brings the tables of the SDE to the device
    with NoTransfers():
        while state.step < sampler.steps:
            state = sampler.step(state, noise)


SCORED = [name for name, (model, _) in CASES.items() if isinstance(model, ScoreModel) and name != "noise-0"]


@pytest.mark.parametrize("name", [name for name in SCORED if name not in ADAPTIVE])
def test_no_step_waits_to_choose_its_precision(name):
    network = OfTwoPrecisions()
    sampler, noise = on_meta(name, network, float32_below=0.3)
    state = sampler.step(sampler.init(noise), noise)
    with NoTransfers():
        while state.step < sampler.steps:
            state = sampler.step(state, noise)
    assert network.asked == {torch.bfloat16, torch.float32}


@pytest.mark.parametrize("name", sorted(ADAPTIVE))
def test_what_chooses_its_steps_asks(name):
    """So the device `meta` does tell."""
    sampler, noise = on_meta(name)
    state = sampler.init(noise)
    with pytest.raises(RuntimeError, match="meta"):
        sampler.step(state, noise)
