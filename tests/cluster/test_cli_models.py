"""`sdesweep models`: the commands, on a folder of their own and a server of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from commands import invoke
from http_server import Behaviour, serving

from sdesampling.networks.published import PUBLISHED


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def call(*arguments: object) -> tuple[int, str, str]:
    result = invoke("models", *arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def gan(folder: Path) -> list[Path]:
    torch.manual_seed(0)
    files = []
    for role, network in PUBLISHED["mnist_mlp_gan"].networks().items():
        torch.save(network.state_dict(), folder / f"{role}.ckpt")
        files.append(folder / f"{role}.ckpt")
    return files


def test_a_life_of_added_weights(gan: list[Path]):
    code, output, _ = call("add", *gan, "--as", "mnist_mlp_gan")
    assert code == 0
    assert "MLP GAN, 550,929 parameters" in output
    assert "raw weights of a state dict" in output
    code, output, _ = call("list", "--json")
    states = {each["name"]: each["state"] for each in json.loads(output)["weights"]}
    assert states["mnist_mlp_gan"] == "added"
    code, output, _ = call("show", "mnist_mlp_gan", "--json")
    assert json.loads(output)["config"]["latent_dim"] == 64
    assert call("verify", "mnist_mlp_gan")[:2] == (0, "mnist_mlp_gan: in order\n")
    code, output, _ = call("remove", "mnist_mlp_gan", "--json")
    assert len(json.loads(output)["removed"]["mnist_mlp_gan"]) == 2
    code, _, errors = call("remove", "mnist_mlp_gan")
    assert code == 2
    assert "is not here" in errors


def test_list_and_show_for_people(gan: list[Path]):
    _, output, _ = call("list")
    assert output.index("shipped:") < output.index("missing:")
    assert "models fetch inception" in output
    _, output, _ = call("show", "ve/cifar10_ncsnpp")
    assert "NCSN++, missing" in output
    assert "get it by hand from https://drive.google.com" in output


def test_a_damaged_file_gives_exit_code_1(gan: list[Path], folder: Path):
    call("add", *gan, "--as", "mnist_mlp_gan")
    (folder / "models" / "mnist_mlp_gan.safetensors").write_bytes(b"")
    code, output, _ = call("verify", "--json")
    found = json.loads(output)["weights"]
    assert code == 1
    assert found["digits-ve"] == []
    assert len(found["mnist_mlp_gan"]) == 2


def test_fetch_downloads_and_adds(folder: Path):
    state = PUBLISHED["mnist_mlp_gan"].networks()["generator"].state_dict()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "family": "decoder",
                "shape": [1, 28, 28],
                "centered": True,
                "decoder": {"name": "mnist_mlp_generator"},
                "latent_dim": 64,
            }
        )
    )
    torch.save(state, folder / "G.ckpt")
    content = (folder / "G.ckpt").read_bytes()
    with serving(Behaviour(content, cut_after=[100_000])) as url:
        code, output, _ = call(
            "fetch", f"{url}/some/G.ckpt", "--as", "mine/g", "--config", folder / "config.json"
        )
    assert code == 0
    assert f"fetched G.ckpt: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}" in output
    assert (folder / "models" / "mine" / "g.safetensors").is_file()
    assert list((folder / "models" / "downloads").iterdir()) == []


def test_fetch_to_a_file_and_with_a_wrong_digest(folder: Path):
    with serving(Behaviour(b"weights")) as url:
        code, output, _ = call("fetch", f"{url}/w", "--to", folder / "w", "--json")
        assert json.loads(output)["bytes"] == 7
        code, _, errors = call("fetch", f"{url}/w", "--to", folder / "w", "--sha256", "0" * 64)
    assert code == 2
    assert "has sha256" in errors
    assert "By hand: save" in errors


def test_what_cannot_be_added_is_kept(folder: Path):
    with serving(Behaviour(b"no weights")) as url:
        code, _, errors = call("fetch", f"{url}/w.pth", "--as", "vp/cifar10_ddpm")
    assert code == 2
    assert "of an unknown kind" in errors
    assert (folder / "models" / "downloads" / "w.pth").read_bytes() == b"no weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fetch", "vp/cifar10_ddpm"), "no address to fetch it from: get it by hand from https://drive"),
        (("fetch", "ve/cifar10_ddpm"), "its weights were never released"),
        (("fetch", "vp/cifar10_dpm"), "did you mean 'vp/cifar10_ddpm'?"),
        (("fetch", "http://x.org/a"), "needs either --as NAME, to be added, or --to FILE"),
        (("fetch", "inception", "--as", "b"), "are for URLs"),
        (("fetch", "ftp://x.org/a", "--to", "{folder}/a"), "is no http or https address"),
        (("show", "nothing"), "unknown weights"),
    ],
)
def test_wrong_requests(folder: Path, arguments, message):
    code, _, errors = call(*(part.format(folder=folder) for part in arguments))
    assert code == 2
    assert message in errors


def test_without_a_network_it_says_what_to_do_by_hand(monkeypatch: pytest.MonkeyPatch):
    from jobs.models import fetched
    from jobs.models.fetch import UnreachableError

    def unreachable(url: str, *arguments: object) -> None:
        raise UnreachableError(f"{url} cannot be fetched (no network)")

    monkeypatch.setattr(fetched, "fetch", unreachable)
    code, _, errors = call("fetch", "inception")
    assert code == 2
    assert "mseitzer/pytorch-fid" in errors
    assert "toshas/torch-fidelity" in errors
    assert "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2" in errors
    assert "models add pt_inception-2015-12-05-6726825d.pth --as inception" in errors
