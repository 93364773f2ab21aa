"""Calibration of a discriminator: one logistic layer, fitted where real and generated images are told apart.

Latent Langevin dynamics needs the logit log p_data - log p_generator. A discriminator trained with a hinge,
a least-squares or a Wasserstein loss gives another number, and so does one that was trained too long or not
long enough. Knows a GAN and tensors of images, no sampler and no files.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sdesampling.latent import LatentModel
from sdesampling.noise import Noise, Purpose
from sdesampling.score import in_micro_batches

ITERATIONS = 100
CONVERGED = 1e-10  # of the gradient, for logits of unit variance


class Calibration(NamedTuple):
    """The logit is slope * d + intercept, where d is the discriminator's output.

    real, generated: numbers of images that it was fitted on.
    log_loss_before, log_loss: of telling them apart, nats an image, each kind with half the weight: by d and
        by the calibrated logit. log 2 = 0.69 is what guessing gives.
    """

    slope: float
    intercept: float
    real: int
    generated: int
    log_loss_before: float
    log_loss: float


def calibrate(
    model: LatentModel, images: Tensor, noise: Noise, classes: tuple[Tensor, Tensor] | None = None
) -> Calibration:
    """The calibration of a GAN's discriminator (Che et al. 2020, section 4.3; Platt 1999).

    images: real ones, uint8 (count, *shape), that neither the GAN was trained on nor its samples will be
        scored against.
    noise: one generated image for each of its samples.
    classes: of a class-conditional GAN, int64: those of the real images, and those to generate.

    Raises ValueError for images of another kind or shape, and where the discriminator gives all the same.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(model.shape):
        raise ValueError(
            f"calibration: images are {images.dtype} {tuple(images.shape)}, and must be uint8 "
            f"(count, *{tuple(model.shape)})"
        )
    with torch.no_grad():
        z = noise.normal(Purpose.CALIBRATION, 0, (model.latent_dim,), model.dtype)
        of_real, of_generated = ((), ()) if classes is None else ((classes[0],), (classes[1],))
        output = model.generator(z[:1], *(each[:1] for each in of_generated))  # as discriminators take it
        real = images.to(z) / 255
        real = (real * 2 - 1 if model.centered else real).reshape(len(images), *output.shape[1:])
        real_outputs = in_micro_batches(model.discriminator, model.micro_batch, real, *of_real).flatten()
        generated_outputs = in_micro_batches(model.logit, model.micro_batch, z, *of_generated)
    return fit(real_outputs, generated_outputs)


def fit(real: Tensor, generated: Tensor) -> Calibration:
    """The logistic layer for outputs (count,) of real and of generated images.

    By Newton's method in float64. Both kinds weigh the same, whatever their numbers, and targets are Platt's
    (n + 1) / (n + 2), so that the slope stays finite where the two kinds do not overlap.
    """
    outputs = torch.cat([real, generated]).double()
    spread, centre = outputs.std(), outputs.mean()
    if not (spread > 0 and spread.isfinite()):
        raise ValueError("calibration: the discriminator gives all images the same, or none a finite number")
    counts = (len(real), len(generated))
    weight = torch.cat([torch.full((n,), 0.5 / n) for n in counts]).to(outputs)
    target = torch.cat(
        [
            torch.full((counts[0],), (counts[0] + 1) / (counts[0] + 2)),
            torch.full((counts[1],), 1 / (counts[1] + 2)),
        ]
    ).to(outputs)
    design = torch.stack([(outputs - centre) / spread, torch.ones_like(outputs)], dim=1)
    slope, intercept = (
        _newton(design, target, weight) / torch.stack([spread, torch.ones_like(spread)])
    ).tolist()
    intercept -= slope * float(centre)

    def loss(logits: Tensor) -> float:
        signs = torch.cat([-torch.ones(counts[0]), torch.ones(counts[1])]).to(outputs)
        return float((weight * softplus(signs * logits)).sum())

    return Calibration(slope, intercept, *counts, loss(outputs), loss(slope * outputs + intercept))


def _newton(design: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weights (2,) of a logistic regression; steps are halved while they do not lower the loss."""

    def loss(parameters: Tensor) -> Tensor:
        logits = design @ parameters
        return (weight * (softplus(logits) - target * logits)).sum()

    parameters = design.new_zeros(2)
    for _ in range(ITERATIONS):
        probability = torch.sigmoid(design @ parameters)
        gradient = design.T @ (weight * (probability - target))
        if gradient.abs().max() < CONVERGED:
            break
        curvature = design.T @ (design * (weight * probability * (1 - probability))[:, None])
        step = torch.linalg.solve(curvature, gradient)
        while loss(parameters - step) > loss(parameters) and step.abs().max() > CONVERGED:
            step = step / 2
        parameters = parameters - step
    return parameters
