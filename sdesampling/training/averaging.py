"""Exponential moving average of a network's parameters, the weights that are sampled from."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialMovingAverage:
    """A second network whose parameters follow those of the first.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten.
    Buffers, such as the running statistics of batch norm, are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay}: must be at least 0 and below 1")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move a little towards the network's present parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        move = get_ema_multi_avg_fn(decay)  # all parameters in one call: they are many and small
        move(list(self.network.parameters()), list(network.parameters()), self.updates)
        for copied, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            copied.copy_(buffer)
