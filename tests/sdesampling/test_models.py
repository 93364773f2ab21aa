"""Models as files: what is written comes back, and what is wrong is named."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdesampling.configs import ModelConfig, ModelError
from sdesampling.latent import LatentModel
from sdesampling.models import Source, blank_networks, load_model, read_config, read_source, save_model
from sdesampling.networks.published import PUBLISHED, architecture, place_in_training
from sdesampling.score import ScoreModel

NETWORK = {"name": "ncsnpp", "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4]}
SCORE = {
    "family": "score",
    "shape": [1, 8, 8],
    "centered": False,
    "network": NETWORK,
    "sde": {"family": "ve", "sigma_min": 0.01, "sigma_max": 8.0, "N": 100},
}
LATENT = {
    "family": "latent",
    "shape": [1, 8, 8],
    "centered": True,
    "latent_dim": 5,
    "generator": {
        "name": "dcgan_generator",
        "image_size": 8,
        "channels": 1,
        "latent_dim": 5,
        "width": 4,
    },
    "discriminator": {"name": "dcgan_discriminator", "image_size": 8, "channels": 1, "width": 4},
}


def build(content):
    """The model of a configuration, freshly initialised."""
    config = ModelConfig.from_dict(content)
    return config.model(config.networks())


def test_a_score_model_comes_back_as_it_was(tmp_path):
    config = ModelConfig.from_dict(SCORE)
    networks = config.networks()
    save_model(tmp_path / "model.safetensors", config, networks)
    model = load_model(tmp_path / "model.safetensors")
    assert isinstance(model, ScoreModel)
    assert (model.sde.family, model.sde.N, model.sde.sigma_max) == ("ve", 100, 8.0)
    assert (model.shape, model.centered, model.continuous) == ((1, 8, 8), False, True)
    assert not model.network.training
    x, t = torch.rand(2, 1, 8, 8), torch.tensor([0.2, 0.9])
    assert torch.equal(model.score(x, t), config.model(networks).score(x, t))
    assert not model.score(x, t).requires_grad
    assert read_config(tmp_path / "model.safetensors") == config


def test_a_latent_model_comes_back_as_it_was(tmp_path):
    config = ModelConfig.from_dict(LATENT)
    networks = config.networks()
    save_model(tmp_path / "model.safetensors", config, networks)
    model = load_model(tmp_path / "model.safetensors")
    assert isinstance(model, LatentModel)
    original = config.model(networks)
    z = torch.randn(3, 5)
    assert torch.equal(model.logit(z), original.logit(z))
    assert torch.equal(model.images(z), original.images(z))


def test_the_same_model_is_the_same_bytes(tmp_path):
    config = ModelConfig.from_dict(SCORE)
    networks = config.networks()
    for name in ("a", "b"):
        save_model(tmp_path / name, config, networks)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith(("ve/", "vp/", "subvp/"))])
def test_published_configurations_survive_json_and_make_models(name):
    config = PUBLISHED[name]
    assert ModelConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["family"] == "score"
    networks = blank_networks(config)
    model = config.model(networks)
    family = name.partition("/")[0]
    assert model.sde.family == family
    assert model.centered == (family != "ve")
    assert networks["network"].scale_by_sigma == (family == "ve")
    assert model.continuous == (family == "subvp" or name.endswith("continuous"))


@pytest.mark.parametrize(
    ("name", "latent_dim"),
    [
        ("mnist_mlp_gan", 64),
        ("mnist_dcgan", 100),
        ("cifar10_dcgan", 100),
        ("cifar10_sngan", 128),
        ("mnist_vae", 20),
    ],
)
def test_published_gans_and_decoders_survive_json_and_make_models(name, latent_dim):
    config = PUBLISHED[name]
    assert ModelConfig.from_json(config.to_json()) == config
    model = config.model(config.networks())
    images = model.images(torch.randn(2, latent_dim))
    assert images.shape == (2, *config.shape)
    assert 0 <= images.min() <= images.max() <= 1
    if isinstance(model, LatentModel):
        assert model.logit(torch.randn(2, latent_dim)).shape == (2,)


def test_a_file_says_where_its_weights_come_from(tmp_path):
    config = ModelConfig.from_dict(SCORE)
    networks = config.networks()
    source = Source("score_sde checkpoint", "ema", 800, {"network": "a" * 64})
    for name in ("a", "b"):
        save_model(tmp_path / name, config, networks, source)
    assert read_source(tmp_path / "a") == source
    assert read_config(tmp_path / "a") == config
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    save_model(tmp_path / "c", config, networks)
    assert read_source(tmp_path / "c") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centered": "no"}, "centered = 'no': must be true or false"),
        ({"network": 5}, "network = 5: must be a mapping"),
        ({"scales": 2.5}, "scales = 2.5: must be a whole number above 0, or null"),
    ],
)
def test_values_of_another_kind_are_refused(change, message):
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_dict({**SCORE, **change})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ve/cifar10_ncsnpp_deep_continuous", "NCSN++ deep"),
        ("vp/cifar10_ddpmpp", "DDPM++"),
        ("vp/cifar10_ncsnpp_continuous", "NCSN++"),
        ("subvp/cifar10_ddpm_continuous", "DDPM"),
        ("ncsnv2/celeba", "NCSNv2"),
        ("mnist_vae", "VAE"),
    ],
)
def test_models_are_called_as_papers_call_them(name, words):
    assert architecture(PUBLISHED[name]) == words


def test_the_step_tells_the_best_checkpoint_from_the_last():
    assert "best by FID" in place_in_training("ve/cifar10_ncsnpp_continuous", 1_200_000)
    assert "the last of its training" in place_in_training("ve/cifar10_ncsnpp_continuous", 1_300_000)
    assert "the last of its training" in place_in_training("vp/cifar10_ddpmpp_deep_continuous", 950_000)
    assert place_in_training("mine/small", 950_000) == ""


def test_models_of_ncsn_take_their_ten_scales():
    config = PUBLISHED["ncsn/mnist"]
    assert ModelConfig.from_json(config.to_json()) == config
    model = config.model(config.networks())
    assert model.score(torch.rand(2, 1, 28, 28), torch.tensor([1.0, 0.0])).shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "scores"}, "did you mean 'score'"),
        ({"shape": [8, 8]}, r"shape = \[8, 8\]: must be \[channels, height, width\]"),
        ({"shape": [1, 8, 4]}, "square"),
        ({"centred": True}, "did you mean 'centered'"),
        ({"network": {**NETWORK, "name": "ncsnp"}}, "did you mean 'ncsnpp'"),
        ({"network": {**NETWORK, "nff": 8}}, "did you mean 'nf'"),
        ({"network": {**NETWORK, "nf": "8"}}, "network: "),
        ({"network": {**NETWORK, "image_size": 8}}, "leave out image_size"),
        ({"network": {"nf": 8}}, "needs the name of a network"),
        ({"sde": {"family": "vee"}}, "did you mean 've'"),
        ({"sde": {"family": "ve", "beta_min": 0.1}}, "beta_min"),
        ({"sde": {"family": "ve", "sigma_min": 9.0, "sigma_max": 8.0}}, "0 < sigma_min < sigma_max"),
        ({"continuous": False}, "needs its number of scales"),
        ({"scales": 10}, "a continuous one has none"),
        ({"continuous": False, "scales": 100}, "fourier"),
    ],
)
def test_wrong_score_configurations_are_named(change, message):
    with pytest.raises(ModelError, match=message):
        build({**SCORE, **change})


def test_discrete_scales_of_network_and_sde_must_agree():
    network = {**NETWORK, "embedding_type": "positional", "num_scales": 100, "sigma_max": 8.0}
    discrete = {**SCORE, "network": network, "continuous": False, "scales": 100}
    build(discrete)
    for change in ({"num_scales": 50}, {"sigma_max": 50.0}):
        with pytest.raises(ModelError, match="noise scales"):
            build({**discrete, "network": {**network, **change}})


def test_missing_parts_are_listed():
    with pytest.raises(ModelError, match="needs centered, network, sde"):
        ModelConfig.from_dict({"family": "score", "shape": [1, 8, 8]})


@pytest.fixture
def file(tmp_path):
    config = ModelConfig.from_dict(SCORE)
    save_model(tmp_path / "model.safetensors", config, config.networks())
    return tmp_path / "model.safetensors"


def test_a_file_with_other_tensors_is_refused(file):
    config = read_config(file)
    tensors = load_file(file)
    first = next(name for name in tensors if name.endswith("all_modules.3.weight"))
    tensors[first] = torch.zeros(2)
    tensors["surplus"] = torch.zeros(1)
    del tensors["network.sigmas"]
    save_file(tensors, file, metadata={"config": config.to_json()})
    with pytest.raises(ModelError, match="3 tensors differ") as caught:
        load_model(file)
    for part in ("network.sigmas is missing", "surplus is unknown", f"{first} is (2,) in place of"):
        assert part in str(caught.value)


def test_a_truncated_file_is_refused(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="only the beginning"):
        load_model(file)


def test_files_of_others_are_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not say what model it holds"):
        load_model(tmp_path / "other.safetensors")
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no safetensors file"):
        load_model(tmp_path / "other.pth")


def test_saving_networks_of_another_configuration_is_refused(tmp_path):
    networks = ModelConfig.from_dict(SCORE).networks()
    other = ModelConfig.from_dict({**SCORE, "network": {**NETWORK, "nf": 16}})
    with pytest.raises(ModelError, match="tensors differ"):
        save_model(tmp_path / "model.safetensors", other, networks)


def test_reading_a_model_does_not_import_the_compiler(file):
    """It takes longer to import than any model of the demo takes to read."""
    program = "import sys; from pathlib import Path; from sdesampling.models import load_model; "
    program += "load_model(Path(sys.argv[1])); assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)
