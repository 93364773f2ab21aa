"""Acceptance on a machine with a GPU: is what it computes right, the same every time, and fast?

    make gpu-check
    python benchmarks/gpu_check.py --device cuda --model ve/cifar10_ncsnpp_continuous --json

Checks, each of which passes or fails by itself: the settings under which float32 means float32; noise, scores
and whole runs against the CPU; a run repeated, and one stopped, stored and resumed, to the same bits; rates
and memory of every micro-batch and precision; one cell of a table at 1,000 images by `sdesweep run`, beside
the same cell on the CPU. Exit code 0 when all pass, 1 otherwise, 2 without a GPU. On a machine without one,

    make gpu-check GPU_CHECK="--device cpu --model '' --cell-steps 20"

rehearses all of it but CUDA.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from jobs.compute.worker import WorkerState
from jobs.models.catalog import WEIGHTS
from jobs.planning.bench import bench
from jobs.planning.submission import FLOAT32_BELOW
from jobs.scores.results import SweepResults
from sdesampling.models import load_model
from sdesampling.networks.published import PUBLISHED
from sdesampling.noise import NoiseStream, Purpose
from sdesampling.samplers import Sampler, State, build_sampler
from sdesampling.score import ScoreModel
from sdesampling.sde import SDE, VE, VP

SHIPPED = ("digits-ve", "digits-vp")
PUBLISHED_MODEL = "ve/cifar10_ncsnpp_continuous"
NORMAL_ERROR = 1e-5  # of normal numbers: sines and logarithms differ by some units of the last place
SCORE_ERROR = 5e-5  # relative to the largest value: float32 sums in another order
RUN_ERROR = 1e-3  # of a few steps, which amplify it
BFLOAT16_ERROR = 5e-2
SIGMAS = 3.0  # two scores may lie so many standard errors of their difference apart

#: Samplers whose steps are known beforehand, so that no step has to ask; and the SDEs that some are for.
FIXED_STEPS: dict[str, dict[str, Any]] = {
    "predictor_corrector": {"steps": 30},
    "ode": {"method": "heun", "steps": 30},
    "edm": {"steps": 30},
    "dpm_solver": {"steps": 30},
    "annealed_langevin": {"levels": 3, "steps_per_level": 2},
}
MADE_FOR: dict[str, type[SDE]] = {"dpm_solver": VP, "annealed_langevin": VE}

SPEC = """
name: gpu-check
samples: {samples}
group_size: 250
seed: 11
model: digits-ve
sampler:
  {{kind: predictor_corrector, predictor: reverse_diffusion, corrector: langevin, steps: {steps}, snr: 0.3}}
