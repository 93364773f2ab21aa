"""`sdesweep audit` as a user calls it: exit codes, the verdict, errors that say what to give."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cluster.cli import main
from jobs.inputs.datasets import read_digits


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, str]:
    """Held-out digits as they are, and with their values stretched."""
    folder = tmp_path_factory.mktemp("samples")
    images = read_digits("heldout").images
    stretched = np.clip(2.0 * images - 255, 0, 255).astype(np.uint8)
    for name, part in (("clean", images), ("stretched", stretched)):
        np.savez(folder / f"{name}.npz", images=part)
    return {name: str(folder / f"{name}.npz") for name in ("clean", "stretched")}


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["audit", *arguments])


def test_a_fault_is_named_and_the_exit_code_says_so(samples):
    found = invoke(
        samples["stretched"], "--reference", "digits-train", "--extractor", "digits-cnn", "--budget", "300"
    )
    assert found.exit_code == 1
    lines = found.stdout.splitlines()
    assert lines[0].startswith("FID[digits-cnn] ")
    assert lines[1].startswith("found H4")
    assert "values in [-1, 1] were taken for [0, 1]" in found.stdout


def test_nothing_is_found_in_a_clean_set_and_all_is_in_the_json(samples):
    found = invoke(samples["clean"], "--reference", "digits-train", "--extractor", "digits-cnn", "--json")
    assert found.exit_code == 0
    data = json.loads(found.stdout)
    assert data["verdict"].startswith("nothing found; ")
    assert {finding["test"] for finding in data["findings"]} == {f"H{number}" for number in range(1, 13)}


def test_what_is_missing_is_said(samples):
    none = invoke(samples["clean"], "--extractor", "digits-cnn")
    assert none.exit_code == 2
    assert "give --reference" in none.output
    unknown = invoke("nowhere", "--reference", "digits-train", "--extractor", "digits-cnn")
    assert unknown.exit_code == 2
    assert "nowhere is no file or folder" in unknown.output
