"""What a sampler refuses when it is built, asked before there are weights.

A module of its own because it needs PyTorch, which takes seconds, where all other checks of a spec need none.
It must not say what is right: that is the sampler's matter.
"""

from __future__ import annotations

import functools

from jobs.specs.configuration import Model
from jobs.specs.samplers import Sampler


def refusal(sampler: Sampler, model: Model) -> str:
    """Why a sampler cannot be built on a score model; empty where it can, and for other models."""
    if model.family != "score" or model.shape is None or model.sde is None or sampler.kind == "noise":
        return ""
    smallest, largest = model.sigmas or (model.beta_min, model.beta_max)
    if smallest is None or largest is None:
        return ""
    sde = (model.sde, smallest, largest, model.scales or 1000)
    return _refusal(sampler, sde, model.shape, bool(model.continuous), model.fractional_labels)


@functools.lru_cache(maxsize=1024)
def _refusal(
    sampler: Sampler,
    sde: tuple[str, float, float, int],
    shape: tuple[int, int, int],
    continuous: bool,
    fractional_labels: bool,
) -> str:
    """The same for a model with these properties, tried with a network of no meaning."""
    import torch

    from sdesampling.samplers import build_sampler
    from sdesampling.score import ScoreModel
    from sdesampling.sde import SDES

    class NeverAsked(torch.nn.Linear):
        """Stands where a network goes whose weights do not matter."""

        fractional_labels: bool

    network = NeverAsked(1, 1)
    network.fractional_labels = fractional_labels
    hyper_parameters = sampler.model_dump()
    for name, size in (("images", (1, *shape)), ("known", shape)):
        if name in hyper_parameters:
            hyper_parameters[name] = torch.zeros(size)
    family, smallest, largest, N = sde
    try:
        score = ScoreModel(network, SDES[family](smallest, largest, N), shape, continuous=continuous)
        build_sampler(model=score, **hyper_parameters)
    except ValueError as error:
        return str(error)
    return ""
