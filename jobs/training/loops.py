"""From a training spec and a data set to a loop that can run: one function for each kind of training.

Here the specs meet networks and loops; running, saving and recording is in `jobs/training/run.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

from fid.extractors.digits_cnn import DigitsCNN
from fid.training import ClassifierSettings, ClassifierTraining, accuracy
from jobs.inputs.datasets import DatasetError
from jobs.inputs.sources import Dataset
from jobs.problems import Problem, SpecError
from jobs.training.spec import ClassifierTrainingSpec, GANSpec, ScoreMatchingSpec, TrainingSpec
from sdesampling.configs import ModelConfig
from sdesampling.latent import LatentModel
from sdesampling.models import save_model
from sdesampling.score import ScoreModel
from sdesampling.training import GANSettings, GANTraining, ScoreMatching, ScoreMatchingSettings
from sdesampling.training.randomness import INITIALISATION, keyed_randomness


class Loop(Protocol):
    """What all training loops have in common."""

    steps: int
    completed: int

    def advance(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """A training made ready: its loop, and what to do with the finished network."""

    loop: Loop
    networks: tuple[nn.Module, ...]  # those trained
    save: Callable[[Path], None]  # writes the weights
    evaluate: Callable[[], dict[str, float]]


def prepare(spec: TrainingSpec, data: Dataset, held_out: Dataset) -> Prepared:
    """The loop of a spec, its networks drawn from the spec's seed.

    Raises DatasetError when labels are needed and missing, and SpecError when the model's images have another
    shape than the data's.
    """
    with keyed_randomness(spec.seed, INITIALISATION):
        match spec:
            case ClassifierTrainingSpec():
                return _classifier(spec, data, held_out)
            case ScoreMatchingSpec():
                return _score_matching(spec, data, held_out)
            case GANSpec():
                return _gan(spec, data, held_out)


def _classifier(spec: ClassifierTrainingSpec, data: Dataset, held_out: Dataset) -> Prepared:
    images, labels = _labelled(data)
    held_images, held_labels = _labelled(held_out)
    architecture = {
        "channels": images.shape[1],
        "classes": int(labels.max()) + 1,
        **spec.network.model_dump(),
    }
    network = DigitsCNN(**architecture)
    settings = ClassifierSettings(**spec.training.model_dump(), seed=spec.seed)

    def save(path: Path) -> None:
        config = json.dumps({"family": "classifier", "network": "digits_cnn", **architecture}, sort_keys=True)
        save_file(network.state_dict(), path, metadata={"config": config})

    def evaluate() -> dict[str, float]:
        return {
            "train_accuracy": accuracy(network, images, labels),
            "held_out_accuracy": accuracy(network, held_images, held_labels),
        }

    return Prepared(ClassifierTraining(network, images, labels, settings), (network,), save, evaluate)


def _score_matching(spec: ScoreMatchingSpec, data: Dataset, held_out: Dataset) -> Prepared:
    config = _config(spec, data)
    networks = config.networks()
    model = config.model(networks)
    assert isinstance(model, ScoreModel)  # the spec has seen to it
    settings = ScoreMatchingSettings(**spec.training.model_dump(), seed=spec.seed)
    loop = ScoreMatching(model, torch.from_numpy(data.images), settings)

    def save(path: Path) -> None:
        save_model(path, config, {"network": loop.average.network})

    def evaluate() -> dict[str, float]:
        return {
            "train_loss": loop.averaged_loss(loop.images),
            "held_out_loss": loop.averaged_loss(torch.from_numpy(held_out.images)),
        }

    return Prepared(loop, tuple(networks.values()), save, evaluate)


def _gan(spec: GANSpec, data: Dataset, held_out: Dataset) -> Prepared:
    config = _config(spec, data)
    networks = config.networks()
    model = config.model(networks)
    assert isinstance(model, LatentModel)  # the spec has seen to it
    settings = GANSettings(**spec.training.model_dump(), seed=spec.seed)
    images = torch.from_numpy(data.images)
    loop = GANTraining(model.generator, model.discriminator, model.latent_dim, images, settings)

    def save(path: Path) -> None:
        save_model(path, config, {**networks, "generator": loop.average.network})

    def evaluate() -> dict[str, float]:
        train_logit, generated_logit = loop.logits(images)
        held_out_logit, _ = loop.logits(torch.from_numpy(held_out.images))
        return {
            "train_logit": train_logit,
            "held_out_logit": held_out_logit,
            "generated_logit": generated_logit,
        }

    return Prepared(loop, tuple(networks.values()), save, evaluate)


def _config(spec: ScoreMatchingSpec | GANSpec, data: Dataset) -> ModelConfig:
    """The model to be trained. Raises SpecError when it makes other images than the data's."""
    config = ModelConfig.from_dict(spec.model)
    if data.images.shape[1:] != config.shape:
        message = f"{config.shape}, but the images of {data.name} are {data.images.shape[1:]}"
        raise SpecError(spec.name, [Problem("model.shape", message)])
    return config


def _labelled(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a data set as tensors. Raises DatasetError where there are no labels."""
    if data.labels is None:
        raise DatasetError(f"{data.name}: a classifier needs labels, the data set has none")
    return torch.from_numpy(data.images), torch.from_numpy(data.labels)
