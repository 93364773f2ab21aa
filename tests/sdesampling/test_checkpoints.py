"""Checkpoints of score_sde and NCSN: which weights come out, and what is said about files of another kind."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from golden_networks import GOLDEN, golden_array, golden_config, relative_error
from torch import nn

from sdesampling.checkpoints import CheckpointError, read_checkpoint
from sdesampling.configs import ModelConfig
from sdesampling.models import load_model, save_model

DISCRETE = ModelConfig.from_dict(
    {
        "family": "score",
        "shape": [1, 8, 8],
        "centered": False,
        "network": {
            "name": "ncsnpp",
            "nf": 8,
            "ch_mult": [1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "embedding_type": "positional",
            "num_scales": 12,
        },
        "sde": {"family": "ve", "sigma_min": 0.01, "sigma_max": 50.0, "N": 12},
        "continuous": False,
        "scales": 12,
    }
)

FOURIER = GOLDEN / "networks_tiny_ve_fourier.pth"
NAME = "tiny_ve_fourier"


@pytest.fixture(scope="module")
def content():
    return torch.load(FOURIER, weights_only=True)


@pytest.fixture
def written(tmp_path):
    def write(content, **options):
        torch.save(content, tmp_path / "checkpoint.pth", **options)
        return tmp_path / "checkpoint.pth"

    return write


def test_what_a_score_sde_checkpoint_holds():
    checkpoint = read_checkpoint(FOURIER)
    assert checkpoint.step == 800
    assert checkpoint.sha256 == hashlib.sha256(FOURIER.read_bytes()).hexdigest()
    assert checkpoint.parameters == 190_835 + 1000  # those of the network and the noise scales


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_averaged_and_raw_weights_give_the_golden_outputs(weights):
    network = read_checkpoint(FOURIER).network(golden_config(NAME), weights)
    with torch.no_grad():
        y = network(golden_array(f"{NAME}/sigma_x"), golden_array(f"{NAME}/sigma_labels"))
    assert relative_error(y, golden_array(f"{NAME}/sigma_y_{weights}")) < 1e-5
    other = "raw" if weights == "ema" else "ema"
    assert relative_error(y, golden_array(f"{NAME}/sigma_y_{other}")) > 1e-3


def test_noise_scales_are_float32_whatever_the_checkpoint_has(content):
    assert content["model"]["module.sigmas"].dtype == torch.float64
    assert read_checkpoint(FOURIER).network(golden_config(NAME)).sigmas.dtype == torch.float32


def test_conversion_to_a_model_keeps_every_value(tmp_path):
    config = golden_config(NAME)
    network = read_checkpoint(FOURIER).network(config)
    save_model(tmp_path / "model.safetensors", config, {"network": network})
    model = load_model(tmp_path / "model.safetensors")
    x, sigma = golden_array(f"{NAME}/sigma_x"), golden_array(f"{NAME}/sigma_labels")
    with torch.no_grad():
        assert torch.equal(model.network(x, sigma), network(x, sigma))


def test_files_of_old_pytorch_versions_are_read(content, written):
    old = read_checkpoint(written(content, _use_new_zipfile_serialization=False))
    assert old.step == 800
    assert all(torch.equal(old.raw[name], value) for name, value in read_checkpoint(FOURIER).raw.items())


def test_averages_of_another_network_are_refused(content, written):
    shadow = content["ema"]["shadow_params"]
    for averages, message in (
        (shadow[:-1], "averaged tensors, but"),
        ([shadow[1], shadow[0], *shadow[2:]], "averaged weights: 2 tensors differ"),
    ):
        path = written({**content, "ema": {**content["ema"], "shadow_params": averages}})
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path).network(golden_config(NAME))


def test_another_configuration_is_refused_with_the_count_of_differences():
    config = golden_config(NAME)
    content = {**config.network, "nf": 32}
    other = ModelConfig.from_dict(
        {"family": "score", "shape": [3, 8, 8], "centered": False, "network": content, "sde": config.sde}
    )
    with pytest.raises(CheckpointError, match=r"tensors differ from the \d+ expected, first: all_mod"):
        read_checkpoint(FOURIER).network(other)


def test_the_published_model_that_a_checkpoint_is_of_is_named(content, written):
    from sdesampling.networks.published import PUBLISHED

    with torch.device("meta"):
        state = PUBLISHED["vp/cifar10_ddpm"].networks()["network"].state_dict()
    zeros = {f"module.{name}": torch.zeros(1).expand(tensor.shape) for name, tensor in state.items()}
    path = written({"model": zeros, "ema": content["ema"], "step": 1, "optimizer": {}})
    with pytest.raises(
        CheckpointError,
        match=r"holds weights of DDPM \(ve/cifar10_ddpm, vp/cifar10_ddpm.*, not NCSN\+\+: \d+ tensors differ",
    ):
        read_checkpoint(path).network(golden_config(NAME))


def test_other_noise_scales_are_refused():
    config = golden_config(NAME)
    other = ModelConfig.from_dict(
        {
            "family": "score",
            "shape": [3, 8, 8],
            "centered": False,
            "network": {**config.network, "sigma_max": 20.0},
            "sde": config.sde,
        }
    )
    with pytest.raises(CheckpointError, match=r"scales run from 50 to 0\.01, the configuration's from 20"):
        read_checkpoint(FOURIER).network(other)


def test_a_list_is_a_checkpoint_of_ncsn(content, written):
    checkpoint = read_checkpoint(written([content["model"], content["optimizer"]]))
    assert checkpoint.step is None
    checkpoint.network(golden_config(NAME), "raw")
    with pytest.raises(CheckpointError, match="no averaged weights: ask for the raw ones"):
        checkpoint.network(golden_config(NAME), "ema")


def test_ncsnv2_keeps_averages_by_name(content, written):
    averages = {name: torch.full_like(value, 0.5) for name, value in content["model"].items()}
    del averages["module.sigmas"]
    checkpoint = read_checkpoint(written([content["model"], content["optimizer"], 3, 77, averages]))
    assert checkpoint.step == 77
    network = checkpoint.network(golden_config(NAME))
    assert all((parameter == 0.5).all() for parameter in network.parameters())


class Code:
    """Something that a checkpoint must not hold."""


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda content: content["optimizer"], "the state of an optimizer"),
        (lambda content: {"epoch": 3}, "a mapping with the keys epoch"),
        (lambda content: [1, 2, 3], "a list of 3"),
        (lambda content: torch.zeros(2), "a Tensor"),
        (lambda content: Code(), "never loaded"),
        (lambda content: {**content, "ema": {}}, "no list of shadow_params"),
        (lambda content: {**content, "model": {"a": 1}}, "should hold the tensors of a network"),
    ],
)
def test_other_contents_are_named(content, written, part, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(written(part(content)))


def test_a_truncated_checkpoint_says_how_much_of_it_is_there(tmp_path):
    whole = FOURIER.read_bytes()
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(CheckpointError, match=r"truncated at about (59|60|61)%"):
        read_checkpoint(path)
    path.write_bytes(whole[:2000])
    with pytest.raises(CheckpointError, match="truncated: copy or download it again"):
        read_checkpoint(path)


def test_a_truncated_old_file_is_refused(content, written):
    path = written(content, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"truncated at about \d+%"):
        read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>", "is an HTML page"),
        (b"<html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5", "is a git-lfs pointer"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"\x89PNG\r\n", "is a PNG image"),
        (b"\xff\xfe\x00what", r"of an unknown kind: it starts with b'\\xff"),
        (b"\x10\0\0\0\0\0\0\0{}", "is truncated at 42%"),
        (b'\x20\0\0\0\0\0\0\0{"a": {', "safetensors file with a damaged or truncated header"),
        (pickle.dumps({"epoch": 3}, protocol=2), "is damaged or truncated"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(tmp_path, start, message):
    (tmp_path / "file").write_bytes(start)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_load_and_keep_the_noise_scales_of_their_configuration(tmp_path, dtype):
    network = DISCRETE.networks()["network"]
    state = {f"module.{name}": each.to(dtype) for name, each in network.state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    loaded = read_checkpoint(tmp_path / "half.pth").network(DISCRETE, "raw")
    assert torch.equal(loaded.sigmas, network.sigmas)
    assert all(
        torch.equal(each, network.get_parameter(name).to(dtype).float())
        for name, each in loaded.named_parameters()
    )


def test_noise_scales_that_older_code_did_not_store_are_those_of_the_configuration(tmp_path):
    network = DISCRETE.networks()["network"]
    state = {name: each for name, each in network.state_dict().items() if name != "sigmas"}
    torch.save(state, tmp_path / "older.pth")
    loaded = read_checkpoint(tmp_path / "older.pth").network(DISCRETE, "raw")
    assert torch.equal(loaded.sigmas, network.sigmas)


@pytest.mark.parametrize("prefix", ["module.module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    state = {f"{prefix}{name}": each for name, each in DISCRETE.networks()["network"].state_dict().items()}
    torch.save(state, tmp_path / "wrapped.pth")
    read_checkpoint(tmp_path / "wrapped.pth").network(DISCRETE, "raw")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight * float("nan"), "holds NaN or infinity"),
        (lambda weight: weight.to_sparse(), "is sparse, quantised or without numbers"),
        (lambda weight: weight.to("meta"), "is sparse, quantised or without numbers"),
        (lambda weight: weight.to(torch.complex64), "holds torch.complex64 in place of torch.float32"),
        (lambda weight: weight.int(), "holds torch.int32 in place of torch.float32"),
    ],
)
def test_tensors_that_are_no_weights_are_refused_by_name(tmp_path, change, message):
    state = DISCRETE.networks()["network"].state_dict()
    state["all_modules.2.weight"] = change(state["all_modules.2.weight"])
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=rf"its all_modules\.2\.weight {message}"):
        read_checkpoint(tmp_path / "wrong.pth").network(DISCRETE, "raw")


def test_a_byte_that_changed_on_the_way_is_noticed(tmp_path):
    path = tmp_path / "changed.pth"
    state = DISCRETE.networks()["network"].state_dict()
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    content[content.index(state["all_modules.2.weight"].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged .*: copy or download it again"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_single_numbers_of_numpy_are_plain_data(tmp_path, zipped):
    state = DISCRETE.networks()["network"].state_dict()
    content = {"state_dict": state, "best": np.float64(2.5), "epoch": np.int64(3)}
    torch.save(content, tmp_path / "numbers.pth", _use_new_zipfile_serialization=zipped)
    read_checkpoint(tmp_path / "numbers.pth").network(DISCRETE, "raw")


def layers():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def filled(tmp_path, network, weights="raw", **content):
    path = tmp_path / "training.pt"
    torch.save(content, path)
    return read_checkpoint(path).fill(network, weights, "the network")


def assert_same(network, expected):
    for name, tensor in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("prefix", ["model.", "nn_model.", "module.eps_model."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_network_is_found_inside_a_saved_diffusion(tmp_path, prefix, wrapped):
    trained = layers()
    saved = {f"{prefix}{name}": each for name, each in trained.state_dict().items()}
    other = nn.Sequential(layers()) if wrapped else layers()
    found = filled(tmp_path, other, model={"betas": torch.ones(5), **saved})
    assert_same(found[0] if wrapped else found, trained)


def test_a_network_that_is_there_twice_is_not_chosen(tmp_path):
    saved = {f"{part}.{name}": each for part in "ab" for name, each in layers().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"0\.weight is missing"):
        filled(tmp_path, layers(), model=saved)


def trained_and_averaged():
    """A network after a step, its averages by PyTorch, in which the running statistics are averaged too."""
    network = layers()
    averaged = torch.optim.swa_utils.AveragedModel(network, use_buffers=True)
    averaged.update_parameters(network)
    with torch.no_grad():
        for each in network.state_dict().values():
            each.add_(1)
    averaged.update_parameters(network)
    return network, averaged


def test_averages_by_pytorch_are_taken_with_their_statistics(tmp_path):
    network, averaged = trained_and_averaged()
    states = {"model": network.state_dict(), "model_ema": averaged.state_dict()}
    assert_same(filled(tmp_path, layers(), "ema", **states), averaged.module)
    assert_same(filled(tmp_path, layers(), "raw", **states), network)


def test_averages_by_ema_pytorch_are_told_from_the_raw_weights_beside_them(tmp_path):
    """Its file has the keys of a checkpoint of score_sde, whose averages are a list."""
    network, averaged = trained_and_averaged()
    ema = {"initted": torch.tensor(True), "step": torch.tensor(2)}
    ema |= {f"online_model.model.{name}": each for name, each in network.state_dict().items()}
    ema |= {f"ema_model.model.{name}": each for name, each in averaged.module.state_dict().items()}
    model = {f"model.{name}": each for name, each in network.state_dict().items()}
    found = filled(tmp_path, layers(), "ema", step=7, model={**model, "betas": torch.ones(3)}, ema=ema)
    assert_same(found, averaged.module)
