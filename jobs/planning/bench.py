"""How fast a model is on this machine, by micro-batch and precision, and what a spec had best say.

Times steps of the sampler that a model is mostly used with, noise and all, as one worker makes them. It must
not know how the numbers are shown.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jobs.models.build import Source
from jobs.planning.submission import FLOAT32_BELOW
from sdesampling.latent import Decoder, LatentDecoder
from sdesampling.memory import activation_bytes
from sdesampling.networks.dilated_refinenet import DilatedRefineNet
from sdesampling.noise import NoiseStream
from sdesampling.samplers import Sampler, build_sampler, planned_evaluations
from sdesampling.score import Labels, PrecisionError, ScoreModel, takes_fractions

MICRO_BATCHES = (1, 4, 16, 64, 256)
REPEATS = 3  # timed steps, of which the median counts
PATIENCE = 5.0  # seconds that a step may take before larger micro-batches are left out
WORTH = 1.1  # how much faster bfloat16 must be to be proposed
ENOUGH = 0.95  # of the best rate: the smallest micro-batch that reaches it is proposed
TRAJECTORY = 30  # steps of the run along which bfloat16's error is measured; VP needs more than 20
IMAGES = 4  # of that run

Arithmetic = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Rate:
    """One micro-batch in one precision."""

    precision: str  # float32, bfloat16, or auto: the two as a run would mix them
    micro_batch: int
    evaluations_per_second: float  # of the network, times images
    images_per_second: float  # finished, with all steps
    peak_bytes: int | None  # beside the weights; None: not known


@dataclass(frozen=True)
class Proposal:
    """What to write into a spec."""

    precision: str
    micro_batch: int
    images_per_second: float


@dataclass(frozen=True)
class Bench:
    """Everything measured of one model."""

    sampler: dict[str, Any]  # kind and hyper-parameters that images per second are stated for
    evaluations: int  # of one image
    device: str
    threads: int
    weight_bytes: int
    image_bytes: int | None  # activations of one image; None where they are not known beforehand
    rates: tuple[Rate, ...]
    errors: tuple[tuple[float, float], ...]  # noise level, rms error of bfloat16 as a share of the noise
    auto_share: float | None  # of the evaluations that `precision: auto` makes in bfloat16
    proposal: Proposal

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def bench(
    source: Source,
    steps: int,
    *,
    micro_batches: Sequence[int] = MICRO_BATCHES,
    precisions: Sequence[Arithmetic] = ("float32", "bfloat16"),
    trained: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    tell: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Measure a model where it is.

    Args:
        source: of `build_model`; a data set has nothing to be measured.
        steps: of the sampler that images per second are stated for.
        micro_batches: to be tried, ascending; those that take too long or too much memory are left out.
        precisions: to be tried; bfloat16 is left out where a network has no form in it.
        trained: whether the weights mean something, so that bfloat16's error does.
        tell: told a line before everything that takes time.

    Raises ValueError for a data set, and when nothing could be measured.
    """
    if isinstance(source, Tensor):
        raise ValueError("images of a data set are read, not sampled: there is nothing to measure")
    description = sampler_for(source, steps)
    models = dict(_in_precisions(source, precisions))
    image_bytes = _image_bytes(source)
    rates = list(_rates(models, description, micro_batches, image_bytes, clock, tell))
    if not rates:
        raise ValueError(f"not one image fits into the memory of {source.device}")
    share: float | None = None
    errors: list[tuple[float, float]] = []
    if isinstance(source, ScoreModel) and "bfloat16" in models:
        share = auto_share(source, steps)
        rates += _mixed(rates, share)
        low = models["bfloat16"]
        if trained and isinstance(low, ScoreModel):
            tell("error of bfloat16")
            errors = list(bfloat16_errors(source, low))
    return Bench(
        sampler=description,
        evaluations=planned_evaluations(**description),
        device=_device_name(source.device),
        threads=torch.get_num_threads(),
        weight_bytes=sum(each.numel() * each.element_size() for each in _network(source).parameters()),
        image_bytes=image_bytes,
        rates=tuple(rates),
        errors=tuple(errors),
        auto_share=share,
        proposal=propose(rates),
    )


def sampler_for(source: ScoreModel | LatentDecoder, steps: int) -> dict[str, Any]:
    """Kind and hyper-parameters of the sampler that a model is mostly used with."""
    if isinstance(source, ScoreModel) and isinstance(source.network, DilatedRefineNet):
        each = max(1, round(steps / source.scales))
        return {"kind": "annealed_langevin", "levels": source.scales, "steps_per_level": each}
    if isinstance(source, ScoreModel):
        return {"kind": "predictor_corrector", "steps": steps}
    if isinstance(source, Decoder):
        return {"kind": "prior"}
    return {"kind": "ddls", "steps": steps, "step_size": 0.01}


def propose(rates: Sequence[Rate]) -> Proposal:
    """The fastest precision if it is worth it, and the smallest micro-batch that is as good as the best."""
    best = {rate.precision: rate for rate in sorted(rates, key=lambda rate: rate.images_per_second)}
    precision = next(iter(best)) if "float32" not in best else "float32"
    auto = best.get("auto")
    if auto is not None and auto.images_per_second > WORTH * best["float32"].images_per_second:
        precision = "auto"
    enough = ENOUGH * best[precision].images_per_second
    fitting = [r for r in rates if r.precision == precision and r.images_per_second >= enough]
    chosen = min(fitting, key=lambda rate: rate.micro_batch)
    return Proposal(precision, chosen.micro_batch, chosen.images_per_second)


