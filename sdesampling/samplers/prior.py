"""One pass through a decoder: images of a GAN or of a VAE as they come, from draws of the prior."""

from typing import Any

from torch import Tensor

from sdesampling.latent import LatentDecoder
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import SamplerKind, State


class PriorDecoding(SamplerKind):
    """G(z) with z standard normal, in one step, which is one evaluation.

    The latents are those that `ddls` starts its chains from (with one image a chain), so that images of equal
    index can be compared. finish() of a run without its step decodes too, an evaluation that no state counts.
    """

    kind = "prior"
    steps = 1

    def __init__(self, model: LatentDecoder) -> None:
        self.model = model

    @classmethod
    def planned_evaluations(cls, **_: Any) -> int:
        return 1

    def init(self, noise: Noise) -> State:
        return State(0, {"z": noise.normal(Purpose.PRIOR, 0, (self.model.latent_dim,), self.model.dtype)})

    def step(self, state: State, noise: Noise) -> State:
        z = state.tensors["z"]
        return State(1, {"z": z, "images": self.model.images(z)}, state.evaluations + 1)

    def finish(self, state: State) -> Tensor:
        if state.step == 0:
            return self.model.images(state.tensors["z"])
        return state.tensors["images"].clone()
