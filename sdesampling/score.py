"""A network together with the SDE it was trained for: the score that samplers ask for.

Here live the conventions by which a network is asked: which label belongs to a time, and how its output
becomes a score. Samplers know none of them, and nothing here knows a sampler.
"""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from sdesampling.choices import one_of
from sdesampling.sde import SDE, VE, VP, per_sample

Labels = Literal["interpolated", "half", "rounded"]
Precision = Literal["float32", "bfloat16"]


class SettablePrecision(Protocol):
    """A network whose layers can be brought to another precision, while inputs and outputs keep theirs."""

    def set_precision(self, dtype: torch.dtype) -> None: ...


class PrecisionError(ValueError):
    """A network cannot be evaluated in a precision."""


class ScoreModel:
    """score(x, t) of a network, in the conventions of the score_sde code.

    network: called with x, (batch, channels, height, width), and labels, (batch,); the result is shaped as x.
        VE networks return the score, VP and sub-VP networks the noise: score = -output / std.
    shape: (channels, height, width) of one image.
    continuous: trained on times in [0, 1] rather than on discrete scales. Labels are then sigma(t) for VE and
        999 t for VP; otherwise the index of the scale, counted from the largest one for VE. Sub-VP networks
        always are continuous.
    scales: number of discrete scales the network was trained on; the SDE's N unless given.
    centered: network's data are in [-1, 1] rather than [0, 1]; as usual for the SDE unless given.
    labels: what a discretely trained network is given when the SDE has another number of steps N than scales
        S: `interpolated` i (S - 1) / (N - 1), which keeps label and noise level together, `half` i S / N, or
        `rounded`, the first one rounded (Song et al. 2020, tables 1 and 4).
    micro_batch: samples that pass through the network together; None: all of them.

    A network with an attribute `fractional_labels` that is false is told whole labels alone: with another
    number of steps than scales the labels must be `rounded`, and ValueError is raised where they are not.

    A network with an attribute `num_classes` that is not None is class-conditional: it is called with
    `class_labels`, int64 (batch,), too, which have to be set before it is asked.

    `evaluations` counts evaluations of the network as they happen, the micro-batches of one batch as one.
    `set_precision` brings it to bfloat16, throughout or while there is much noise.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: tuple[int, int, int],
        *,
        continuous: bool = True,
        scales: int | None = None,
        centered: bool | None = None,
        labels: Labels = "interpolated",
        micro_batch: int | None = None,
    ) -> None:
        one_of("labels", labels, get_args(Labels))
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch = {micro_batch}: must be at least 1, or None for whole batches")
        if not continuous and not isinstance(sde, VE | VP):
            raise ValueError(f"{sde.family}: only VE and VP have discretely trained networks")
        if not continuous:
            sde.check_discretisation()
        known = sde.N if scales is None else scales
        if not (continuous or known == sde.N or labels == "rounded" or takes_fractions(network)):
            raise ValueError(
                f"{sde.N} noise scales: the network was trained on {known} and can be told no other ones; "
                "take as many, or in predictor-corrector sampling labels 'rounded'"
            )
        self.network = network.eval()
        self.sde = sde
        self.shape = shape
        self.continuous = continuous
        self.scales = known
        self.centered = sde.centered if centered is None else centered
        self.labels: Labels = labels
        self.micro_batch = micro_batch
        self.evaluations = 0
        self.classes: int | None = getattr(network, "num_classes", None)
        self.class_labels: Tensor | None = None
        self._noisy_network: nn.Module | None = None  # in bfloat16, for noise levels from float32_below on
        self.float32_below = 0.0
        self._last_times: tuple[Tensor, Tensor] | None = None  # that times() gave, and the same on the host

    def set_precision(self, precision: Precision, float32_below: float = 0.0) -> None:
        """Evaluate the network in float32 or bfloat16; states, noise levels and scores keep their precision.

        float32_below: with bfloat16, the noise level (see `noise_level`) below which the network still is
            evaluated in float32, which needs a second copy of it; 0: nowhere.

        Raises PrecisionError where the network has no form in bfloat16, that is, no method `set_precision`.
        """
        one_of("precision", precision, get_args(Precision))
        if not hasattr(self.network, "set_precision"):
            if precision == "float32":
                return
            raise PrecisionError(
                f"{type(self.network).__name__} has no method set_precision(dtype), so it is evaluated in "
                "float32 only"
            )
        network = cast("SettablePrecision", self.network)
        self._noisy_network, self.float32_below = None, float32_below
        if precision == "bfloat16" and float32_below:
            noisy = copy.deepcopy(network)
            noisy.set_precision(torch.bfloat16)
            assert isinstance(noisy, nn.Module)  # a copy of one
            self._noisy_network = noisy
        else:
            network.set_precision(getattr(torch, precision))

    def times(self, t: float, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """One time for all samples of x, (batch,), filled on its device; in its dtype unless one is given.

        Where precision follows the noise level, evaluations at this tensor do not wait for the device to say
        what the host knows, until the next one is filled.
        """
        filled = x.new_full((len(x),), t, dtype=dtype)
        self._last_times = filled, torch.tensor([t], dtype=filled.dtype)
        return filled

    def noise_level(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at t in units of the data's range, (batch,): std / (m * range)."""
        mean_coefficient, std = self.marginal(t)
        return std / (mean_coefficient * (2 if self.centered else 1))

    def with_steps(self, steps: int, labels: Labels | None = None) -> "ScoreModel":
        """The same network on the same noise range in another number of steps; its count starts at 0."""
        labels = self.labels if labels is None else labels
        return self._like(self.sde.with_steps(steps), self.continuous, self.scales, labels)

    def at_continuous_times(self) -> "ScoreModel":
        """The same network asked as one trained in continuous time; its count starts at 0.

        Raises ValueError for discretely trained VE networks, which are told indices of scales.
        """
        if not self.continuous and isinstance(self.sde, VE):
            raise ValueError("a discretely trained VE network has no score between its scales")
        return self._like(self.sde, True, None, self.labels)

    def _like(self, sde: SDE, continuous: bool, scales: int | None, labels: Labels) -> "ScoreModel":
        other = ScoreModel(
            self.network,
            sde,
            self.shape,
            continuous=continuous,
            scales=scales,
            centered=self.centered,
            labels=labels,
            micro_batch=self.micro_batch,
        )
        other.class_labels = self.class_labels
        other._noisy_network, other.float32_below = self._noisy_network, self.float32_below
        return other

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return _first_tensor(self.network).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the states that the network is asked about: float64 where its weights are, else float32."""
        return torch.promote_types(_first_tensor(self.network).dtype, torch.float32)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of x(t) at x. x: (batch, *shape), t: (batch,) in [0, 1]."""
        output = self._evaluate(x, self.network_labels(t), self._network_at(t))
        if isinstance(self.sde, VE):
            return output
        return -output / per_sample(self.marginal(t)[1], x)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """Expected data given x(t) = x, by Tweedie's formula; one evaluation."""
        mean_coefficient, std = self.marginal(t)
        return (x + per_sample(std**2, x) * self.score(x, t)) / per_sample(mean_coefficient, x)

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean coefficient and standard deviation, (batch,) each, of the noise that the network sees at t."""
        if isinstance(self.sde, VP) and not self.continuous:
            index = self.sde.timestep(t)
            return (
                self.sde.table("sqrt_alphas_cumprod", t.device)[index],
                self.sde.table("sqrt_1m_alphas_cumprod", t.device)[index],
            )
        return self.sde.mean_coefficient(t), self.sde.std(t)

    def network_labels(self, t: Tensor) -> Tensor:
        """What the network is told about t, (batch,): int64 for discrete VE on its own scales or rounded to
        them, and for discrete VP where the network takes whole labels alone, else float.
        """
        if self.continuous:
            return self.sde.std(t) if isinstance(self.sde, VE) else t * 999
        if isinstance(self.sde, VE):
            index = torch.round((self.sde.T - t) * (self.sde.N - 1))
            return index.long() if self.scales == self.sde.N else self._trained_label(index)
        position = t * (self.sde.N - 1)
        label = position if self.scales == self.sde.N else self._trained_label(position)
        return label if takes_fractions(self.network) else torch.round(label).long()

    def _trained_label(self, position: Tensor) -> Tensor:
        """Label among the trained scales of a position in [0, N - 1] among the SDE's."""
        if self.labels == "half":
            return position * (self.scales / self.sde.N)
        label = position * (self.scales - 1) / max(self.sde.N - 1, 1)
        if self.labels != "rounded":
            return label
        return torch.round(label).long() if isinstance(self.sde, VE) else torch.round(label)

    def _network_at(self, t: Tensor) -> nn.Module:
        """The network in the precision of the noise levels of t: bfloat16 if all of them are high enough.

        Where both are in use, and t is no tensor of times(), the host waits for the answer.
        """
        if self._noisy_network is None:
            return self.network
        if self._last_times is not None and self._last_times[0] is t:
            t = self._last_times[1]
        return self._noisy_network if (self.noise_level(t) >= self.float32_below).all() else self.network

    def _evaluate(self, x: Tensor, labels: Tensor, network: nn.Module) -> Tensor:
        self.evaluations += 1
        classes = () if self.class_labels is None else (self.class_labels,)
        return in_micro_batches(network, self.micro_batch, x, labels, *classes)


def takes_fractions(network: object) -> bool:
    """Whether a network, or its factory, takes labels between those of its trained scales."""
    return bool(getattr(network, "fractional_labels", True))


def in_micro_batches(function: Callable[..., Tensor], size: int | None, *inputs: Tensor) -> Tensor:
    """Apply a function over the first dimension in pieces of a fixed size; None: all at once."""
    if size is None or len(inputs[0]) <= size:
        return function(*inputs)
    pieces = zip(*(tensor.split(size) for tensor in inputs), strict=True)
    return torch.cat([function(*piece) for piece in pieces])


def _first_tensor(module: nn.Module) -> Tensor:
    for tensor in chain(module.parameters(), module.buffers()):
        return tensor
    raise ValueError(f"{type(module).__name__} has no parameters and no buffers, so its device is unknown")
