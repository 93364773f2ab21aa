"""Weights in the layouts of other projects: their configurations, their GANs, and wrong files."""

import json
from pathlib import Path

import pytest
import torch

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.added import NotAddedError, add_weights
from jobs.models.build import build_model
from jobs.models.resolve import resolve_model
from jobs.specs.spec import ModelSection
from sdesampling.checkpoints import CheckpointError
from sdesampling.configs import ModelError
from sdesampling.latent import Decoder, LatentModel
from sdesampling.networks.published import PUBLISHED
from sdesampling.score import ScoreModel

#: In the layout of score_sde's ml_collections, as far as it describes the model.
SCORE_SDE = {
    "data": {"dataset": "CIFAR10", "image_size": 16, "num_channels": 2, "centered": True},
    "model": {
        "name": "ncsnpp",
        "normalization": "GroupNorm",
        "nonlinearity": "swish",
        "nf": 8,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [8],
        "resamp_with_conv": True,
        "conditional": True,
        "fir": False,
        "fir_kernel": [1, 3, 3, 1],
        "skip_rescale": True,
        "resblock_type": "biggan",
        "progressive": "output_skip",
        "progressive_input": "input_skip",
        "progressive_combine": "cat",
        "attention_type": "ddpm",
        "embedding_type": "positional",
        "init_scale": 0.0,
        "conv_size": 3,
        "scale_by_sigma": False,
        "sigma_min": 0.01,
        "sigma_max": 50,
        "num_scales": 100,
        "beta_min": 0.2,
        "beta_max": 15.0,
        "dropout": 0.1,
        "ema_rate": 0.999,
    },
    "training": {"sde": "subvpsde", "continuous": True, "n_iters": 5},
}
NCSN = """
training: !!python/object:argparse.Namespace {algo: dsm, n_iters: 200001}
data: {dataset: MNIST, image_size: 28, channels: 1, logit_transform: false}
model: {sigma_begin: 1, sigma_end: 0.02, num_classes: 6, batch_norm: false, ngf: 4}
"""
NCSNV2 = """
data: {dataset: FFHQ, image_size: 16, channels: 3, logit_transform: false, rescaled: false}
model: {sigma_begin: 20, sigma_end: 1e-2, num_classes: 7, normalization: InstanceNorm++, ngf: 4, ema: true}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    return tmp_path


def by_formula(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names and shapes, filled with numbers that each tensor has of its own."""
    made = {}
    for place, (name, tensor) in enumerate(state.items()):
        values = torch.arange(tensor.numel(), dtype=torch.float64).add(place).sin().mul(0.05)
        made[name] = tensor if name == "sigmas" else values.reshape(tensor.shape).to(tensor.dtype)
    return made


def built(name: str, folder: Path):
    found = resolve_model(ModelSection(name=name), folder)
    assert found.missing == ()
    return build_model(found.thing, lambda digest: found.files[digest]), found.thing


def score_checkpoint(folder: Path, config: Path, step: int = 5) -> Path:
    from jobs.models.model_configs import read_model_config_file

    network = read_model_config_file(config).networks()["network"]
    raw = by_formula(network.state_dict())
    averages = [2 * raw[name] for name, each in network.named_parameters() if each.requires_grad]
    content = {
        "optimizer": {"state": {}, "param_groups": []},
        "model": {f"module.{name}": tensor for name, tensor in raw.items()},
        "ema": {"decay": 0.999, "num_updates": step, "shadow_params": averages},
        "step": step,
    }
    torch.save(content, folder / "checkpoint_1.pth")
    return folder / "checkpoint_1.pth"