def auto_share(model: ScoreModel, steps: int) -> float:
    """Share of equally spaced times at which `precision: auto` takes bfloat16."""
    t = torch.linspace(model.sde.T, model.sde.sampling_eps, steps, device=model.device)
    return float((model.with_steps(steps, _labels(model)).noise_level(t) >= FLOAT32_BELOW).double().mean())


def _labels(model: ScoreModel) -> Labels:
    """By which a model is asked in any number of steps."""
    return "interpolated" if model.continuous or takes_fractions(model.network) else "rounded"


def bfloat16_errors(model: ScoreModel, low: ScoreModel) -> Iterator[tuple[float, float]]:
    """Noise level, and rms difference of the two scores times the noise's std, from high levels to low ones.

    Along a short run of the model itself, so that no data are needed: the states have noise and images in
    the shares that sampling meets.
    """
    noise = NoiseStream(0, 0, range(IMAGES), model.device)
    steps = TRAJECTORY if model.continuous else min(TRAJECTORY, model.scales)
    labels = _labels(model)
    sampler = build_sampler("predictor_corrector", model, steps=steps, corrector="none", labels=labels)
    state = sampler.init(noise)
    model, low = model.with_steps(steps, labels), low.with_steps(steps, labels)
    model.class_labels = low.class_labels = state.tensors.get("classes")  # of a class-conditional network
    times = torch.linspace(model.sde.T, model.sde.sampling_eps, steps, device=model.device)
    with torch.no_grad():
        for t in times:
            x, t = state.tensors["x"], t.expand(IMAGES)
            difference = low.score(x, t) - model.score(x, t)
            error = difference.square().mean().sqrt() * model.marginal(t)[1][0]
            yield float(model.noise_level(t)[0]), float(error)
            state = sampler.step(state, noise)


def _in_precisions(
    source: ScoreModel | LatentDecoder, precisions: Sequence[Arithmetic]
) -> Iterator[tuple[str, ScoreModel | LatentDecoder]]:
    """The model in every precision that it has."""
    if "float32" in precisions or not isinstance(source, ScoreModel):
        yield "float32", source
    if "bfloat16" in precisions and isinstance(source, ScoreModel):
        low = copy.deepcopy(source)
        try:
            low.set_precision("bfloat16")
        except PrecisionError:
            return
        yield "bfloat16", low


def _rates(
    models: dict[str, ScoreModel | LatentDecoder],
    description: dict[str, Any],
    micro_batches: Sequence[int],
    image_bytes: int | None,
    clock: Callable[[], float],
    tell: Callable[[str], None],
) -> Iterator[Rate]:
    """Rates of all precisions, one micro-batch after the other, ascending."""
    evaluations = planned_evaluations(**description)
    for size in sorted(micro_batches):
        slowest = 0.0
        for precision, model in models.items():
            tell(f"micro-batch {size}, {precision}")
            model.micro_batch = size
            try:
                seconds, made, peak = _step(build_sampler(model=model, **description), model, size, clock)
            except torch.cuda.OutOfMemoryError:
                return
            slowest = max(slowest, seconds)
            rate = size * made / seconds
            modelled = None if image_bytes is None else image_bytes * size
            yield Rate(precision, size, rate, rate / max(evaluations, 1), peak or modelled)
        if slowest * 4 > PATIENCE:
            return


def _step(
    sampler: Sampler, model: ScoreModel | LatentDecoder, size: int, clock: Callable[[], float]
) -> tuple[float, int, int | None]:
    """Median seconds of a step of a group, its evaluations, and on a GPU the peak memory beside weights."""
    device = model.device
    noise = NoiseStream(0, 0, range(size), device)
    with torch.no_grad():
        state = sampler.init(noise)
        after = sampler.step(state, noise)
        before = _allocated(device)
        seconds = []
        for _ in range(REPEATS):
            _synchronise(device)
            began = clock()
            sampler.step(state, noise)
            _synchronise(device)
            seconds.append(clock() - began)
    peak = None if before is None else torch.cuda.max_memory_allocated(device) - before
    return statistics.median(seconds), max(1, after.evaluations - state.evaluations), peak


def _mixed(rates: Sequence[Rate], share: float) -> Iterator[Rate]:
    """What `precision: auto` gives: a share of the evaluations in bfloat16, the others in float32."""
    both: dict[int, dict[str, Rate]] = {}
    for rate in rates:
        both.setdefault(rate.micro_batch, {})[rate.precision] = rate
    for size, found in both.items():
        if len(found) == 2:
            low, high = found["bfloat16"], found["float32"]
            seconds = share / low.evaluations_per_second + (1 - share) / high.evaluations_per_second
            per_image = high.evaluations_per_second / high.images_per_second
            yield Rate("auto", size, 1 / seconds, 1 / seconds / per_image, high.peak_bytes)


def _image_bytes(source: ScoreModel | LatentDecoder) -> int | None:
    on_cpu = isinstance(source, ScoreModel) and source.device.type == "cpu"
    return activation_bytes(source) if on_cpu and isinstance(source, ScoreModel) else None


def _network(source: ScoreModel | LatentDecoder) -> nn.Module:
    return source.network if isinstance(source, ScoreModel) else source.generator


def _allocated(device: torch.device) -> int | None:
    """Bytes held on a GPU now, from where the peak is measured; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
