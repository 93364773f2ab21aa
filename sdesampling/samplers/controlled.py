"""Images from parts of them: inpainting and colourisation with an unconditional score model.

After every update what is known of an image takes the values that the forward SDE would give it (Song et al.
2020, section 5 and appendix I; Song & Ermon 2019, algorithm 2). Knows score models and noise, no files.
"""

from abc import abstractmethod
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.annealed_langevin import AnnealedLangevinDynamics
from sdesampling.samplers.base import SamplerKind, State
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


class Observations:
    """The images that are known in part: sample k is made from image k, counted round and round.

    images: (count, *shape) uint8, or floating-point in [0, 1]. Bytes are taken a quarter of a level higher,
        so that flooring and rounding of what stays known both give them back.

    Raises ValueError for another shape than the model's, for none at all, and for values outside [0, 1].
    """

    def __init__(self, model: ScoreModel, images: Tensor) -> None:
        if images.dim() != 4 or tuple(images.shape[1:]) != tuple(model.shape) or len(images) == 0:
            raise ValueError(
                f"images are {tuple(images.shape)}: the model's are (batch, *{tuple(model.shape)})"
            )
        if images.is_floating_point() and not ((images >= 0) & (images <= 1)).all():
            raise ValueError(
                f"images have values from {images.min():g} to {images.max():g}: must be in [0, 1], or uint8"
            )
        self.model = model
        self.images = images

    def of(self, noise: Noise) -> Tensor:
        """Data of a group's samples in the network's range, (batch, *shape)."""
        chosen = torch.tensor(list(noise.indices)) % len(self.images)
        found = self.images[chosen.to(self.images.device)].to(self.model.device)
        if found.dtype == torch.uint8:
            found = (found.to(self.model.dtype) + 0.25) / 255
        return found * 2 - 1 if self.model.centered else found


