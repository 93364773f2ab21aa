"""How much memory the evaluation of a network needs beside its weights.

Measured by following every tensor that is made while one image passes through, so it is the same on every
machine. Apart from the score model because it is asked once, before any work. Knows no devices but the CPU.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdesampling.score import ScoreModel


class PeakMemory(TorchDispatchMode):
    """Inside `with PeakMemory() as memory:`, memory.peak is the most bytes that new tensors held at once.

    What operations need inside themselves is not seen. Storages live as long as a tensor refers to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}  # address of a storage's object -> bytes
        self._held = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        known = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if _is_tensor(each)}
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if _is_tensor(each) and each.untyped_storage()._cdata not in known:
                self._follow(each)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._live:
            self._live[key] = storage.nbytes()
            self._held += storage.nbytes()
            self.peak = max(self.peak, self._held)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._held -= self._live.pop(key)


@torch.no_grad()
def activation_bytes(model: ScoreModel) -> int:
    """Peak bytes of one image's way through the network, on a CPU: activations, without weights.

    Two images take twice as much but for the embedding of the labels, which is small.
    """
    x = torch.rand(1, *model.shape, dtype=model.dtype)
    t = torch.full((1,), model.sde.T, dtype=model.dtype)
    evaluations, classes = model.evaluations, model.class_labels
    if model.classes is not None:
        model.class_labels = torch.zeros(1, dtype=torch.int64)  # any: all take as much
    model.score(x, t)  # once before, so that what is kept for good is not counted
    with PeakMemory() as memory:
        model.score(x, t)
    model.evaluations, model.class_labels = evaluations, classes
    return memory.peak


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
