"""Bits per dimension as a user gets them: the library's own numbers, resumable part by part."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cluster.cli import main
from jobs.inputs.datasets import read_dataset
from jobs.inspection.likelihoods import LikelihoodRequest, UnfitError, gather, make_parts, missing_parts
from jobs.models.resolve import resolve_model
from jobs.specs.spec import ModelSection
from jobs.store_local import LocalStore
from sdesampling.analytic import GaussianNetwork
from sdesampling.dormand_prince import DormandPrince
from sdesampling.likelihood import dequantise, likelihood
from sdesampling.noise import NoiseStream
from sdesampling.sde import VP

SETTINGS = {"passes": 2, "group_size": 4, "eps": 1e-3, "rtol": 1e-3, "atol": 1e-3}


def request(**changes) -> LikelihoodRequest:
    model = resolve_model(ModelSection(name="digits-vp"), Path()).thing
    content = read_dataset("digits-heldout").content_hash
    return LikelihoodRequest(model=model, content=content, **{"images": 10, **SETTINGS, **changes})


def gaussian():
    return GaussianNetwork(VP(), torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.5)).model()


def run(store, asked, parts, model=None):
    make_parts(store, asked, parts, model or gaussian(), read_dataset("digits-heldout"), lambda more: None)


def test_parts_made_in_any_order_give_the_librarys_numbers(tmp_path):
    store, asked = LocalStore(tmp_path), request()
    parts = missing_parts(store, asked)
    assert parts == [(n, range(a, min(a + 4, 10))) for n in (0, 1) for a in (0, 4, 8)]
    run(store, asked, parts[::-2])
    with pytest.raises(FileNotFoundError):
        gather(store, asked)
    assert missing_parts(store, asked) == parts[::2]
    run(store, asked, parts[::2])
    found = gather(store, asked)
    images, solver = torch.from_numpy(read_dataset("digits-heldout").images), DormandPrince(1e-3, 1e-3)
    bits = np.empty((2, 10))
    for number, group in parts:
        noise = NoiseStream(0, number, group)
        data = dequantise(images[group.start : group.stop], noise)
        bits[number, group.start : group.stop] = likelihood(
            gaussian(), data, noise, solver=solver, eps=1e-3
        ).bits_per_dimension
    assert found.mean == pytest.approx(bits.mean(), abs=1e-12)
    assert found.passes == pytest.approx(bits.mean(axis=1), abs=1e-12)
    assert found.standard_error == pytest.approx(bits.mean(axis=0).std(ddof=1) / 10**0.5)


def test_more_images_and_passes_keep_the_parts_that_are_there(tmp_path):
    store = LocalStore(tmp_path)
    run(store, request(images=8), missing_parts(store, request(images=8)))
    left = missing_parts(store, request(images=12, passes=3))
    assert [(n, group.start) for n, group in left] == [(0, 8), (1, 8), (2, 0), (2, 4), (2, 8)]
    assert missing_parts(store, request(images=8, seed=1)) == request(images=8).parts


def test_damaged_parts_are_named(tmp_path):
    store, asked = LocalStore(tmp_path), request(images=4, passes=1)
    run(store, asked, asked.parts)
    (file,) = tmp_path.glob("likelihoods/*/*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "bits": content["bits"][:-1]}))
    with pytest.raises(UnfitError, match=r"0-0-4\.json does not hold 4 finite numbers: delete it"):
        gather(store, asked)
    file.write_text("{")
    with pytest.raises(UnfitError, match=r"0-0-4\.json is damaged"):
        gather(store, asked)


def invoke(*arguments):
    return CliRunner().invoke(main, ["likelihood", *map(str, arguments)])


def test_the_command_in_two_shares(tmp_path):
    common = ["digits-vp", "digits-heldout", "--images", 8, "--group-size", 4, "--store", tmp_path, "--json"]
    common += ["--rtol", 0.01, "--atol", 0.01, "--eps", 0.01]
    first = invoke(*common, "--share", "1/2")
    assert (first.exit_code, json.loads(first.output)["groups_left"]) == (75, 1)
    second = invoke(*common, "--share", "2/2")
    assert second.exit_code == 0, second.output
    found = json.loads(second.output)
    assert found["images"] == 8
    assert 0 < found["mean"] < 8
    assert found["standard_error"] > 0
    assert found["evaluations"] > 20
    assert json.loads(invoke(*common).output) == found  # nothing is left to compute


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits-gan", "digits-heldout"), "digits-gan is no score model"),
        (("digits-vq", "digits-heldout"), "unknown model"),
        (("digits-vp", "digitz"), "unknown data set 'digitz'"),
        (("digits-vp", "digits-heldout", "--images", 550), "--images 550: digits-heldout has 549"),
        (("digits-vp", "digits-heldout", "--share", "3/2"), "--share 3/2: write I/N"),
        (("vp/cifar10_ddpm_continuous", "digits"), "the weights of vp/cifar10_ddpm_continuous are not here"),
        (("digits-vp", "digits", "--eps", "2"), "eps 2: must be below 1"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path))
    result = invoke(*arguments, "--store", tmp_path / "store")
    assert result.exit_code == 2
    assert message in result.output
