"""The one shape of all samplers: a state machine that can be stopped, stored and continued after every step.

Knows neither networks nor noise beyond their interfaces, and nothing of files.
"""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdesampling.noise import Noise


class NonFiniteStateError(FloatingPointError):
    """A tensor of a sampler's state holds NaN or infinity."""


@dataclass(frozen=True)
class State:
    """Whole state of an unfinished group after `step` steps.

    tensors: everything the next step needs beside the noise; contiguous and without shared memory, so
        safetensors takes it as it is.
    evaluations: network evaluations made for this group so far.
    """

    step: int
    tensors: dict[str, Tensor]
    evaluations: int = 0


class Sampler(ABC):
    """Images from noise in a fixed number of steps.

    A sampler keeps no state of its own: the same state and noise give the same next state, bit for bit.
    """

    kind: str
    model: Any  # what it asks: of the model that it was built with, perhaps one with another number of steps
    steps: int  # number of calls of step()

    @abstractmethod
    def init(self, noise: Noise) -> State:
        """State before the first step, for noise.batch samples."""

    @abstractmethod
    def step(self, state: State, noise: Noise) -> State:
        """The state one step on."""

    @abstractmethod
    def finish(self, state: State) -> Tensor:
        """Images of a state, (batch, channels, height, width), nominally in [0, 1].

        Not clipped: quantisation does that. Changes nothing, so it may be called at any step.
        """

    def diagnostics(self, state: State) -> dict[str, float]:
        """What the sampler can say about its own run, by name."""
        return {}

    def chains(self, batch: int) -> Tensor:
        """Number of the Markov chain within the group that each of its images comes from, int64 (batch,)."""
        return torch.arange(batch)

    def class_labels(self, indices: range) -> Tensor | None:
        """Classes of samples, int64 (len(indices),); None where the model knows no classes."""
        return None

    def check_finite(self, state: State) -> None:
        """Raise NonFiniteStateError, naming sampler, step and tensor, if a number is not finite."""
        for name, tensor in state.tensors.items():
            if (
                tensor.is_floating_point()
                and not torch.isfinite(tensor.sum())
                and not tensor.isfinite().all()
            ):
                broken = int((~tensor.isfinite()).sum())
                raise NonFiniteStateError(
                    f"{self.kind}: after step {state.step} of {self.steps}, {broken} of {tensor.numel()} "
                    f"numbers of {name!r} are not finite; take a smaller step size or snr"
                )


class SamplerKind(Sampler):
    """A sampler that is built by the name of its kind from a model and hyper-parameters."""

    @abstractmethod
    def __init__(self, model: Any, **hyper_parameters: Any) -> None:
        """Every kind names its own hyper-parameters; the annotation of `model` says what it works on."""

    @classmethod
    @abstractmethod
    def planned_evaluations(cls, **hyper_parameters: Any) -> int:
        """Network evaluations per image from init() to the last step()."""

    @classmethod
    def hyper_parameters(cls) -> list[str]:
        """Names of all that the sampler takes beside the model."""
        return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "model")]


def run(sampler: Sampler, noise: Noise, steps: int | None = None) -> State:
    """The state after all steps, or after the first so many."""
    state = sampler.init(noise)
    for _ in range(sampler.steps if steps is None else steps):
        state = sampler.step(state, noise)
    return state