extractor: digits-cnn
reference: digits-train
resources: {{gpus: {gpus}}}
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    found: dict[str, Any]


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Largest difference over largest value; infinite where a number is not finite."""
    result, expected = result.double().cpu(), expected.double().cpu()
    error = float((result - expected).abs().max() / expected.abs().max())
    return error if math.isfinite(error) else math.inf


def settings(device: torch.device) -> Iterator[Check]:
    """A worker turns off what trades digits or repeatability for speed."""
    WorkerState(device)
    if device.type != "cuda":
        return
    found = {
        "TF32 in matrix products": torch.backends.cuda.matmul.allow_tf32,
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "not cudnn.deterministic": not torch.backends.cudnn.deterministic,
    }
    yield Check("settings", not any(found.values()), found)


def noise(device: torch.device) -> Iterator[Check]:
    """The streams are those of the CPU: uniform numbers to the bit, normal ones to rounding."""
    here, there = (NoiseStream(5, 1, range(7, 107), each) for each in ("cpu", device))
    shape = (3, 32, 32)
    uniform = torch.equal(here.uniform(Purpose.PRIOR, 3, shape), there.uniform(Purpose.PRIOR, 3, shape).cpu())
    error = relative_error(
        there.normal(Purpose.PREDICTOR, 9, shape), here.normal(Purpose.PREDICTOR, 9, shape)
    )
    found = {"uniform numbers to the bit": uniform, "error of normal ones": error}
    yield Check("noise", uniform and error < NORMAL_ERROR, found)


def waiting(name: str, model: ScoreModel, device: torch.device) -> Iterator[Check]:
    """The host asks nothing of the GPU in a step of any sampler: PyTorch raises an error where it would.

    Under `precision: auto`, where every evaluation has to be told its noise level.
    """
    there = on_device(model, device)
    there.set_precision("bfloat16", FLOAT32_BELOW)
    waited = {}
    for kind, hyper_parameters in FIXED_STEPS.items():
        if kind in MADE_FOR and not isinstance(model.sde, MADE_FOR[kind]):
            continue
        sampler = build_sampler(kind, there, **hyper_parameters)
        stream = NoiseStream(3, 0, range(4), device)
        state = sampler.step(sampler.init(stream), stream)  # tables and draws are brought to the device here
        try:
            with errors_where_the_host_waits(device):
                sampler.step(state, stream)
        except RuntimeError as error:
            waited[kind] = str(error)
    yield Check(f"{name}: no step waits for the GPU", not waited, waited)


@contextmanager
def errors_where_the_host_waits(device: torch.device) -> Iterator[None]:
    """PyTorch's own check; on a CPU, where nobody waits, nothing."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def correctness(
    name: str, model: ScoreModel, device: torch.device, images: int, steps: int
) -> Iterator[Check]:
    """Scores at three noise levels, and a run of some steps, as on the CPU."""
    there = on_device(model, device)
    x = torch.randn(images, *model.shape, generator=torch.Generator().manual_seed(1))
    errors = {}
    with torch.no_grad():
        for time in (1.0, 0.5, 0.02):
            t = torch.full((images,), time)
            std = float(model.marginal(t)[1][0])
            expected, result = model.score(x * std, t), there.score((x * std).to(device), t.to(device))
            errors[f"t = {time}"] = relative_error(result, expected)
        low = copy.deepcopy(there)
        low.set_precision("bfloat16")
        bfloat16 = relative_error(low.score((x * std).to(device), t.to(device)), expected)
    yield Check(f"{name}: scores", max(errors.values()) < SCORE_ERROR, errors)
    yield Check(f"{name}: bfloat16", bfloat16 < BFLOAT16_ERROR, {"error": bfloat16})
    expected, result = (whole_run(sampler_of(each, steps), images, each.device)[0] for each in (model, there))
    error = relative_error(result, expected)
    yield Check(f"{name}: {steps} steps", error < RUN_ERROR, {"error": error})


def bits(name: str, model: ScoreModel, device: torch.device, images: int, steps: int) -> Iterator[Check]:
    """The same run twice; and stopped half-way, written, read and gone on with in a model of its own."""
    there = on_device(model, device)
    first, half = whole_run(sampler_of(there, steps), images, device)
    again, _ = whole_run(sampler_of(there, steps), images, device)
    differing = int((first != again).sum())
    yield Check(f"{name}: repeated run", differing == 0, {"differing numbers": differing})
    stored = save({key: tensor.cpu() for key, tensor in half.tensors.items()})
    tensors = {key: tensor.to(device) for key, tensor in load(stored).items()}
    sampler = sampler_of(on_device(model, device), steps)
    state = State(half.step, tensors, half.evaluations)
    stream = NoiseStream(3, 0, range(images), device)
    while state.step < sampler.steps:
        state = sampler.step(state, stream)
    differing = int((sampler.finish(state) != first).sum())
    yield Check(f"{name}: resumed run", differing == 0, {"differing numbers": differing})


def throughput(name: str, model: ScoreModel, device: torch.device, trained: bool) -> Iterator[Check]:
    """Rates and memory; passes when something was measured and all of it is finite."""
    found = bench(on_device(model, device), 1000, trained=trained)
    passed = all(rate.evaluations_per_second > 0 for rate in found.rates)
    yield Check(f"{name}: rates and memory", passed, found.to_json())


def cell(samples: int, steps: int, gpus: str, folder: Path) -> Iterator[Check]:
    """One cell of a table by the command, on the device and on the CPU: the two scores agree."""
    scores = {}
    for place, count in (("device", gpus), ("cpu", "0")):
        spec = folder / f"{place}.yaml"
        spec.write_text(SPEC.format(samples=samples, steps=steps, gpus=count))
        try:
            scores[place] = run_command(spec, folder / place)
        except RuntimeError as error:
            yield Check(f"a cell of {samples:,} images", False, {"place": place, "error": str(error)})
            return
    apart, allowed = difference(scores["device"], scores["cpu"])
    found = {
        **{place: {"fid": fid, "error": error} for place, (fid, error) in scores.items()},
        "apart": apart,
    }
    yield Check(f"a cell of {samples:,} images", apart <= allowed, {**found, "allowed": allowed})


