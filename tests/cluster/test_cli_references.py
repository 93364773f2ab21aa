"""`sdesweep reference`: from files of every kind to names that specs know."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from jobs.inputs.datasets import read_digits
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import expand


@pytest.fixture
def digits(tmp_path):
    """An npz of the held-out digits."""
    path = tmp_path / "digits.npz"
    np.savez(path, images=read_digits("heldout").images)
    return path


@pytest.fixture
def build(call, store, digits):
    def invoke(*arguments: object):
        return call("reference", "build", "mine", "--from", digits, "--store", store.url, *arguments)

    return invoke


def test_a_built_reference_is_listed_shown_verified_and_known_to_specs(call, store, build, spec):
    code, output, _ = build("--extractor", "digits-cnn", "--json")
    assert code == 0
    found = json.loads(output)
    assert (found["count"], found["features"][0]["complete"]) == (549, True)
    code, output, _ = call("reference", "list", "--store", store.url, "--json")
    assert code == 0
    listed = {item["name"]: item for item in json.loads(output)["references"]}
    assert listed.keys() == {"mine", "digits", "digits-train", "digits-heldout"}
    assert listed["mine"] == found
    code, output, _ = call("reference", "show", "mine", "--store", store.url)
    assert code == 0
    assert found["content"] in output
    assert "every metric" in output
    code, output, _ = call("reference", "verify", "mine", "--store", store.url, "--json")
    assert code == 0
    assert json.loads(output)["source"] == "the same"
    sweep = expand(load_spec(spec, {"reference": "mine", "store": store.url}))
    assert sweep.configurations[0].references[0].name == "mine"


def test_a_second_build_finds_everything_there(store, build):
    build("--extractor", "digits-cnn")
    files = sorted(store.root.glob("references/mine-*/features/**/*"))
    assert build("--extractor", "digits-cnn")[0] == 0
    assert sorted(store.root.glob("references/mine-*/features/**/*")) == files


def test_verify_quarantines_damage_and_the_next_build_makes_it_again(call, store, build):
    build("--extractor", "digits-cnn")
    (damaged,) = store.root.glob("references/mine-*/features/**/*.parquet")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    code, output, _ = call("reference", "verify", "mine", "--store", store.url)
    assert code == 1
    assert "quarantined as" in output
    assert json.loads(build("--extractor", "digits-cnn", "--json")[1])["features"][0]["complete"]
    assert call("reference", "verify", "mine", "--store", store.url)[0] == 0


def test_other_images_under_a_name_that_is_taken_are_refused(build, digits):
    build()
    np.savez(digits, images=read_digits("train").images)
    code, _, errors = build()
    assert code == 2
    assert "mine stands for other content already" in errors


def test_what_is_left_out_is_counted_and_said(call, store, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"good-{number}.png")
    Image.new("RGBA", (6, 6)).save(folder / "alpha.png")
    (folder / "corrupt.png").write_bytes((folder / "good-0.png").read_bytes()[:60])
    arguments = ("reference", "build", "theirs", "--from", folder, "--store", store.url)
    code, _, errors = call(*arguments)
    assert code == 2
    assert "alpha.png" in errors
    assert "corrupt.png" in errors
    code, output, _ = call(*arguments, "--skip-unreadable", "--json")
    assert code == 0
    found = json.loads(output)
    assert (found["count"], found["skipped"], len(found["left_out"])) == (4, 2, 2)


def test_imported_moments_say_what_they_are_good_for(call, store, tmp_path):
    rows = np.random.default_rng(0).standard_normal((200, 64))
    np.savez(tmp_path / "stats.npz", mu=rows.mean(axis=0), sigma=np.cov(rows, rowvar=False))
    arguments = ("--store", store.url, "--count", "200", "--extractor", "digits-cnn")
    code, output, _ = call("reference", "import", "theirs", "--from", tmp_path / "stats.npz", *arguments)
    assert code == 0
    assert "not kid" in output


def test_an_imported_reference_is_refused_where_it_cannot_be_used(call, store, tmp_path, spec):
    test_imported_moments_say_what_they_are_good_for(call, store, tmp_path)
    arguments = ("--store", store.url, "--set", "reference=theirs")
    assert call("plan", spec, *arguments)[0] == 0
    code, _, errors = call("plan", spec, *arguments, "--set", "metrics=[fid, kid]")
    assert code == 2
    assert "theirs is moments alone, which kid cannot use" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "Mine", "--from", "x.npz"), "'Mine' is no name"),
        (("build", "mine", "--from", "absent.npz"), "no such file or folder"),
        (
            ("build", "mine", "--from", "datasets:mnist", "--split", "train"),
            "pip install 'sdesweep[datasets]'",
        ),
        (("build", "mine", "--from", "x", "--extractor", "digits-cmm"), "did you mean 'digits-cnn'?"),
        (
            ("build", "mine", "--from", "x", "--extractor", "Digits"),
            "--extractor Digits: String should match",
        ),
        (("build", "mine", "--from", "x", "--extractor", "inception-lanczos"), "departures from the usual"),
        (("show", "nothing"), "no reference of that name in the store"),
    ],
)
def test_wrong_requests_are_told_in_a_line(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    code, _, errors = call("reference", *arguments)
    assert code == 2
    assert message in errors
