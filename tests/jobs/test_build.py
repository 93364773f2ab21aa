"""From a configuration to a model, sampler and extractor: the right weights or none."""

from pathlib import Path

import pytest
import torch
from configured import configuration

from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import DatasetError
from jobs.models.build import WrongWeightsError, build_extractor, build_model, sampler_of
from jobs.models.resolve import Resolved, resolve_extractor, resolve_model
from jobs.specs.configuration import Model
from jobs.specs.samplers import DDLS, NoiseControl, PredictorCorrector, RealControl, Sampler
from jobs.specs.sections import DataSet
from jobs.specs.spec import ExtractorSection, ModelSection
from sdesampling.configs import ScoreConfig
from sdesampling.latent import LatentModel
from sdesampling.models import save_model
from sdesampling.networks.mnist_mlp import MnistMLPDiscriminator, MnistMLPGenerator
from sdesampling.noise import NoiseStream
from sdesampling.score import ScoreModel

SCORE = ScoreConfig(
    shape=(1, 8, 8),
    centered=False,
    network={"name": "ncsnpp", "nf": 8, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": []},
    sde={"family": "ve", "sigma_min": 0.01, "sigma_max": 8.0},
)


@pytest.fixture
def score(tmp_path: Path) -> Resolved[Model]:
    torch.manual_seed(0)
    save_model(tmp_path / "score.safetensors", SCORE, SCORE.networks())
    return resolve_model(ModelSection(weights={"model": "score.safetensors"}), tmp_path)


@pytest.fixture
def gan(tmp_path: Path) -> Resolved[Model]:
    torch.manual_seed(0)
    torch.save(MnistMLPGenerator().state_dict(), tmp_path / "generator.ckpt")
    torch.save(MnistMLPDiscriminator().state_dict(), tmp_path / "discriminator.ckpt")
    weights = {role: f"{role}.ckpt" for role in ("generator", "discriminator")}
    return resolve_model(ModelSection(network="mnist_mlp_gan", weights=weights), tmp_path)


def images(found: Resolved[Model], sampler: Sampler, count: int = 3) -> torch.Tensor:
    """Run a sampler from beginning to end as a worker does."""
    wanted = configuration(model=found.thing, sampler=sampler)
    machine = sampler_of(wanted, build_model(found.thing, found.files.__getitem__, micro_batch=2))
    noise = NoiseStream(wanted.seed, wanted.replicate, range(count))
    state = machine.init(noise)
    for _ in range(machine.steps):
        state = machine.step(state, noise)
    return machine.finish(state)


def test_score_model_and_its_sampler(score: Resolved[Model]):
    sampler = PredictorCorrector(
        kind="predictor_corrector", predictor="reverse_diffusion", corrector="langevin", steps=3
    )
    assert images(score, sampler).shape == (3, 1, 8, 8)
    model = build_model(score.thing, score.files.__getitem__, micro_batch=2)
    assert isinstance(model, ScoreModel)
    assert model.micro_batch == 2
    assert not model.network.training
    assert not any(each.requires_grad for each in model.network.parameters())


def test_gan_of_others_and_its_sampler(gan: Resolved[Model]):
    assert images(gan, DDLS(kind="ddls", steps=2, step_size=0.01)).shape == (3, 1, 28, 28)
    model = build_model(gan.thing, gan.files.__getitem__)
    assert isinstance(model, LatentModel)
    assert not any(each.requires_grad for each in model.generator.parameters())
    assert not any(each.requires_grad for each in model.discriminator.parameters())


def test_controls(score: Resolved[Model]):
    noise = images(score, NoiseControl(kind="noise"), count=50)
    assert noise.shape == (50, 1, 8, 8)
    assert abs(noise.mean().item() - 0.5) < 0.05  # standard error of 3,200 uniform values is 0.005
    digits = resolve_model(ModelSection(name="digits-heldout"), Path())
    real = images(digits, RealControl(kind="real"))
    whole = build_model(digits.thing, digits.files.__getitem__)
    assert isinstance(whole, torch.Tensor)
    torch.testing.assert_close((real * 255).floor().to(torch.uint8), whole[:3], rtol=0, atol=0)
    assert len(whole) == digits.thing.images


def test_other_bytes_than_planned_with_are_refused(score: Resolved[Model], tmp_path: Path):
    (path,) = score.files.values()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(WrongWeightsError, match="should be the weights of score with sha256"):
        build_model(score.thing, score.files.__getitem__)
    missing = score.thing.model_copy(update={"weights": {"model": None}})
    with pytest.raises(WrongWeightsError, match="can be planned but not run"):
        build_model(missing, score.files.__getitem__)
    digits = resolve_model(ModelSection(name="digits-heldout"), tmp_path).thing
    with pytest.raises(DatasetError, match="has changed"):
        build_model(digits.model_copy(update={"content": "0" * 64}), score.files.__getitem__)


def test_weights_of_another_network_are_refused(gan: Resolved[Model], tmp_path: Path):
    weights = {"generator": "discriminator.ckpt", "discriminator": "generator.ckpt"}
    swapped = resolve_model(ModelSection(network="mnist_mlp_gan", weights=weights), tmp_path)
    with pytest.raises(
        WrongWeightsError,
        match=r"it holds weights of MLP GAN .the discriminator of mnist_mlp_gan., not the generator of",
    ):
        build_model(swapped.thing, swapped.files.__getitem__)
    assert swapped.thing.identity != gan.thing.identity


def test_a_data_set_by_path_is_a_control_too(tmp_path: Path):
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=pixels)
    section = ModelSection(dataset=DataSet(name="mine", path="mine.npz"))
    found = resolve_model(section, tmp_path)
    assert (found.thing.shape, found.thing.images) == ((1, 4, 4), 5)
    whole = build_model(found.thing, found.files.__getitem__)
    assert isinstance(whole, torch.Tensor)
    assert np.array_equal(whole.numpy(), pixels)


def test_extractor():
    found = resolve_extractor(ExtractorSection(name="digits-cnn"), Path())
    extractor = build_extractor(found.thing, found.files.__getitem__)
    features = extractor(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert features.features.shape == (2, found.thing.dimension)
    assert features.logits is not None
    assert features.logits.shape == (2, found.thing.logits)
    assert extractor.identity["weights"] == found.thing.weights == file_sha256(*found.files.values())