def run_command(spec: Path, store: Path) -> tuple[float, float]:
    """FID[digits-cnn] and its standard error by `sdesweep run`."""
    command = [sys.executable, "-m", "cluster.cli", "run", str(spec), "--store", str(store), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return score_in(done.stdout)


def score_in(printed: str) -> tuple[float, float]:
    """The one score, and its standard error, in what `sdesweep run --json` prints."""
    results = SweepResults.model_validate_json(json.dumps(json.loads(printed)["results"]))
    score = results.cells[0].summaries[0].final
    return score.mean, score.standard_error or 0.0


def difference(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """How far two scores with standard errors lie apart, and how far they may."""
    return abs(one[0] - other[0]), SIGMAS * math.hypot(one[1], other[1])


def sampler_of(model: ScoreModel, steps: int) -> Sampler:
    return build_sampler("predictor_corrector", model, steps=steps)


@torch.no_grad()
def whole_run(sampler: Sampler, images: int, device: torch.device) -> tuple[Tensor, State]:
    """Images of a run, and the state half-way."""
    stream = NoiseStream(3, 0, range(images), device)
    state = half = sampler.init(stream)
    while state.step < sampler.steps:
        state = sampler.step(state, stream)
        half = state if state.step == sampler.steps // 2 else half
    return sampler.finish(state), half


def on_device(model: ScoreModel, device: torch.device) -> ScoreModel:
    """A copy of a model with its network there."""
    moved = copy.deepcopy(model)
    moved.network.to(device)
    return moved


def models(published: str) -> Iterator[tuple[str, ScoreModel, bool]]:
    """Name, model on the CPU, and whether it is trained: the shipped ones, and a published network's size."""
    for name in SHIPPED:
        loaded = load_model(WEIGHTS / f"{name}.safetensors")
        assert isinstance(loaded, ScoreModel)
        yield name, loaded, True
    if published in PUBLISHED:
        torch.manual_seed(0)
        networks = PUBLISHED[published].networks()
        for parameter in networks["network"].parameters():
            if parameter.abs().max() < 1e-6:  # layers that start silent would hide differences
                nn.init.normal_(parameter, std=0.02)
        networks["network"].requires_grad_(False)
        yield published, PUBLISHED[published].model(networks), False


def checks(options: argparse.Namespace) -> Iterator[Check]:
    """Everything, one after the other."""
    device = torch.device(options.device)
    yield from settings(device)
    yield from noise(device)
    for name, model, trained in models(options.model):
        yield from correctness(name, model, device, options.images, options.steps)
        yield from bits(name, model, device, options.images, options.steps)
        yield from waiting(name, model, device)
        if options.rates:
            yield from throughput(name, model, device, trained)
    if options.cell:
        with tempfile.TemporaryDirectory() as folder:
            gpus = "1" if device.type == "cuda" else "0"
            yield from cell(options.cell, options.cell_steps, gpus, Path(folder))


def report(found: Iterator[Check], say: Callable[[str], None]) -> list[Check]:
    """Collect checks, saying each as it comes."""
    kept = []
    for check in found:
        kept.append(check)
        say(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {json.dumps(check.found)[:200]}")
    return kept


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu (default cuda)")
    parser.add_argument("--model", default=PUBLISHED_MODEL, help="a published model, or '' for none")
    parser.add_argument("--images", type=int, default=8, help="in a group that is compared (default 8)")
    parser.add_argument(
        "--steps",
        type=int,
        default=30,
        help="of a run that is compared; VP models need more than 20 (default 30)",
    )
    parser.add_argument("--cell", type=int, default=1000, help="images of the table's cell; 0: no cell")
    parser.add_argument("--cell-steps", type=int, default=50)
    parser.add_argument("--no-rates", dest="rates", action="store_false")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Check, report; returns the exit code."""
    options = parse(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU: PyTorch sees none; --device cpu checks the script itself", file=sys.stderr)
        return 2
    found = report(checks(options), (lambda line: None) if options.json else print)
    if options.json:
        print(json.dumps([asdict(check) for check in found], indent=1))
    failed = [check.name for check in found if not check.passed]
    if not options.json:
        print(f"{len(found)} checks, " + (f"failed: {', '.join(failed)}" if failed else "all passed"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
