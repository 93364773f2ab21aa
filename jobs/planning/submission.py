"""What a spec leaves to `auto`, decided once when a sweep is submitted: GPUs, precision, micro-batch.

A pure function of sweep and hardware; the hardware is recorded in the sweep, and asked no second time, so a
sweep that is run again or resumed elsewhere goes on as it began. It must not know how machines are found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.fingerprint import canonical_json
from jobs.planning.hardware import Hardware
from jobs.planning.sweep import Sweep
from jobs.specs.configuration import Configuration, Model
from jobs.specs.sections import Resources

#: Noise level, in units of the data's range, down to which `precision: auto` takes bfloat16: there the noise
#: still is 200 times its error, which has a floor of 0.2 % and grows as 1 / level below 0.5
#: (docs/performance.md).
FLOAT32_BELOW = 0.125
MAX_MICRO_BATCH = 256  # images; larger ones are hardly faster anywhere
CPU_ACTIVATIONS = 256 * 2**20  # bytes that a micro-batch may take on a CPU (docs/performance.md)
GPU_SHARE = 0.5  # of a GPU's memory, for a micro-batch


def settle(sweep: Sweep, hardware: Hardware, weights: Callable[[str], Path] | None = None) -> Sweep:
    """The sweep without any `auto` that a result could depend on, and with its hardware on record.

    weights: where the file with this sha256 is; None for where the sweep found it.
    Models that are not here yet keep their micro-batch open. Raises WrongWeightsError or ModelError when a
    file of weights cannot be read.
    """
    resources = with_gpus(sweep.resources, hardware)
    settled = settle_precision(sweep, hardware).configurations
    settled = tuple(
        each.model_copy(update={"resources": with_gpus(each.resources, hardware)}) for each in settled
    )
    sizes: dict[str, int | None] = {}  # by model
    weights = weights or (lambda digest: Path(sweep.files[digest]))
    configurations = []
    for each in settled:
        if each.resources.micro_batch is None:
            key = canonical_json(each.model.identity)
            if key not in sizes:
                sizes[key] = _micro_batch(each.model, weights, hardware, resources.gpus or 0)
            size = sizes[key]
            size = None if size is None else min(size, each.group_size)
            each = each.model_copy(
                update={"resources": each.resources.model_copy(update={"micro_batch": size})}
            )
        configurations.append(each)
    changes = {"resources": resources, "configurations": tuple(configurations), "hardware": hardware}
    return sweep.model_copy(update=changes)


def settle_precision(sweep: Sweep, hardware: Hardware) -> Sweep:
    """The sweep with `precision: auto` decided, on which fingerprints depend."""
    faster = hardware.bfloat16(with_gpus(sweep.resources, hardware).gpus or 0)
    possible: dict[str, bool] = {}  # by model
    configurations = []
    for each in sweep.configurations:
        if each.precision == "auto":
            key = canonical_json(each.model.identity)
            if key not in possible:
                possible[key] = faster and _has_bfloat16(sweep, each.model)
            each = _with_precision(each, possible[key])
        configurations.append(each)
    return sweep.model_copy(update={"configurations": tuple(configurations)})


def _with_precision(configuration: Configuration, bfloat16: bool) -> Configuration:
    """bfloat16 while noise dwarfs its error, where it is faster; else float32."""
    changes: dict[str, object] = {"precision": "float32"}
    if bfloat16:
        changes = {"precision": "bfloat16", "float32_below": FLOAT32_BELOW}
    return configuration.model_copy(update=changes)


def _has_bfloat16(sweep: Sweep, model: Model) -> bool:
    """Whether a model is a score network that has bfloat16; one that is not here is taken to have it."""
    if model.family != "score" or model.missing:
        return model.family == "score"
    import torch  # takes seconds, and so do the others

    from sdesampling.models import read_config

    (digest,) = (digest for digest in model.weights.values() if digest is not None)
    with torch.device("meta"):
        networks = read_config(Path(sweep.files[digest])).networks()
    return all(hasattr(network, "set_precision") for network in networks.values())


def with_gpus(resources: Resources, hardware: Hardware) -> Resources:
    """A GPU for each worker where there are GPUs, unless the spec says otherwise."""
    if resources.gpus is not None:
        return resources
    return resources.model_copy(update={"gpus": 1.0 if hardware.gpus else 0.0})


def _micro_batch(model: Model, weights: Callable[[str], Path], hardware: Hardware, gpus: float) -> int | None:
    """Images that pass through a network together; None where the model is not here."""
    if model.missing:
        return None
    if model.family != "score":
        return MAX_MICRO_BATCH
    from jobs.models.build import build_model  # imports torch, which takes seconds
    from sdesampling.memory import activation_bytes
    from sdesampling.score import ScoreModel

    source = build_model(model, weights)
    assert isinstance(source, ScoreModel)
    return micro_batch_for(activation_bytes(source), hardware, gpus)


def micro_batch_for(image_bytes: int, hardware: Hardware, gpus: float) -> int:
    """The largest power of two whose activations fit, for a network that takes so many bytes an image.

    GPUs of which no memory is known are no devices: a cluster can be told to count some.
    """
    share = GPU_SHARE * min(gpus, 1.0) * hardware.gpu_memory or CPU_ACTIVATIONS
    size = 1
    while size < MAX_MICRO_BATCH and 2 * size * image_bytes <= share:
        size *= 2
    return size
