"""The control of real data: images of a data set in its own order, the near end of every score."""

from typing import Any

import torch
from torch import Tensor

from sdesampling.noise import Noise
from sdesampling.samplers.base import SamplerKind, State


class RealImages(SamplerKind):
    """Sample k is image k of the data set; no steps, no evaluations.

    images: uint8 (number, channels, height, width). Finished images are a quarter of a level above k / 255,
        so that flooring and rounding both give back the byte.

    init() raises ValueError where more samples are asked for than there are images: a control with duplicates
    would mislead.
    """

    kind = "real"
    steps = 0

    def __init__(self, model: Tensor) -> None:
        if model.dtype != torch.uint8 or model.dim() != 4:
            raise ValueError(
                f"real: the data set is {model.dtype} of shape {tuple(model.shape)}; it must be uint8 of "
                "shape (number, channels, height, width)"
            )
        self.images = model

    @classmethod
    def planned_evaluations(cls, **_: Any) -> int:
        return 0

    def init(self, noise: Noise) -> State:
        indices = torch.tensor(list(noise.indices))
        if int(indices.max()) >= len(self.images):
            raise ValueError(
                f"real: sample {int(indices.max())} was asked for, but the data set has "
                f"{len(self.images)} images; take at most {len(self.images)} samples"
            )
        return State(0, {"images": self.images[indices.to(self.images.device)]})

    def step(self, state: State, noise: Noise) -> State:
        raise ValueError("real: there are no steps to make")

    def finish(self, state: State) -> Tensor:
        return (state.tensors["images"].float() + 0.25) / 255
