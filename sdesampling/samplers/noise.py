"""The control of pure noise: images that know nothing of any data, the far end of every score."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import SamplerKind, State


@runtime_checkable
class Shaped(Protocol):
    """Anything that knows the shape of its images, such as a ScoreModel or a LatentModel."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""


class UniformNoise(SamplerKind):
    """Every value of every pixel uniform in (0, 1], images shaped as the model's; no steps."""

    kind = "noise"
    steps = 0

    def __init__(self, model: Shaped) -> None:
        self.shape = tuple(model.shape)

    @classmethod
    def planned_evaluations(cls, **_: Any) -> int:
        return 0

    def init(self, noise: Noise) -> State:
        return State(0, {"images": noise.uniform(Purpose.PRIOR, 0, self.shape)})

    def step(self, state: State, noise: Noise) -> State:
        raise ValueError("noise: there are no steps to make")

    def finish(self, state: State) -> Tensor:
        return state.tensors["images"].clone()
