"""A sweep in a store as a run leaves it, without running one: digits under noise instead of samples.

Images, features, markers and references are made by the project's own writers with the shipped extractor, so
that reduction and report read what they would read after a real run.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from fid.extractors import load_extractor
from jobs.compute.extraction import extract
from jobs.compute.worker import WorkerState
from jobs.digests import add_digests
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import read_digits
from jobs.models.catalog import WEIGHTS
from jobs.models.weights import send_weights
from jobs.paths import SweepPaths, extractor_key
from jobs.planning.plan import groups
from jobs.planning.sweep import Sweep
from jobs.references.reference import build_reference
from jobs.specs.configuration import Configuration, Extractor, Model
from jobs.specs.samplers import DDLS, NoiseControl, PredictorCorrector, RealControl
from jobs.specs.sections import DataSet, PublishedValue, Resources
from jobs.storage.commit import Content, Execution, GroupRecord, commit
from jobs.storage.features import write_features
from jobs.storage.images import ImageRows, write_images
from jobs.store import Store
from jobs.store_local import LocalStore

SWEEP = "digits-synthetic"
WEIGHTS_FILE = WEIGHTS / "digits-cnn.safetensors"
EXECUTION = Execution(
    device="cpu AVX2", torch="2.13.0", threads=1, micro_batch=256, precision="float32", sampler_version="1"
)
PC = PredictorCorrector(
    kind="predictor_corrector",
    predictor="reverse_diffusion",
    corrector="langevin",
    steps=100,
    snr=0.16,
    eps=1e-5,
)


@cache
def extractor() -> Extractor:
    return Extractor(name="digits-cnn", weights=file_sha256(WEIGHTS_FILE), dimension=64, logits=10)


def configuration(row: str, column: str, **changes: object) -> Configuration:
    settings: dict[str, object] = {
        "sweep": SWEEP,
        "row": row,
        "column": column,
        "model": Model(
            name="digits-ve", family="score", shape=(1, 8, 8), weights={"model": "a" * 64}, sde="ve"
        ),
        "sampler": PC,
        "seed": 0,
        "replicate": 0,
        "group_size": 64,
        "stages": (100,),
        "precision": "float32",
        "quantisation": "floor",
        "samples": 256,
        "shard_size": 128,
        "extractors": (extractor(),),
        "references": (DataSet(name="digits-train"),),
        "metrics": ("fid",),
        "snapshot_every": 60.0,
        "priority": 0,
        "resources": Resources(),
        "published": (),
    }
    return Configuration.model_validate({**settings, **changes})


def sweep_of(configurations: list[Configuration], description: str = "Digits under noise") -> Sweep:
    return Sweep(
        name=SWEEP,
        description=description,
        written=f"name: {SWEEP}\n",
        overrides={},
        rows=tuple(dict.fromkeys(item.row for item in configurations)),
        columns=tuple(dict.fromkeys(item.column for item in configurations)),
        configurations=tuple(configurations),
        store="runs",
        resources=Resources(),
        files={},
        missing=(),
    )


def prepare(store: Store, sweep: Sweep) -> None:
    """What a driver does before it hands out work: specs, weights, references."""
    store.put(SweepPaths(sweep.name).resolved, sweep.to_json().encode())
    for item in sweep.configurations:
        paths = SweepPaths(sweep.name).configuration(item.fingerprint)
        store.put(paths.spec, item.to_json().encode())
    send_weights(store, {extractor().weights or "": str(WEIGHTS_FILE)})
    build_reference(store, DataSet(name="digits-train"), extractor(), WorkerState())


def images_of(item: Configuration, samples: range, step: int, noise: float) -> np.ndarray:
    """Held-out digits with Gaussian noise that fades with the steps, each a function of its index alone."""
    digits = read_held_out()
    last = item.stages[-1]
    level = 255 * (noise + (1 - step / last if last else 0.0))
    rows = []
    for k in samples:
        generator = np.random.default_rng([item.seed, item.replicate, k])
        digit = digits[generator.integers(len(digits))].astype(np.float64)
        rows.append(np.clip(digit + level * generator.standard_normal(digit.shape), 0, 255).astype(np.uint8))
    return np.stack(rows)


@cache
def read_held_out() -> np.ndarray:
    return read_digits("heldout").images


@cache
def network():
    return load_extractor("digits-cnn", WEIGHTS_FILE)


def commit_shard(
    store: Store, item: Configuration, samples: range, noise: float = 0.05, execution: Execution = EXECUTION
) -> None:
    """Images and features of a shard, with their markers."""
    paths = SweepPaths(item.sweep).configuration(item.fingerprint)
    parts = list(groups(samples, item.group_size))
    index = np.arange(samples.start, samples.stop)
    rows = [
        ImageRows(
            step, index, (index // item.group_size).astype(np.int32), images_of(item, samples, step, noise)
        )
        for step in item.stages
    ]
    records = tuple(
        GroupRecord(
            first=part.start,
            last=part.stop,
            evaluations=199 * len(part),
            clipped={item.stages[-1]: 0.01 * noise},
            diagnostics={"acceptance": 0.5 + 0.001 * part.start},
        )
        for part in parts
    )
    pixels = add_digests(block.digest for block in rows)
    common = {
        "fingerprint": item.fingerprint,
        "first": samples.start,
        "last": samples.stop,
        "rows": len(samples) * len(rows),
        "execution": execution,
        "groups": records,
    }
    made = Content(
        kind="images",
        digests={block.step: block.digest for block in rows},
        inputs={},
        evaluations=199 * len(samples),
        seconds={"sample": 0.5},
        **common,
    )
    commit(store, paths.images, made, partial(write_images, blocks=rows))
    found = [extract(network(), block.step, block.images, parts) for block in rows]
    read = Content(
        kind="features",
        digests={block.step: block.digest for block in found},
        inputs={"images": pixels},
        seconds={"extract": 0.1},
        **common,
    )
    folder = paths.features(extractor_key(extractor().name, extractor().weights or ""))
    commit(store, folder, read, partial(write_features, blocks=found))


def fill(store: Store, item: Configuration, shard: int | None = None, noise: float = 0.05) -> None:
    """All samples of a configuration, in shards of any size."""
    for samples in groups(range(item.samples), shard or item.shard_size):
        commit_shard(store, item, samples, noise)


def demonstration(store: Store) -> Sweep:
    """A sweep of every kind of cell: a grid with replicates, a curve over steps, controls, one unfinished."""
    published = (PublishedValue(value=3.6, std=0.02, source="Song et al. 2020, Table 1"),)
    names = {"P100": 0.30, "C100": 0.22, "PC100": 0.05}
    grid = [
        configuration(row, column, seed=seed, replicate=replicate, published=published)
        for seed, row in enumerate(("VE, reverse diffusion", "VP, reverse diffusion"))
        for column in names
        for replicate in range(2)
    ]
    seeds = {column: number for number, column in enumerate(names)}
    grid = [item.model_copy(update={"seed": 10 * item.seed + seeds[item.column]}) for item in grid]
    gan = Model(name="digits-gan", family="latent", shape=(1, 8, 8), weights={"model": "b" * 64})
    chain = DDLS(kind="ddls", steps=100, step_size=0.01)
    curve = configuration("GAN", "DDLS 100", model=gan, sampler=chain, stages=(0, 10, 25, 50, 100), seed=77)
    held_out = Model(
        name="digits-heldout",
        family="dataset",
        shape=(1, 8, 8),
        dataset=DataSet(name="digits-heldout"),
        content="c" * 64,
    )
    real = configuration(
        "controls", "held-out images", model=held_out, sampler=RealControl(kind="real"), stages=(0,)
    )
    noise = configuration(
        "controls", "noise", model=held_out, sampler=NoiseControl(kind="noise"), stages=(0,)
    )
    unfinished = configuration("GAN", "DDLS 0", model=gan, sampler=chain, seed=78)
    sweep = sweep_of([*grid, unfinished, curve, real, noise])
    prepare(store, sweep)
    for item in grid:
        fill(store, item, noise=names[item.column])
    fill(store, curve)
    fill(store, real, noise=0.0)
    fill(store, noise, noise=3.0)
    commit_shard(store, unfinished, range(128))
    return sweep


def local_store(folder: object) -> LocalStore:
    return LocalStore(str(folder))
