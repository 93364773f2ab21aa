"""`sdesweep train`: bad specs are refused with all their problems, runs resume, records say what was done."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fid.extractors.digits_cnn import DigitsCNN
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import DatasetError, read_dataset
from jobs.models import catalog
from jobs.problems import SpecError
from jobs.training.loops import prepare
from jobs.training.run import OtherTrainingError, TrainingRecord, train
from jobs.training.spec import ClassifierTrainingSpec, GANSpec, ScoreMatchingSpec, load_training_spec
from sdesampling.latent import LatentModel
from sdesampling.models import load_model
from sdesampling.score import ScoreModel

SHIPPED = ("digits-cnn", "digits-gan", "digits-ve", "digits-vp")

CLASSIFIER = """
name: small-cnn
kind: classifier
data: {name: bars, path: bars.npz}
held_out: {name: bars, path: bars.npz}
network: {width: 4}
training: {steps: 12, batch_size: 8, learning_rate: 1e-2}
"""
SCORE = """
name: small-ve
kind: score_matching
data: {name: bars, path: bars.npz}
held_out: {name: bars, path: bars.npz}
model:
  family: score
  shape: [1, 8, 8]
  centered: false
  sde: {family: ve, sigma_max: 5.0}
  network: {name: ncsnpp, nf: 4, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [4]}
training: {steps: 6, batch_size: 4, warmup: 2, ema_decay: 0.9}
"""
GAN = """
name: small-gan
kind: gan
data: {name: bars, path: bars.npz}
held_out: {name: bars, path: bars.npz}
model:
  family: latent
  shape: [1, 8, 8]
  centered: true
  latent_dim: 3
  generator: {name: dcgan_generator, image_size: 8, channels: 1, latent_dim: 3, width: 4}
  discriminator: {name: dcgan_discriminator, image_size: 8, channels: 1, width: 4, normalisation: none}
training: {steps: 5, closing_steps: 2, batch_size: 4, r1_gamma: 0.1, ema_decay: 0.9}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "bars.npz", images=images, labels=np.arange(32) % 3)
    return tmp_path


def written(folder: Path, text: str, **changes: str) -> Path:
    """A spec file in the folder, with pieces of its text replaced: old=new."""
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def outcome(record: TrainingRecord) -> dict[str, Any]:
    """A record without what differs from run to run."""
    return {key: value for key, value in dataclasses.asdict(record).items() if key != "seconds"}


@pytest.mark.parametrize("text", [CLASSIFIER, SCORE, GAN], ids=["classifier", "score_matching", "gan"])
def test_training_writes_weights_and_a_record_that_names_them(folder: Path, text: str) -> None:
    told: list[tuple[int, int]] = []

    def progress(completed: int, steps: int, losses: Mapping[str, float]) -> None:
        assert all(np.isfinite(value) for value in losses.values())
        told.append((completed, steps))

    record = train(written(folder, text), folder / "out", progress)
    assert all(np.isfinite(value) for value in record.evaluation.values())
    assert len(record.evaluation) >= 2
    weights = folder / "out" / record.weights["file"]
    assert record.weights["sha256"] == file_sha256(weights)
    assert record.weights["bytes"] == weights.stat().st_size
    assert told[-1] == (record.steps, record.steps)
    assert record.losses[-1]["step"] == record.steps
    bars = read_dataset("bars", folder / "bars.npz")
    assert record.data == {"name": "bars", "images": 32, "sha256": bars.content_hash}
    assert record.held_out == record.data
    assert json.loads((folder / "out" / f"{record.name}.json").read_text()) == dataclasses.asdict(record)
    assert sorted(path.suffix for path in (folder / "out").iterdir()) == [".json", ".safetensors"]


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others(folder: Path) -> None:
    first = train(written(folder, SCORE), folder / "a")
    second = train(written(folder, SCORE), folder / "b")
    other = train(written(folder, SCORE + "seed: 1\n"), folder / "c")
    assert outcome(first) == outcome(second)
    assert first.weights["sha256"] != other.weights["sha256"]