def test_a_score_sde_checkpoint_of_another_variant_loads_with_its_configuration(folder: Path):
    (folder / "config.json").write_text(json.dumps(SCORE_SDE))
    added = add_weights(
        "mine/odd", [score_checkpoint(folder, folder / "config.json")], config=folder / "config.json"
    )
    assert added.source is not None
    assert (added.source["weights"], added.source["step"]) == ("ema", 5)
    model, thing = built("mine/odd", folder)
    assert isinstance(model, ScoreModel)
    assert model.shape == (2, 16, 16)
    assert (model.sde.family, model.sde.N, model.centered, model.continuous) == ("subvp", 100, True, True)
    assert (model.sde.beta_min, model.sde.beta_max) == (0.2, 15.0)
    assert thing.source is not None
    assert (thing.source.weights, thing.source.step) == ("ema", 5)
    assert "exponential moving averages at step 5" in str(thing.source)
    first = next(each for each in model.network.parameters())
    add_weights("mine/raw", [folder / "checkpoint_1.pth"], weights="raw", config=folder / "config.json")
    raw, _ = built("mine/raw", folder)
    torch.testing.assert_close(first, 2 * next(raw.network.parameters()))


def test_choices_of_score_sde_are_read_in_either_case(folder: Path):
    from jobs.models.model_configs import read_model_config_file

    capitals = {
        key: value.title() for key, value in SCORE_SDE["model"].items() if key.startswith("progressive")
    }
    model = {**SCORE_SDE["model"], **capitals, "resblock_type": "BigGAN"}
    for name, content in (("plain", SCORE_SDE), ("capitals", {**SCORE_SDE, "model": model})):
        (folder / name).write_text(json.dumps(content))
    assert read_model_config_file(folder / "plain") == read_model_config_file(folder / "capitals")


def test_a_ddpm_that_is_not_told_the_noise(folder: Path):
    model = {**SCORE_SDE["model"], "name": "ddpm", "nf": 32, "conditional": False}
    content = {**SCORE_SDE, "model": model, "training": {"sde": "vpsde", "continuous": False}}
    (folder / "config.json").write_text(json.dumps(content))
    add_weights(
        "mine/ddpm", [score_checkpoint(folder, folder / "config.json")], config=folder / "config.json"
    )
    found, _ = built("mine/ddpm", folder)
    x = torch.rand(2, 2, 16, 16)
    assert torch.equal(*found.network(x[:1].expand_as(x), torch.tensor([3.0, 90.0])))


def test_what_else_a_saved_diffusion_holds_is_said(folder: Path):
    from jobs.models.model_configs import read_model_config_file

    (folder / "config.json").write_text(json.dumps(SCORE_SDE))
    network = read_model_config_file(folder / "config.json").networks()["network"]
    state = {f"denoiser.{name}": tensor for name, tensor in by_formula(network.state_dict()).items()}
    torch.save({"betas": torch.ones(4), "alphas": torch.ones(4), **state}, folder / "diffusion.pth")
    added = add_weights("mine/part", [folder / "diffusion.pth"], config=folder / "config.json")
    assert added.note.endswith(f"; denoiser.* of {len(state) + 2} tensors, without betas, alphas")
    model, _ = built("mine/part", folder)
    assert torch.equal(model.network.all_modules[0].weight, state["denoiser.all_modules.0.weight"])


