"""Bits per dimension of a data set, in parts that are kept in the store, so that the work can be stopped.

A part is a group of images in one pass; what it holds is a function of the request alone, so parts may be
made by several processes and in any order. Knows no command line.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs import fingerprint as hashing
from jobs.inputs.sources import Dataset
from jobs.paths import StorePaths
from jobs.planning.plan import groups
from jobs.specs.configuration import Model
from jobs.specs.sections import Count, Digest, Positive, PositiveInt, Section
from jobs.store import Store
from sdesampling.dormand_prince import DormandPrince
from sdesampling.likelihood import EXACT_LIMIT, Trace, dequantise, likelihood
from sdesampling.noise import NoiseStream
from sdesampling.score import ScoreModel


class UnfitError(ValueError):
    """What was asked cannot be computed; the message says why and what can."""


class LikelihoodRequest(Section):
    """Everything that decides the bits."""

    model: Model
    content: Digest  # of the data set's images
    images: PositiveInt  # the first so many of it
    passes: PositiveInt = 1  # each with other noise of dequantisation and another probe
    trace: Trace = "rademacher"
    rtol: Positive = 1e-5
    atol: Positive = 1e-5
    error_norm: Literal["group", "sample"] = "group"
    eps: Positive = 1e-5
    seed: Count = 0
    group_size: PositiveInt = 64

    @property
    def fingerprint(self) -> str:
        """Names the folder of the parts; neither images nor passes are in it, so more can be added."""
        content = self.model_dump(mode="json", exclude={"model", "images", "passes"})
        return hashing.fingerprint({"kind": "likelihood", "model": self.model.identity, **content})

    @property
    def parts(self) -> list[tuple[int, range]]:
        """Number of the pass and images of every part."""
        found = list(groups(range(self.images), self.group_size))
        return [(number, group) for number in range(self.passes) for group in found]


class Part(BaseModel):
    """What is kept of a part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: tuple[float, ...]  # per dimension, of each image
    evaluations: int  # of the network, for the whole group
    seconds: float
    made_by: str  # device and torch


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of a data set.

    mean, standard_error: over images, each image the mean of its passes.
    passes: means of each pass.
    evaluations: of the network, mean over groups.
    made_by: devices and versions; more than one: mixed.
    """

    mean: float
    standard_error: float | None  # None for one image
    passes: tuple[float, ...]
    images: int
    evaluations: float
    seconds: float
    made_by: tuple[str, ...]


def check_request(request: LikelihoodRequest, shape: tuple[int, ...]) -> None:
    """Raise UnfitError for models without an exact likelihood, images of another shape, too many values."""
    model = request.model
    if model.family != "score":
        raise UnfitError(f"{model.name} is no score model: only those have a likelihood by the flow")
    if model.sde == "ve" and model.continuous is False:
        raise UnfitError(
            f"{model.name} knows {model.scales} noise scales alone, and the flow needs scores between them; "
            "take a model trained in continuous time"
        )
    if model.classes is not None:
        raise UnfitError(f"{model.name} is class-conditional: bits without its classes are not defined")
    if model.shape != shape:
        raise UnfitError(f"the images are {shape}, and those of {model.name} {model.shape}")
    dimensions = int(np.prod(shape))
    if request.trace == "exact" and dimensions > EXACT_LIMIT:
        raise UnfitError(
            f"trace exact takes a backward pass for each of {dimensions:,} values, and the limit is "
            f"{EXACT_LIMIT:,}; take rademacher"
        )
    if not request.eps < 1:
        raise UnfitError(f"eps {request.eps:g}: must be below 1, the time of the prior")


def missing_parts(store: Store, request: LikelihoodRequest) -> list[tuple[int, range]]:
    """The parts that the store does not have."""
    return [part for part in request.parts if store.size(_name(request, part)) is None]


def make_parts(
    store: Store,
    request: LikelihoodRequest,
    parts: Sequence[tuple[int, range]],
    model: ScoreModel,
    data: Dataset,
    done: Callable[[int], None],
) -> None:
    """Compute parts and keep each as soon as it is there. done: told how many images are."""
    solver = DormandPrince(request.rtol, request.atol, request.error_norm)
    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    for number, group in parts:
        began = time.perf_counter()
        noise = NoiseStream(request.seed, number, group, device)
        images = torch.from_numpy(data.images[group.start : group.stop]).to(device)
        found = likelihood(
            model, dequantise(images, noise), noise, trace=request.trace, solver=solver, eps=request.eps
        )
        part = Part(
            bits=tuple(found.bits_per_dimension.tolist()),
            evaluations=found.evaluations,
            seconds=time.perf_counter() - began,
            made_by=f"{name}, torch {torch.__version__}",
        )
        store.put_if_absent(_name(request, (number, group)), part.model_dump_json().encode())
        done(len(group))


def gather(store: Store, request: LikelihoodRequest) -> Bits:
    """The result of all parts.

    Raises FileNotFoundError when some are missing, and UnfitError when one is damaged.
    """
    bits = np.empty((request.passes, request.images))
    parts = []
    for (number, group), part in _read(store, request):
        if len(part.bits) != len(group) or not np.isfinite(part.bits).all():
            raise UnfitError(
                f"{_name(request, (number, group))} does not hold {len(group)} finite numbers: delete it"
            )
        bits[number, group.start : group.stop] = part.bits
        parts.append(part)
    each = bits.mean(axis=0)
    return Bits(
        mean=float(each.mean()),
        standard_error=float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else None,
        passes=tuple(bits.mean(axis=1).tolist()),
        images=request.images,
        evaluations=float(np.mean([part.evaluations for part in parts])),
        seconds=sum(part.seconds for part in parts),
        made_by=tuple(sorted({part.made_by for part in parts})),
    )


def _read(store: Store, request: LikelihoodRequest) -> Iterator[tuple[tuple[int, range], Part]]:
    for key in request.parts:
        name = _name(request, key)
        try:
            yield key, Part.model_validate_json(store.get(name))
        except ValidationError as error:
            raise UnfitError(f"{name} is damaged ({error.errors()[0]['msg']}): delete it") from None


def _name(request: LikelihoodRequest, part: tuple[int, range]) -> str:
    return StorePaths().likelihood(request.fingerprint, *part)