class Stopped(Exception):
    """Raised out of a training to interrupt it."""


@pytest.mark.parametrize("text", [CLASSIFIER, SCORE, GAN], ids=["classifier", "score_matching", "gan"])
def test_an_interrupted_training_ends_with_the_same_bytes(
    folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = written(folder, text + "save_every: 1e-9\n")
    undisturbed = train(spec, folder / "a")
    clock = iter(range(10**6))  # every look at the clock is a second later, so progress is told at every step
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))

    def interrupt(completed: int, steps: int, losses: Mapping[str, float]) -> None:
        if completed == 4:
            raise Stopped

    with pytest.raises(Stopped):
        train(spec, folder / "b", interrupt)
    assert (folder / "b" / f"{undisturbed.name}.state.pt").exists()
    seen: list[int] = []
    resumed = train(spec, folder / "b", lambda completed, steps, losses: seen.append(completed))
    assert seen[0] == 4  # the state is of the step before the interruption
    assert outcome(resumed) == outcome(undisturbed)


def test_a_finished_training_is_not_repeated_unless_its_weights_changed(folder: Path) -> None:
    spec = written(folder, GAN)
    record = train(spec, folder / "out")
    assert train(spec, folder / "out") == record
    weights = folder / "out" / "small-gan.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert outcome(train(spec, folder / "out")) == outcome(record)
    assert file_sha256(weights) == record.weights["sha256"]


def test_another_training_of_the_same_name_is_refused(folder: Path) -> None:
    train(written(folder, GAN), folder / "out")
    with pytest.raises(OtherTrainingError, match=r"small-gan\.json belongs to a training of 'small-gan'"):
        train(written(folder, GAN + "seed: 5\n"), folder / "out")


def test_saved_models_load_as_what_was_trained(folder: Path) -> None:
    train(written(folder, SCORE), folder / "out")
    train(written(folder, GAN), folder / "out")
    train(written(folder, CLASSIFIER), folder / "out")
    score = load_model(folder / "out" / "small-ve.safetensors")
    assert isinstance(score, ScoreModel)
    assert score.score(torch.rand(2, 1, 8, 8), torch.tensor([0.1, 0.9])).shape == (2, 1, 8, 8)
    latent = load_model(folder / "out" / "small-gan.safetensors")
    assert isinstance(latent, LatentModel)
    assert latent.logit(torch.randn(5, 3)).shape == (5,)
    with safe_open(folder / "out" / "small-cnn.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    assert (config["width"], config["classes"], config["channels"]) == (4, 3, 1)


def test_the_weights_are_the_averaged_ones(folder: Path) -> None:
    spec = load_training_spec(written(folder, SCORE))
    bars = read_dataset("bars", folder / "bars.npz")
    prepared = prepare(spec, bars, bars)
    while prepared.loop.completed < prepared.loop.steps:
        prepared.loop.advance()
    prepared.save(folder / "weights.safetensors")
    state = prepared.loop.state_dict()
    model = load_model(folder / "weights.safetensors")
    assert isinstance(model, ScoreModel)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, state["average"][name])
    assert any(not torch.equal(state["network"][name], state["average"][name]) for name in state["average"])