@pytest.mark.parametrize(("text", "name"), [(NCSN, "ncsn"), (NCSNV2, "ncsnv2")])
def test_ncsn_and_ncsnv2_load_with_their_yaml(folder: Path, text: str, name: str):
    from jobs.models.model_configs import read_model_config_file

    (folder / "config.yml").write_text(text)
    network = read_model_config_file(folder / "config.yml").networks()["network"]
    raw = {f"module.{key}": tensor for key, tensor in by_formula(network.state_dict()).items()}
    content = [raw, {"state": {}, "param_groups": []}]
    if name == "ncsnv2":
        averages = {key: 3 * each for key, each in raw.items() if not key.endswith("sigmas")}
        content += [3, 77, averages]
    torch.save(content, folder / "checkpoint.pth")
    added = add_weights(f"mine/{name}", [folder / "checkpoint.pth"], config=folder / "config.yml")
    model, thing = built(f"mine/{name}", folder)
    assert thing.source is not None
    assert thing.source.weights == ("ema" if name == "ncsnv2" else "raw")
    assert thing.source.step == (77 if name == "ncsnv2" else None)
    assert thing.scales == (7 if name == "ncsnv2" else 6)
    assert added.kind == ("NCSNv2" if name == "ncsnv2" else "NCSN")
    x = torch.rand(2, *model.shape)
    assert model.score(x, torch.tensor([1.0, 0.0])).shape == x.shape


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_plain_state_dict_with_this_projects_configuration(folder: Path, prefix: str):
    (folder / "config.yaml").write_text(
        "family: score\nshape: [1, 8, 8]\ncentered: true\ncontinuous: false\nscales: 50\n"
        "sde: {family: vp, beta_min: 0.1, beta_max: 20, N: 50}\n"
        "network: {name: ddpm, nf: 32, ch_mult: [1], num_res_blocks: 1, attn_resolutions: []}\n"
    )
    from jobs.models.model_configs import read_model_config_file

    config = read_model_config_file(folder / "config.yaml")
    state = {f"{prefix}{name}": each for name, each in config.networks()["network"].state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "step": 12}, folder / "weights.pth")
    added = add_weights("mine/plain", [folder / "weights.pth"], config=folder / "config.yaml")
    assert added.source is not None
    assert (added.source["weights"], added.source["step"]) == ("raw", 12)
    with pytest.raises(CheckpointError, match="has no averaged weights: ask for the raw ones"):
        add_weights("mine/plain", [folder / "weights.pth"], weights="ema", config=folder / "config.yaml")


@pytest.mark.parametrize("name", ["mnist_mlp_gan", "mnist_dcgan", "cifar10_dcgan", "cifar10_sngan"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_gan_is_added_from_two_files_in_any_order(folder: Path, name: str, turned: bool):
    files = []
    for role, network in PUBLISHED[name].networks().items():
        state: dict = by_formula(network.state_dict())
        if name == "cifar10_sngan":  # as torch_mimicry's save_checkpoint does
            state = {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "global_step": 100_000}
        torch.save(state, folder / f"{role}.pth")
        files.append(folder / f"{role}.pth")
    added = add_weights(name, files[::-1] if turned else files)
    assert added.source is not None
    assert set(added.source["sha256"]) == {"generator", "discriminator"}
    assert added.source["step"] == (100_000 if name == "cifar10_sngan" else None)
    model, thing = built(name, folder)
    assert isinstance(model, LatentModel)
    assert (thing.family, thing.shape) == ("latent", PUBLISHED[name].shape)
    with pytest.raises(NotAddedError, match="a file for each: got 1 files"):
        add_weights(name, files[:1])


def test_a_vae_gives_its_decoder_alone(folder: Path):
    state = dict(PUBLISHED["mnist_vae"].networks()["decoder"].state_dict())
    torch.save(state, folder / "decoder.pth")
    with pytest.raises(CheckpointError, match=r"the encoder's fc1\.bias"):
        add_weights("mnist_vae", [folder / "decoder.pth"])
    for layer, shape in (("fc1", (400, 784)), ("fc21", (20, 400)), ("fc22", (20, 400))):
        state |= {f"{layer}.weight": torch.zeros(shape), f"{layer}.bias": torch.zeros(shape[0])}
    torch.save(state, folder / "vae.pth")
    add_weights("mnist_vae", [folder / "vae.pth"])
    assert isinstance(built("mnist_vae", folder)[0], Decoder)


def test_real_weights_of_others(folder: Path):
    weights = Path(__file__).parents[3] / "shared" / "data" / "weights"
    if not weights.exists():
        pytest.skip(f"needs published weights, {weights}")
    add_weights("mnist_mlp_gan", sorted((weights / "mnist_mlp_gan").glob("*.ckpt")))
    add_weights("mnist_vae", [weights / "mnist_vae" / "vae_epoch_25.pth"])
    add_weights("cifar10-resnet20", [weights / "cifar10_resnet20" / "resnet20-12fca82f.th"])
    gan, _ = built("mnist_mlp_gan", folder)
    torch.manual_seed(0)
    assert 0.05 < gan.images(torch.randn(50, 64)).mean() < 0.25  # strokes on black


def test_a_state_dict_of_a_published_score_model_says_that_averages_are_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from jobs.models.model_configs import read_model_config_file

    (folder / "config.json").write_text(json.dumps(SCORE_SDE))
    config = read_model_config_file(folder / "config.json")
    monkeypatch.setitem(PUBLISHED, "subvp/tiny", config)
    torch.save(config.networks()["network"].state_dict(), folder / "raw.pth")
    with pytest.raises(CheckpointError, match="without the moving averages that subvp/tiny is sampled with"):
        add_weights("subvp/tiny", [folder / "raw.pth"])
    assert add_weights("subvp/tiny", [folder / "raw.pth"], weights="raw").source["weights"] == "raw"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**SCORE_SDE, "training": {"sde": "vdm"}}, "training.sde: 'vdm' is not one of vesde"),
        ({**SCORE_SDE, "model": {"name": "unet"}}, "model.name: 'unet' is not one of ncsnpp, ddpm"),
        ({**SCORE_SDE, "data": {"image_size": 8, "centered": True}}, "data.num_channels is missing"),
        (
            {**SCORE_SDE, "model": {**SCORE_SDE["model"], "conv_size": 5}},
            "model.conv_size = 5: only 3 is supported",
        ),
        (
            {"data": {}, "model": {"normalization": "InstanceNorm++", "nonlinearity": "relu"}},
            "model.nonlinearity = 'relu': only 'elu' is supported",
        ),
        (
            {**SCORE_SDE, "model": {**SCORE_SDE["model"], "name": "ncsnv2_64"}},
            "model.normalization = 'GroupNorm': only 'InstanceNorm\\+\\+' is supported",
        ),
        ({"what": 1}, "no configuration of a model: give `family`.*the keys here are what"),
        ({"family": "score"}, "a score model needs shape, centered, network, sde"),
        ([1], "a mapping of keys"),
    ],
)
def test_configurations_that_cannot_be_are_told_by_key(folder: Path, content, message):
    (folder / "config.json").write_text(json.dumps(content))
    torch.save({"a": torch.zeros(1)}, folder / "raw.pth")
    with pytest.raises((UnresolvedError, ModelError), match=message):
        add_weights("mine/x", [folder / "raw.pth"], config=folder / "config.json")


