"""What weights there are, where to get the others, and the care of those that were added."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models import catalog, inventory
from jobs.models.added import add_weights
from sdesampling.networks.published import PUBLISHED


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def vae(folder: Path) -> str:
    state = dict(PUBLISHED["mnist_vae"].networks()["decoder"].state_dict())
    for layer in ("fc1", "fc21", "fc22"):
        state |= {f"{layer}.weight": torch.zeros(1, 1), f"{layer}.bias": torch.zeros(1)}
    torch.save(state, folder / "vae.pth")
    return add_weights("mnist_vae", [folder / "vae.pth"]).name


def test_everything_is_shipped_added_or_missing_with_where_to_get_it(vae: str):
    found = {each.name: each for each in inventory.entries()}
    assert found["digits-ve"].state == "shipped"
    assert found["digits-cnn"].kind == "extractor"
    assert found["digits-gan"].kind == "DCGAN"
    assert (found[vae].state, found[vae].kind) == ("added", "VAE")
    assert found[vae].source is not None
    assert "raw weights of a state dict" in str(found[vae].source)
    missing = {name: each for name, each in found.items() if each.state == "missing"}
    assert {"vp/cifar10_ddpm", "cifar10_sngan", "inception", "mnist-lenet"} <= missing.keys()
    assert all(each.origin for each in missing.values())
    assert "never released" in missing["ve/cifar10_ddpm"].origin
    assert "models fetch inception" in missing["inception"].origin
    assert "drive.google.com" in missing["vp/cifar10_ddpmpp"].origin


def test_shipped_weights_are_what_was_trained():
    for name in (*catalog.EMBEDDED_MODELS, "digits-cnn"):
        assert inventory.verify(name) == []


def test_a_changed_byte_is_found(vae: str):
    assert inventory.verify(vae) == []
    path = inventory.entry(vae).path
    assert path is not None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (problem,) = inventory.verify(vae)
    assert "has sha256" in problem
    path.write_bytes(content[:2000])
    assert len(inventory.verify(vae)) == 2
    assert inventory.entry(vae).state == "added"
    catalog.record_of(path).unlink()
    assert "no record of its sha256" in inventory.verify(vae)[0]


def test_a_damaged_file_does_not_hide_the_others(folder: Path, vae: str):
    (folder / "models" / "bad.safetensors").write_bytes(b"what")
    found = {each.name: each for each in inventory.entries()}
    assert found["bad"].kind.startswith("damaged")
    assert vae in found


def test_removing_takes_file_and_record_and_nothing_that_is_shipped(folder: Path, vae: str):
    assert len(inventory.remove(vae)) == 2
    assert inventory.entry(vae).state == "missing"
    assert [path for path in (folder / "models").rglob("*") if path.is_file()] == []
    for name, message in ((vae, "is not here"), ("digits-ve", "is shipped"), ("digits-v", "did you mean")):
        with pytest.raises(UnresolvedError, match=message):
            inventory.remove(name)


def test_missing_weights_cannot_be_verified():
    assert "not here" in inventory.verify("inception")[0]


def test_every_origin_is_of_weights_that_are_known():
    from jobs.models.origins import ORIGINS

    known = {each.name for each in inventory.entries()}
    assert ORIGINS.keys() <= known
    for origin in ORIGINS.values():
        for file in origin.files:
            assert all(url.startswith("https://") for url in (*file.urls, origin.page))
            if file.sha256 and "-" in file.name:  # torch.hub's habit: the file is named by its digest
                digits = file.name.rpartition(".")[0].rpartition("-")[2]
                assert len(digits) != 8 or file.sha256.startswith(digits)


def test_entries_can_be_written_as_json(vae: str):
    from cluster.cli.models import _data

    assert json.loads(json.dumps([_data(each) for each in inventory.entries()]))