@pytest.mark.parametrize(
    ("text", "changes", "lines"),
    [
        (
            CLASSIFIER,
            {"kind: classifier": "kind: clasifier"},
            ["kind: 'clasifier' is not one of", "'classifier'?"],
        ),
        (CLASSIFIER, {"kind: classifier\n": ""}, ["kind: missing; one of classifier, score_matching, gan"]),
        (CLASSIFIER, {"steps: 12": "steps: 0"}, ["training.steps: 0 must be at least 1"]),
        (CLASSIFIER, {"steps: 12": "stepz: 12"}, ["training.stepz: unknown key; did you mean 'steps'?"]),
        (CLASSIFIER, {"held_out: {name: bars, path: bars.npz}\n": ""}, ["held_out: missing"]),
        (
            CLASSIFIER,
            {"learning_rate: 1e-2": "learning_rate: fast", "width: 4": "width: 0", "steps: 12": "steps: 1.5"},
            [
                "training.learning_rate: 'fast' is not a number",
                "network.width: 0 must",
                "training.steps: 1.5 is",
            ],
        ),
        (
            CLASSIFIER,
            {"data: {name: bars, path: bars.npz}": "data: cifar10"},
            ["data.name: unknown data set"],
        ),
        (
            CLASSIFIER,
            {"path: bars.npz": "path: gone.npz"},
            ["data.path: 'gone.npz': nothing", "held_out.path:"],
        ),
        (SCORE, {"family: score": "family: scores"}, ["model: ", "'scores' is not one of"]),
        (SCORE, {"name: ncsnpp": "name: ncsnp"}, ["model: ", "'ncsnp' is not one of"]),
        (SCORE, {"sigma_max: 5.0": "sigma_max: 0.001"}, ["model: ", "must be 0 < sigma_min < sigma_max"]),
        (SCORE, {"kind: score_matching": "kind: gan", ", warmup: 2": ""}, ["model: ", "takes 'latent'"]),
        (
            GAN,
            {"kind: gan": "kind: score_matching", "closing_steps: 2, ": "", "r1_gamma: 0.1, ": ""},
            ["model: ", "takes 'score'"],
        ),
        (GAN, {"image_size: 8, channels: 1, width": "image_size: 9, channels: 1, width"}, ["image_size = 9"]),
        (
            GAN,
            {"betas": "betas", "ema_decay: 0.9": "ema_decay: 1.0"},
            ["training.ema_decay: 1.0 must be below 1"],
        ),
    ],
)
def test_bad_specs_are_refused_with_all_their_problems(
    folder: Path, text: str, changes: dict[str, str], lines: list[str]
) -> None:
    with pytest.raises(SpecError) as refused:
        load_training_spec(written(folder, text, **changes))
    for line in lines:
        assert line in str(refused.value)


def test_a_model_of_another_shape_than_the_data_is_refused(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.shape: \(3, 8, 8\), but the images of bars are \(1, 8, 8\)"):
        train(written(folder, SCORE, **{"[1, 8, 8]": "[3, 8, 8]"}), folder / "out")


def test_a_classifier_needs_labels(folder: Path) -> None:
    np.savez(folder / "bars.npz", images=np.zeros((4, 1, 8, 8), np.uint8))
    with pytest.raises(DatasetError, match="bars: a classifier needs labels"):
        train(written(folder, CLASSIFIER), folder / "out")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_come_from_the_catalogue_spec_beside_them(name: str) -> None:
    """Their records name spec, data and sha256; only the seconds and the versions are not reproducible."""
    spec = load_training_spec(catalog.CATALOG / f"train-{name}.yaml")
    record = json.loads((catalog.WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    assert record["weights"]["sha256"] == file_sha256(catalog.WEIGHTS / f"{name}.safetensors")
    assert record["data"]["sha256"] == read_dataset("digits-train").content_hash
    assert record["held_out"]["sha256"] == read_dataset("digits-heldout").content_hash
    assert record["spec"] == spec.model_dump(
        mode="json", exclude={"description", "data", "held_out", "save_every"}
    )


def test_shipped_weights_are_small_and_the_classifier_is_good() -> None:
    assert sum((catalog.WEIGHTS / f"{name}.safetensors").stat().st_size for name in SHIPPED) < 8_000_000
    record = json.loads((catalog.WEIGHTS / "digits-cnn.json").read_text(encoding="utf-8"))
    assert record["evaluation"]["held_out_accuracy"] >= 0.97


def test_specs_of_the_catalogue_are_of_the_kinds_they_say() -> None:
    kinds = {name: type(load_training_spec(catalog.CATALOG / f"train-{name}.yaml")) for name in SHIPPED}
    assert kinds == {
        "digits-cnn": ClassifierTrainingSpec,
        "digits-gan": GANSpec,
        "digits-ve": ScoreMatchingSpec,
        "digits-vp": ScoreMatchingSpec,
    }
    assert DigitsCNN().dimension == 64