def test_a_configuration_that_is_no_text_and_one_that_is_not_there(folder: Path):
    torch.save({"a": torch.zeros(1)}, folder / "raw.pth")
    (folder / "config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnresolvedError, match="is no text"):
        add_weights("mine/x", [folder / "raw.pth"], config=folder / "config")
    with pytest.raises(FileNotFoundError, match="no such file"):
        add_weights("mine/x", [folder / "raw.pth"], config=folder / "absent")


def test_the_kind_of_a_wrong_file_is_named(folder: Path):
    generator = PUBLISHED["cifar10_sngan"].networks()["generator"]
    torch.save(generator.state_dict(), folder / "netG.pth")
    with pytest.raises(
        CheckpointError, match=r"it holds weights of SN-GAN \(the generator of cifar10_sngan\), not DDPM"
    ):
        add_weights("vp/cifar10_ddpm", [folder / "netG.pth"], weights="raw")
    (folder / "page.pth").write_text("<!doctype html><title>Sign in</title>")
    for name in ("inception", "vp/cifar10_ddpm"):
        with pytest.raises(CheckpointError, match="is an HTML page"):
            add_weights(name, [folder / "page.pth"])
    torch.save({"state": {}, "param_groups": []}, folder / "adam.pth")
    with pytest.raises(CheckpointError, match="holds no weights of a network, but the state of an optimizer"):
        add_weights("vp/cifar10_ddpm", [folder / "adam.pth"])
    with pytest.raises(NotAddedError, match=r"holds weights of SN-GAN .*, and no configuration"):
        add_weights("mine/x", [folder / "netG.pth"])
