"""From a configuration to what runs: model, sampler, extractor.

Weights come by sha256 from wherever the caller keeps them, and are checked against it before they are read.
Knows no store and no names of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fid.extractors import Extractor, load_extractor
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import read_given
from jobs.inputs.masks import mask_of
from jobs.inputs.sources import Dataset
from jobs.models.plugins import provide_extractor, provide_networks
from jobs.specs import configuration as data
from jobs.specs.samplers import DDLS
from jobs.specs.sections import DataSet
from sdesampling.calibration import Calibration, calibrate
from sdesampling.checkpoints import CheckpointError, read_checkpoint
from sdesampling.latent import LatentDecoder, LatentModel
from sdesampling.models import blank_networks, load_model
from sdesampling.networks.published import PUBLISHED, architecture
from sdesampling.noise import NoiseStream
from sdesampling.samplers import Sampler, build_sampler
from sdesampling.score import Precision, ScoreModel

#: sha256 -> a local file that should have it.
Weights = Callable[[str], Path]

#: A data set -> its images, which must have its content.
Images = Callable[[DataSet], Dataset]

#: What a sampler samples from; the control of real images takes the images themselves, uint8.
Source = ScoreModel | LatentDecoder | Tensor


class WrongWeightsError(ValueError):
    """A file is not the one that the configuration was made with, or holds another network."""


def build_model(
    model: data.Model,
    weights: Weights,
    device: torch.device | str = "cpu",
    micro_batch: int | None = None,
    precision: Precision = "float32",
    float32_below: float = 0.0,
    images: Images = read_given,
) -> Source:
    """Return what a configuration samples from, in eval mode, on `device`.

    Args:
        model: `configuration.model`.
        weights: gives a local file for a sha256; it is hashed again here.
        micro_batch: samples that pass through a network together; None: whole groups.
        precision, float32_below: of a score network, as in `ScoreModel.set_precision`.
        images: reads the data set that a control samples from.

    Raises:
        DatasetError: the images cannot be read, or are other ones than planned with.
        PrecisionError: the network has no form in that precision.
        WrongWeightsError: weights are missing, are other ones than planned with, or fit no such network.
        ModelError: a file of the project's own form is damaged.
        PluginError: a network of another package is not installed here, or cannot be used.
    """
    if model.family == "dataset":
        return _images(model, device, images)
    files = {role: _checked(model.name, digest, weights) for role, digest in model.weights.items()}
    if model.network is None:
        provide_networks(model.plugins)
        built: ScoreModel | LatentDecoder = load_model(files["model"], device)
    else:
        built = _foreign(model.network, files, device)
    built.micro_batch = micro_batch
    if isinstance(built, ScoreModel):
        built.set_precision(precision, float32_below)
    return built


def sampler_of(configuration: data.Configuration, source: Source, images: Images = read_given) -> Sampler:
    """Return the configuration's sampler on what `build_model` gave.

    Reads the images that it needs beside the model, and calibrates a discriminator by them: in the same way
    wherever it is built. Raises ValueError if they do not fit, DatasetError for images that changed.
    """
    if isinstance(source, Tensor) and configuration.sampler.kind == "noise":
        source = source[0]  # the shape of an image, not that of the data set
    hyper_parameters = configuration.sampler.model_dump()
    if configuration.images is not None:
        found = images(_planned(configuration.images.dataset, configuration.images.content))
        if isinstance(configuration.sampler, DDLS):
            hyper_parameters["calibration"] = _calibrated(configuration, source, found)
        else:
            hyper_parameters["images"] = torch.from_numpy(found.images)
        if configuration.images.mask is not None:
            hyper_parameters["known"] = torch.from_numpy(mask_of(configuration.images.mask))
    return build_sampler(model=source, classes=configuration.classes, **hyper_parameters)


def build_extractor(
    extractor: data.Extractor, weights: Weights, device: torch.device | str = "cpu"
) -> Extractor:
    """Return the feature network of a configuration. Raises WrongWeightsError, or its reader's ValueError."""
    provide_extractor(extractor.name)
    return load_extractor(extractor.name, _checked(extractor.name, extractor.weights, weights), device)


def _checked(name: str, digest: str | None, weights: Weights) -> Path:
    if digest is None:
        raise WrongWeightsError(f"the weights of {name} are not here, so it can be planned but not run")
    path = weights(digest)
    found = file_sha256(path)
    if found != digest:
        raise WrongWeightsError(
            f"{path} should be the weights of {name} with sha256 {digest}, but has {found}"
        )
    return path


def _images(model: data.Model, device: torch.device | str, images: Images) -> Tensor:
    if model.dataset is None:
        raise WrongWeightsError(f"{model.name} names no data set to read")
    return torch.from_numpy(images(_planned(model.dataset, model.content)).images).to(device)


def _planned(data_set: DataSet, content: str | None) -> DataSet:
    """A data set with the content that it was planned with."""
    return data_set.model_copy(update={"content": content})


def _calibrated(configuration: data.Configuration, source: Source, real: Dataset) -> Calibration:
    """The calibration of a GAN's discriminator: at most so many real images, and as many generated ones."""
    assert isinstance(configuration.sampler, DDLS)
    assert configuration.sampler.calibration is not None
    if not isinstance(source, LatentModel):
        raise ValueError(f"a calibration needs a discriminator, and {configuration.model.name} has none")
    count = min(configuration.sampler.calibration.samples, len(real))
    images = torch.from_numpy(real.images[:count]).to(source.device)
    noise = NoiseStream(configuration.seed, configuration.replicate, range(count), source.device)
    if source.classes is None:
        return calibrate(source, images, noise)
    if real.labels is None or not 0 <= real.labels.min() <= real.labels.max() < source.classes:
        raise ValueError(
            f"calibrating {configuration.model.name} needs classes of the real images, 0 to "
            f"{source.classes - 1}, and {real.name} does not have them"
        )
    classes = torch.from_numpy(real.labels[:count]).to(source.device)
    return calibrate(source, images, noise, (classes, classes))


def _foreign(name: str, files: Mapping[str, Path], device: torch.device | str) -> LatentDecoder:
    """A published GAN or decoder from the weight files of others, read as they are."""
    config = PUBLISHED[name]
    networks = blank_networks(config)
    for role, network in networks.items():
        path = files["model"] if len(networks) == 1 else files[role]
        try:
            checkpoint = read_checkpoint(path)
            checkpoint.fill(network, "raw", f"the {role} of {name} ({architecture(config)})")
        except CheckpointError as error:
            raise WrongWeightsError(f"{path}: {error}") from error
        network.to(device).requires_grad_(False)
    model = config.model(networks)
    assert isinstance(model, LatentDecoder)
    return model
