"""Images from parts of them: inpainting and colourisation with an unconditional score model.

Predictor-corrector sampling in which, after every update, what is known of an image takes the values that
the forward SDE would give it (Song et al. 2020, section 5 and appendix I). Knows score models and noise, no
files.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import Sampler, State
from sdesampling.samplers.predictor_corrector import PredictorCorrector
from sdesampling.score import ScoreModel
from sdesampling.sde import per_sample

Denoise = Literal["known", "all", "none"]

# Grey, orthonormal to two axes of colour, to the digits of the reference code.
COLOUR_AXES = (
    (5.7735014e-01, -8.1649649e-01, 4.7008697e-08),
    (5.7735026e-01, 4.0824834e-01, 7.0710671e-01),
    (5.7735026e-01, 4.0824822e-01, -7.0710683e-01),
)


class Known(NamedTuple):
    """What is known: values times mask, in coordinates that `into` leads to and `back` from.

    values: data in the network's range, in those coordinates, (batch, *shape).
    mask: 1 where they are known, 0 elsewhere, broadcast to the values.
    """

    values: Tensor
    mask: Tensor
    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


class Controlled(Sampler):
    """Predictor-corrector sampling of images of which a part is known; see inpainting() and colourisation().

    hyper_parameters: those of PredictorCorrector but `denoise`.
    denoise: `known` leaves the last noise out of the known part alone, as the reference code does, `all` of
        the whole image, `none` of nothing.

    The noise of the known part is drawn twice a step, after the corrector's place and after the predictor's,
    whether or not they are there, as the reference code does.
    """

    kind = "controlled"

    def __init__(
        self, model: ScoreModel, known: Known, *, denoise: Denoise = "known", **hyper_parameters: Any
    ) -> None:
        one_of("denoise", denoise, get_args(Denoise))
        self.sampler = PredictorCorrector(model, denoise=False, **hyper_parameters)
        self.model = self.sampler.model
        self.steps = self.sampler.steps
        self.known = known
        self.denoise = denoise

    @classmethod
    def planned_evaluations(cls, **hyper_parameters: Any) -> int:
        return PredictorCorrector.planned_evaluations(**{**hyper_parameters, "denoise": False})

    def init(self, noise: Noise) -> State:
        z = noise.normal(Purpose.PRIOR, 0, self.model.shape)
        if noise.batch != len(self.known.values):
            raise ValueError(
                f"{noise.batch} samples, but {len(self.known.values)} images known in part: must be as many"
            )
        start = self.known.into(self.model.sde.prior_sampling(z) * (1 - self.known.mask))
        x = self.known.back(self.known.values * self.known.mask + start)
        return State(0, {"x": x, "x_mean": x.clone()})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        x, i, shape, sampler = state.tensors["x"], state.step, self.model.shape, self.sampler
        t, x_mean = sampler.times[i].to(x).expand(len(x)), x
        if sampler.corrector is not None:
            for j in range(sampler.corrector_steps):
                z = noise.normal(Purpose.CORRECTOR, i * sampler.corrector_steps + j, shape)
                x, x_mean = sampler.corrector.update(self.model, x, t, z)
        x, x_mean = self._with_known(x, x_mean, t, noise, Purpose.MASKING_CORRECTOR, i)
        if sampler.predictor is not None:
            z = noise.normal(Purpose.PREDICTOR, i, shape)
            x, x_mean = sampler.predictor.update(self.model, x, t, z)
        x, x_mean = self._with_known(x, x_mean, t, noise, Purpose.MASKING_PREDICTOR, i)
        evaluations = state.evaluations + self.model.evaluations - before
        return State(state.step + 1, {"x": x, "x_mean": x_mean}, evaluations)

    def finish(self, state: State) -> Tensor:
        images = state.tensors["x" if self.denoise == "none" else "x_mean"]
        return (images + 1) / 2 if self.model.centered else images.clone()

    def _with_known(
        self, x: Tensor, x_mean: Tensor, t: Tensor, noise: Noise, purpose: Purpose, step: int
    ) -> tuple[Tensor, Tensor]:
        """x and its mean after the known part was put in its place, with and without noise of time t."""
        values, mask, into, back = self.known
        mean, std = self.model.sde.marginal_prob(values, t)
        noisy = mean + noise.normal(purpose, step, self.model.shape) * per_sample(std, x)
        x = back(into(x) * (1 - mask) + noisy * mask)
        unknown = x_mean if self.denoise == "all" else x
        return x, back(into(unknown) * (1 - mask) + mean * mask)


def inpainting(model: ScoreModel, images: Tensor, mask: Tensor, **hyper_parameters: Any) -> Controlled:
    """A sampler of the images, (batch, *shape) in [0, 1], where the mask is 0; where it is 1 they stay.

    mask: of 0 and 1, broadcast to the images: any region, such as a half. Samples belong to images by their
        place in the batch. hyper_parameters: see Controlled.

    Raises ValueError for another shape than the model's, and for masks of other values.
    """
    data = _data(model, images)
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask: must be 1 where the image is known and 0 elsewhere")
    known = Known(data, mask.to(data), lambda x: x, lambda x: x)
    return Controlled(model, known, **hyper_parameters)


def colourisation(model: ScoreModel, grey: Tensor, **hyper_parameters: Any) -> Controlled:
    """A sampler of coloured images of grey ones, (batch, 3, height, width) in [0, 1] with equal channels.

    hyper_parameters: see Controlled. Raises ValueError for another shape than the model's, and for other
    numbers of channels than three.
    """
    data = _data(model, grey)
    if model.shape[0] != 3:
        raise ValueError(f"colourisation needs three channels, and the model's images have {model.shape[0]}")
    axes = torch.tensor(COLOUR_AXES).to(data)
    inverse = torch.inverse(axes)

    def into(x: Tensor) -> Tensor:
        return torch.einsum("bihw,ij->bjhw", x, axes)

    def back(x: Tensor) -> Tensor:
        return torch.einsum("bihw,ij->bjhw", x, inverse)

    mask = torch.tensor([1.0, 0.0, 0.0]).to(data).view(1, 3, 1, 1)
    return Controlled(model, Known(into(data), mask, into, back), **hyper_parameters)


def _data(model: ScoreModel, images: Tensor) -> Tensor:
    if tuple(images.shape[1:]) != tuple(model.shape):
        raise ValueError(f"images are {tuple(images.shape)}: the model's are (batch, *{tuple(model.shape)})")
    return images * 2 - 1 if model.centered else images
