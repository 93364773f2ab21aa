"""Folders of diffusers pipelines: what their files say and, with the library installed, the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.added import add_weights
from jobs.models.build import build_model
from jobs.models.pipelines import read_pipeline
from jobs.models.resolve import resolve_model
from jobs.specs.spec import ModelSection
from sdesampling.configs import ScoreConfig
from sdesampling.score import ScoreModel

UNET = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.35.1",
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
VE_UNET = {**UNET, "time_embedding_type": "fourier", "center_input_sample": True}
DDPM = {"_class_name": "DDPMScheduler", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000}
DDIM = {**DDPM, "_class_name": "DDIMScheduler", "clip_sample": False}
VE = {"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 90.0, "num_train_timesteps": 500}
VP = {"_class_name": "ScoreSdeVpScheduler", "num_train_timesteps": 1000, "beta_min": 0.1, "beta_max": 18}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    return tmp_path


def written(folder: Path, unet: dict, scheduler: dict, flat: bool = False) -> Path:
    """A pipeline's folder, with weights of nothing."""
    pipeline = folder / "pipeline"
    network = pipeline if flat else pipeline / "unet"
    network.mkdir(parents=True)
    schedulers = pipeline if flat else pipeline / "scheduler"
    schedulers.mkdir(exist_ok=True)
    (network / "config.json").write_text(json.dumps(unet))
    (schedulers / "scheduler_config.json").write_text(json.dumps(scheduler))
    (network / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    return pipeline


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("unet", "scheduler", "sde", "continuous"),
    [
        (UNET, DDPM, {"family": "vp", "beta_min": 0.1, "beta_max": 20.0, "N": 1000}, False),
        (
            UNET,
            {**DDPM, "_class_name": "DDIMScheduler"},
            {"family": "vp", "beta_min": 0.1, "beta_max": 20.0, "N": 1000},
            False,
        ),
        (VE_UNET, VE, {"family": "ve", "sigma_min": 0.01, "sigma_max": 90.0, "N": 500}, True),
        (UNET, VP, {"family": "vp", "beta_min": 0.1, "beta_max": 18.0, "N": 1000}, True),
    ],
)
def test_the_sde_is_that_of_the_scheduler(folder: Path, unet, scheduler, sde, continuous, flat):
    config, weights = read_pipeline(written(folder, unet, scheduler, flat))
    assert isinstance(config, ScoreConfig)
    assert config.sde == pytest.approx(sde)
    assert config.continuous == continuous
    assert config.scales == (None if continuous else 1000)
    assert config.centered == (sde["family"] == "vp")
    assert config.shape == (3, 16, 16)
    assert weights.name == "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("unet", "scheduler", "message"),
    [
        ({**UNET, "_class_name": "UNet2DConditionModel"}, DDPM, "a UNet2DConditionModel: only UNet2DModel"),
        ({**UNET, "num_class_embeds": 10}, DDPM, "conditioned on classes"),
        ({**UNET, "sample_size": [16, 8]}, DDPM, r"sample_size = \[16, 8\]"),
        (UNET, VE, "time_embedding_type fourier"),
        (UNET, {**VP, "num_train_timesteps": 2000}, "only 1000 is supported"),
        (
            UNET,
            {**DDPM, "prediction_type": "v_prediction"},
            "'v_prediction' of the scheduler: only 'epsilon'",
        ),
        (UNET, {**DDPM, "beta_schedule": "scaled_linear"}, "only 'linear' is supported"),
        (UNET, {"_class_name": "KarrasVeScheduler"}, "scheduler 'KarrasVeScheduler': the SDE is known for"),
    ],
)
def test_pipelines_that_are_something_else_are_refused(folder: Path, unet, scheduler, message):
    with pytest.raises(UnresolvedError, match=message):
        read_pipeline(written(folder, unet, scheduler))


def test_folders_that_lack_a_file(folder: Path):
    with pytest.raises(UnresolvedError, match=r"no folder of a diffusers pipeline: config\.json is missing"):
        read_pipeline(folder)
    pipeline = written(folder, UNET, DDPM)
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UnresolvedError, match=r"has no weights .*; it holds config\.json"):
        read_pipeline(pipeline)
    (pipeline / "scheduler" / "scheduler_config.json").write_text("[")
    with pytest.raises(UnresolvedError, match="is no JSON"):
        read_pipeline(pipeline)


def test_without_the_library_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    from jobs.models import plugins

    monkeypatch.setitem(plugins.EXTRAS, "diffusers_unet", "not-installed-anywhere")
    with pytest.raises(UnresolvedError, match=r"pip install 'sdesweep\[not-installed-anywhere\]'"):
        add_weights("mine/pipeline", [written(folder, UNET, DDPM)])
    from sdesampling.networks import build_network

    with pytest.raises(ValueError, match=r"pip install 'sdesweep\[diffusers\]'"):
        build_network("diffusers_unet", image_size=16, num_channels=3, unet=UNET)


@pytest.mark.parametrize(("unet", "scheduler"), [(UNET, DDPM), (VE_UNET, VE), (UNET, VP)])
def test_a_pipeline_gives_the_librarys_own_outputs(folder: Path, unet, scheduler):
    import diffusers  # takes seconds

    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**{key: value for key, value in unet.items() if key[0] != "_"}).eval()
    pipeline = folder / "pipeline"
    network.save_pretrained(pipeline / "unet")
    (pipeline / "scheduler").mkdir()
    (pipeline / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    added = add_weights("mine/pipeline", [pipeline])
    assert added.kind == "UNet2DModel of diffusers"
    found = resolve_model(ModelSection(name="mine/pipeline"), folder)
    assert found.thing.plugins == ("diffusers_unet",)
    model = build_model(found.thing, lambda digest: found.files[digest])
    assert isinstance(model, ScoreModel)
    x, t = torch.rand(2, 3, 16, 16), torch.tensor([0.9, 0.3])
    with torch.no_grad():
        if scheduler is VE:  # the sample over sigma is the score
            expected = network(x, model.sde.std(t)).sample
        else:
            labels = t * 999
            expected = -network(x, labels).sample / model.marginal(t)[1][:, None, None, None]
        torch.testing.assert_close(model.score(x, t), expected)
