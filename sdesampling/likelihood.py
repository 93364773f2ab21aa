"""Exact likelihoods by the probability flow: how many bits a model needs for a value of an image.

The flow carries data to the prior, and the divergence along the way tells how densities change (Song et al.
2020, section 4.3 and appendix D.2). Knows score models and noise, no sampler and no data set.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.dormand_prince import DormandPrince
from sdesampling.noise import Noise, Purpose
from sdesampling.score import ScoreModel

Trace = Literal["rademacher", "gaussian", "exact"]
EXACT_LIMIT = 1024  # values of an image up to which the trace is taken exactly: as many backward passes


class Likelihood(NamedTuple):
    """What likelihood() finds.

    bits_per_dimension: (batch,), float64.
    latents: x(1), (batch, *shape), float64.
    evaluations: of the network.
    """

    bits_per_dimension: Tensor
    latents: Tensor
    evaluations: int


def dequantise(images: Tensor, noise: Noise) -> Tensor:
    """uint8 images with uniform noise in place of what quantisation lost, (k + u) / 256, float32 in [0, 1].

    The bits of the continuous values are then an upper bound of those of the bytes (Theis et al. 2015).
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}: dequantisation wants uint8")
    return (images + noise.uniform(Purpose.DEQUANTISATION, 0, tuple(images.shape[1:]))) / 256


def likelihood(
    model: ScoreModel,
    images: Tensor,
    noise: Noise,
    *,
    trace: Trace = "rademacher",
    solver: DormandPrince | None = None,
    eps: float = 1e-5,
) -> Likelihood:
    """Bits per dimension of images, (batch, *shape), in [0, 1].

    trace: how the divergence is found: by the Hutchinson-Skilling estimator with one random probe per image,
        of signs or of normal numbers, without bias in the log-likelihood; or exactly, which takes one
        backward pass for each value of an image.
    solver: DormandPrince() unless given, whose default tolerances are those of the paper.
    eps: time at which the images are taken to be. The reference code uses 1e-5 for every SDE.

    Bits count bytes: a density per unit becomes a probability of one of 256 levels by the width of a level.
    Networks in [0, 1] have levels of 1/256, and 8 bits are added; centred ones, in [-1, 1], have levels of
    1/128, and 7 are, because the density of the same image is half as large there. The reference code writes
    this as 7 - inverse_scaler(-1). Both give the same bits for the same images.

    Raises ValueError for discretely trained VE networks, for images of another shape than the model's, and
    for exact traces of images above EXACT_LIMIT values.
    """
    one_of("trace", trace, get_args(Trace))
    if tuple(images.shape[1:]) != tuple(model.shape):
        raise ValueError(f"images are {tuple(images.shape)}: the model's are (batch, *{tuple(model.shape)})")
    dimensions = math.prod(model.shape)
    if trace == "exact" and dimensions > EXACT_LIMIT:
        raise ValueError(
            f"trace 'exact' takes a backward pass for each of {dimensions} values; the limit is "
            f"{EXACT_LIMIT}: take 'rademacher'"
        )
    if not 0 < eps < model.sde.T:
        raise ValueError(f"eps = {eps}: must be in (0, 1)")
    model = model.at_continuous_times()
    data = (images * 2 - 1 if model.centered else images).to(model.device, model.dtype)
    divergence = _divergence(trace, data, noise)

    def f(t: Tensor, y: Tensor) -> Tensor:
        x, t = y[:, :-1].to(data).view_as(data), t.to(data)
        with torch.enable_grad():
            x.requires_grad_()
            drift = model.sde.reverse(model.score, probability_flow=True).sde(x, t)[0]
            change = divergence(drift, x)
        return torch.cat([drift.detach().flatten(1), change[:, None]], dim=1).double()

    start = torch.cat([data.flatten(1), data.new_zeros(len(data), 1)], dim=1)
    with torch.no_grad():
        end = (solver or DormandPrince()).integrate(f, eps, model.sde.T, start)
    latents = end[:, :-1].view(data.shape)
    nats = -(model.sde.prior_logp(latents) + end[:, -1]) / dimensions
    return Likelihood(nats / math.log(2) + (7 if model.centered else 8), latents, model.evaluations)


def _divergence(trace: Trace, data: Tensor, noise: Noise) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (drift, x) -> divergence of the drift at x, (batch,), for x of data's shape and type."""
    if trace == "exact":
        return _exact_divergence
    shape = tuple(data.shape[1:])
    if trace == "gaussian":
        probe = noise.normal(Purpose.PROBE, 0, shape)
    else:
        probe = (noise.uniform(Purpose.PROBE, 0, shape) > 0.5) * 2.0 - 1.0
    probe = probe.to(data)

    def estimate(drift: Tensor, x: Tensor) -> Tensor:
        (product,) = torch.autograd.grad((drift * probe).sum(), x)
        return (product * probe).flatten(1).sum(dim=1)

    return estimate


def _exact_divergence(drift: Tensor, x: Tensor) -> Tensor:
    values = drift.flatten(1)
    total = torch.zeros_like(values[:, 0])
    for i in range(values.shape[1]):
        (row,) = torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)
        total = total + row.flatten(1)[:, i]
    return total
