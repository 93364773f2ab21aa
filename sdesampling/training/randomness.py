"""Randomness of training, keyed by (seed, step), so that no generator state needs storing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

INITIALISATION = 2**32 - 1  # the step under which a network's first weights are drawn
EVALUATION = 2**32 - 2  # the step under which a finished network is judged
_GOLDEN = 0x9E3779B1  # 2**32 / golden ratio: keeps seeds apart in the 32 bits that torch's generator heeds


@contextmanager
def keyed_randomness(seed: int, step: int) -> Iterator[None]:
    """Within it all of torch's draws, dropout included, depend on (seed, step) alone.

    Args:
        seed: 0 to 2**31 - 1.
        step: 0 to 2**32 - 1.
    """
    if not (0 <= seed < 2**31 and 0 <= step < 2**32):
        raise ValueError(f"seed = {seed}, step = {step}: must be at least 0 and below 2**31 and 2**32")
    with torch.random.fork_rng():
        torch.manual_seed((seed * _GOLDEN + step) % 2**32)
        yield
