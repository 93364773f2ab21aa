"""Weights that a user brings in: checked, converted or copied, then found by name."""

import dataclasses
from pathlib import Path

import pytest
import torch

from jobs.models import catalog
from jobs.models.added import NotAddedError, add_weights
from jobs.models.build import build_model
from jobs.models.resolve import resolve_model
from jobs.specs.spec import ModelSection
from sdesampling.checkpoints import CheckpointError
from sdesampling.configs import ScoreConfig
from sdesampling.models import save_model
from sdesampling.networks.published import PUBLISHED
from sdesampling.score import ScoreModel

TINY = ScoreConfig(
    shape=(1, 8, 8),
    centered=False,
    network={
        "name": "ncsnpp",
        "nf": 8,
        "ch_mult": [1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "embedding_type": "fourier",
    },
    sde={"family": "ve", "sigma_min": 0.01, "sigma_max": 8.0},
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(PUBLISHED, "ve/tiny", TINY)
    wider = dataclasses.replace(TINY, network={**TINY.network, "nf": 16})
    monkeypatch.setitem(PUBLISHED, "ve/wider", wider)
    catalog.published.cache_clear()
    yield tmp_path
    catalog.published.cache_clear()


def checkpoint(folder: Path) -> tuple[Path, torch.nn.Module]:
    """A training state in score_sde's layout; its averages are twice its raw weights."""
    torch.manual_seed(0)
    network = TINY.networks()["network"]
    averages = [2 * each.detach() for each in network.parameters() if each.requires_grad]
    state = {f"module.{name}": each for name, each in network.state_dict().items()}
    content = {
        "model": state,
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": averages},
        "step": 7,
    }
    torch.save({**content, "optimizer": {}}, folder / "checkpoint_8.pth")
    return folder / "checkpoint_8.pth", network


@pytest.mark.parametrize(("weights", "factor"), [("ema", 2), ("raw", 1)])
def test_a_published_checkpoint_is_converted_and_found_by_its_name(folder: Path, weights, factor: int):
    file, network = checkpoint(folder)
    before = resolve_model(ModelSection(name="ve/tiny"), folder)
    assert before.missing
    added = add_weights("ve/tiny", [file], weights)
    assert "step 7" in added.note
    found = resolve_model(ModelSection(name="ve/tiny"), folder)
    assert found.missing == ()
    assert found.thing.weights == {"model": added.sha256}
    model = build_model(found.thing, lambda digest: found.files[digest])
    assert isinstance(model, ScoreModel)
    first = next(each for each in network.parameters() if each.requires_grad)
    again = next(
        each
        for (name, each), (_, own) in zip(
            model.network.named_parameters(), network.named_parameters(), strict=True
        )
        if own.requires_grad
    )
    torch.testing.assert_close(again, factor * first.detach(), rtol=0, atol=0)


def test_an_own_model_is_copied(folder: Path):
    save_model(folder / "mine.safetensors", TINY, TINY.networks())
    add_weights("mine/first", [folder / "mine.safetensors"])
    assert "mine/first" in catalog.model_names()
    assert resolve_model(ModelSection(name="mine/first"), folder).thing.sde == "ve"


def test_an_extractor_is_checked_and_copied(folder: Path):
    shipped = catalog.WEIGHTS / "digits-cnn.safetensors"
    add_weights("digits-cnn", [shipped])
    with pytest.raises(ValueError, match="LeNet"):
        add_weights("mnist-lenet", [shipped])


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a//b", "a/../b", "", "Upper"])
def test_names_cannot_leave_the_folder(folder: Path, name: str):
    save_model(folder / "mine.safetensors", TINY, TINY.networks())
    with pytest.raises(NotAddedError, match="is no name"):
        add_weights(name, [folder / "mine.safetensors"])


def test_what_does_not_fit_its_name_leaves_nothing_behind(folder: Path):
    file, _ = checkpoint(folder)
    with pytest.raises(CheckpointError, match="differ"):
        add_weights("ve/wider", [file])
    with pytest.raises(NotAddedError, match="no configuration: give it with --config"):
        add_weights("mine", [file])
    with pytest.raises(NotAddedError, match="shipped"):
        add_weights("digits-ve", [file])
    with pytest.raises(FileNotFoundError):
        add_weights("ve/tiny", [folder / "absent"])
    save_model(folder / "mine.safetensors", TINY, TINY.networks())
    with pytest.raises(NotAddedError, match="another model"):
        add_weights("ve/wider", [folder / "mine.safetensors"])
    assert [path for path in (folder / "models").rglob("*") if path.is_file()] == []
