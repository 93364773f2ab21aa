"""A step hands work to the device and asks nothing of it, so that a GPU is never idle for want of work.

Tensors on the device `meta` have no numbers, so asking for one is an error; and a transfer from the host to
the device, which makes the host wait as well, is seen by its operation.
"""

import copy
from typing import Any

import pytest
import torch
from test_resume import CASES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdesampling.noise import NoiseStream
from sdesampling.samplers import build_sampler

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


def on_meta(name):
    """The sampler of a case with its model on the device, and its noise there."""
    model, hyper = copy.deepcopy(CASES[name])
    kind = name.rsplit("-", 1)[0]
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


@pytest.mark.parametrize("name", sorted(ADAPTIVE))
def test_what_chooses_its_steps_asks(name):
    """So the device `meta` does tell."""
    sampler, noise = on_meta(name)
    state = sampler.init(noise)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        sampler.step(state, noise)