class Controlled(SamplerKind):
    """Predictor-corrector sampling of images of which a part is known; subclasses say which.

    images: see Observations.
    denoise: `known` leaves the last noise out of the known part alone, as the reference code does, `all` of
        the whole image, `none` of nothing.
    hyper_parameters: those of PredictorCorrector but `denoise`.

    The noise of the known part is drawn twice a step, after the corrector's place and after the predictor's,
    whether or not they are there, as the reference code does.
    """

    mask: Tensor  # 1 where coordinates are known, 0 elsewhere, broadcast to an image

    def __init__(
        self, model: ScoreModel, images: Tensor, denoise: Denoise, hyper_parameters: dict[str, Any]
    ) -> None:
        one_of("denoise", denoise, get_args(Denoise))
        self.sampler = PredictorCorrector(model, denoise=False, **hyper_parameters)
        self.model = self.sampler.model
        self.steps = self.sampler.steps
        self.observations = Observations(self.model, images)
        self.denoise = denoise

    @abstractmethod
    def into(self, x: Tensor) -> Tensor:
        """Images (batch, *shape) in the coordinates of the mask."""

    @abstractmethod
    def back(self, x: Tensor) -> Tensor:
        """The inverse of into()."""

    @classmethod
    def hyper_parameters(cls) -> list[str]:
        own = [name for name in super().hyper_parameters() if name != "hyper_parameters"]
        return own + [name for name in PredictorCorrector.hyper_parameters() if name not in own]

    @classmethod
    def planned_evaluations(cls, **hyper_parameters: Any) -> int:
        return PredictorCorrector.planned_evaluations(**{**hyper_parameters, "denoise": False})

    def init(self, noise: Noise) -> State:
        z = noise.normal(Purpose.PRIOR, 0, self.model.shape, self.model.dtype)
        known = self.into(self.observations.of(noise))
        start = self.into(self.model.sde.prior_sampling(z) * (1 - self.mask))
        x = self.back(known * self.mask + start)
        return State(0, {"x": x, "x_mean": x.clone(), "known": known})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        x, known, i, sampler = state.tensors["x"], state.tensors["known"], state.step, self.sampler
        shape, dtype = self.model.shape, x.dtype
        t, x_mean = sampler.time(i, x), x
        if sampler.corrector is not None:
            for j in range(sampler.corrector_steps):
                z = noise.normal(Purpose.CORRECTOR, i * sampler.corrector_steps + j, shape, dtype)
                x, x_mean = sampler.corrector.update(self.model, x, t, z)
        z = noise.normal(Purpose.MASKING_CORRECTOR, i, shape, dtype)
        x, x_mean = self._with_known(known, x, x_mean, t, z)
        if sampler.predictor is not None:
            z = noise.normal(Purpose.PREDICTOR, i, shape, dtype)
            x, x_mean = sampler.predictor.update(self.model, x, t, z)
        z = noise.normal(Purpose.MASKING_PREDICTOR, i, shape, dtype)
        x, x_mean = self._with_known(known, x, x_mean, t, z)
        evaluations = state.evaluations + self.model.evaluations - before
        return State(state.step + 1, {"x": x, "x_mean": x_mean, "known": known}, evaluations)

    def finish(self, state: State) -> Tensor:
        images = state.tensors["x" if self.denoise == "none" else "x_mean"]
        return (images + 1) / 2 if self.model.centered else images.clone()

    def _with_known(
        self, known: Tensor, x: Tensor, x_mean: Tensor, t: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x and its mean after the known part was put in its place, with and without noise of time t."""
        mean, std = self.model.sde.marginal_prob(known, t)
        noisy = mean + z * per_sample(std, x)
        x = self.back(self.into(x) * (1 - self.mask) + noisy * self.mask)
        unknown = x_mean if self.denoise == "all" else x
        return x, self.back(self.into(unknown) * (1 - self.mask) + mean * self.mask)


class Inpainting(Controlled):
    """Images where a mask is 0; where it is 1 they stay. Other arguments: see Controlled.

    known: the mask, of 0 and 1, broadcast to an image: any region, such as a half.

    Raises ValueError for another shape than the model's, and for masks of other values.
    """

    kind = "inpainting"

    def __init__(
        self,
        model: ScoreModel,
        *,
        images: Tensor,
        known: Tensor,
        denoise: Denoise = "known",
        **hyper_parameters: Any,
    ) -> None:
        super().__init__(model, images, denoise, hyper_parameters)
        self.mask = binary_mask(self.model, known)

    def into(self, x: Tensor) -> Tensor:
        return x

    def back(self, x: Tensor) -> Tensor:
        return x


class Colourisation(Controlled):
    """Colours of images of three channels, of which the mean over the channels, their grey, is known.

    Other arguments: see Controlled. Raises ValueError for models of other numbers of channels.
    """

    kind = "colourisation"

    def __init__(
        self, model: ScoreModel, *, images: Tensor, denoise: Denoise = "known", **hyper_parameters: Any
    ) -> None:
        super().__init__(model, images, denoise, hyper_parameters)
        if model.shape[0] != 3:
            raise ValueError(
                f"colourisation needs three channels, and the model's images have {model.shape[0]}"
            )
        axes = torch.tensor(COLOUR_AXES).to(self.model.device, self.model.dtype)
        self.axes, self.inverse = axes, torch.inverse(axes)
        self.mask = axes.new_tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)

    def into(self, x: Tensor) -> Tensor:
        return torch.einsum("bihw,ij->bjhw", x, self.axes).contiguous()

    def back(self, x: Tensor) -> Tensor:
        return torch.einsum("bihw,ij->bjhw", x, self.inverse).contiguous()


class AnnealedLangevinInpainting(AnnealedLangevinDynamics):
    """Inpainting by annealed Langevin dynamics (Song & Ermon 2019, algorithm 2).

    At the beginning of a level the known part gets noise of that level, once, and is put back after every
    step. It keeps the noise of the last level, as in the released code, unless `denoise`.

    images: see Observations. known: see Inpainting. Others: see AnnealedLangevinDynamics.
    """

    kind = "annealed_langevin_inpainting"

    def __init__(self, model: ScoreModel, *, images: Tensor, known: Tensor, **hyper_parameters: Any) -> None:
        super().__init__(model, **hyper_parameters)
        self.observations = Observations(self.model, images)
        self.mask = binary_mask(self.model, known)

    @classmethod
    def hyper_parameters(cls) -> list[str]:
        return ["images", "known", *AnnealedLangevinDynamics.hyper_parameters()]

    def init(self, noise: Noise) -> State:
        known = self.observations.of(noise)
        x = super().init(noise).tensors["x"]
        return State(0, {"x": x, "known": known, "noisy": known.clone()})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        x, known, noisy = (state.tensors[name] for name in ("x", "known", "noisy"))
        level, within = divmod(state.step, self.steps_per_level)
        if within == 0:
            z = noise.normal(Purpose.MASKING_CORRECTOR, level, self.model.shape, x.dtype)
            noisy = known + self.sigmas[level] * z
            x = self._with(noisy, x)
        following = super().step(State(state.step, {"x": x}, state.evaluations), noise)
        tensors = {"x": self._with(noisy, following.tensors["x"]), "known": known, "noisy": noisy}
        if "denoised" in following.tensors:
            tensors["denoised"] = self._with(known, following.tensors["denoised"])
        return State(following.step, tensors, following.evaluations)

    def finish(self, state: State) -> Tensor:
        images = super().finish(state)
        if not self.denoise or state.step == 0:
            return images
        known = state.tensors["known"]
        return self._with((known + 1) / 2 if self.model.centered else known, images)

    def _with(self, known: Tensor, x: Tensor) -> Tensor:
        return x * (1 - self.mask) + known * self.mask


def binary_mask(model: ScoreModel, known: Tensor) -> Tensor:
    """A mask as numbers of the model's kind. Raises ValueError for values other than 0 and 1."""
    if not ((known == 0) | (known == 1)).all():
        raise ValueError("mask: must be 1 where the image is known and 0 elsewhere")
    mask = known.to(model.device, model.dtype)
    try:
        torch.broadcast_to(mask, (1, *model.shape))
    except RuntimeError as error:
        raise ValueError(f"mask: {tuple(known.shape)} is not the shape of {tuple(model.shape)}") from error
    return mask
