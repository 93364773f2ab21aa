"""`sdesweep export` and `compare`: what leaves the store is what was stored; what was stopped goes on."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.inputs.datasets import read_dataset
from jobs.inspection import export as exporting
from jobs.planning.lookup import find_configurations
from jobs.specs.configuration import Configuration
from jobs.storage.commit import DamageError

FORMATS = ("png", "npz", "huggingface")


@pytest.fixture
def real(filled) -> Configuration:
    """The configuration of real images: 40 held-out digits in a fixed order."""
    return next(item for item in find_configurations(filled, "tiny") if item.sampler.kind == "real")


def exported(call, filled, target, place, form, *options):
    return call("export", target, "--to", place, "--format", form, "--store", filled.url, *options)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_back_the_pixels_in_order(call, filled, real, tmp_path, form):
    place = tmp_path / "out" / "images"
    code, output, _ = exported(call, filled, f"tiny/{real.fingerprint[:9]}", place, form, "--json")
    assert code == 0
    (told,) = json.loads(output)["exported"]
    assert (told["images"], told["shape"], told["path"]) == (40, [1, 8, 8], str(place))
    source = place / "data" if form == "huggingface" else place
    expected = read_dataset("digits-heldout").images[:40]
    np.testing.assert_array_equal(read_dataset("mine", source).images, expected)
    assert not list(place.parent.glob("*.partial"))


def test_npz_has_the_layout_of_guided_diffusion(call, filled, real, tmp_path):
    exported(call, filled, f"tiny/{real.fingerprint}", tmp_path / "a.npz", "npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert list(archive) == ["arr_0"]
        assert (archive["arr_0"].shape, archive["arr_0"].dtype) == ((40, 8, 8, 1), np.uint8)


def test_the_data_set_says_by_its_schema_that_these_are_images(call, filled, real, tmp_path, monkeypatch):
    """What `datasets` reads: the schema's metadata, file names with the split, and the card."""
    monkeypatch.setattr(exporting, "FILE_ROWS", 16)
    monkeypatch.setattr(exporting, "ROW_GROUP", 10)
    exported(call, filled, f"tiny/{real.fingerprint}", tmp_path / "set", "huggingface")
    files = sorted((tmp_path / "set" / "data").iterdir())
    assert [path.name for path in files] == [f"train-0000{k}-of-00003.parquet" for k in range(3)]
    schema = pq.read_schema(files[0])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "index": {"dtype": "int64", "_type": "Value"}}
    index = [value for path in files for value in pq.read_table(path)["index"].to_pylist()]
    assert index == list(range(40))
    card = (tmp_path / "set" / "README.md").read_text()
    assert card.startswith("---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n")
    assert "num_examples: 40" in card
    assert real.fingerprint in card


def test_the_library_of_data_sets_loads_it(call, filled, real, tmp_path):
    import datasets  # takes seconds

    exported(call, filled, f"tiny/{real.fingerprint}", tmp_path / "set", "huggingface")
    rows = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    pixels = np.stack([np.asarray(row["image"]) for row in rows])
    np.testing.assert_array_equal(pixels[:, None], read_dataset("digits-heldout").images[:40])
    assert rows["index"][:3] == [0, 1, 2]


def test_a_sweep_is_exported_configuration_by_configuration(call, filled, tmp_path):
    code, output, _ = exported(call, filled, "tiny", tmp_path / "all", "png", "--json")
    assert code == 0
    assert len(json.loads(output)["exported"]) == len(list((tmp_path / "all").iterdir())) == 2


def test_nothing_is_overwritten(call, filled, real, tmp_path):
    target, place = f"tiny/{real.fingerprint}", tmp_path / "a"
    exported(call, filled, target, place, "png")
    (place / "000007.png").write_bytes((place / "000008.png").read_bytes())
    before = contents(place)
    for form in ("png", "npz", "huggingface"):
        code, _, errors = exported(call, filled, target, place, form)
        assert (code, f"{place} is there already and is something else" in errors) == (2, True)
    (place / "000007.png").write_bytes(b"damaged")
    assert exported(call, filled, target, place, "png")[0] == 2
    assert {**contents(place), "000007.png": before["000007.png"]} == before


def contents(place):
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_killed_export_left_is_done_again_to_the_same_bytes(call, filled, real, tmp_path, form):
    target = f"tiny/{real.fingerprint}"
    exported(call, filled, target, tmp_path / "straight", form)
    left = tmp_path / "killed.partial" / "images"
    left.mkdir(parents=True)
    (left / "000000.png").write_bytes(b"half of a fi")
    (left / "999999.png").write_bytes(b"of another export")
    code, output, _ = exported(call, filled, target, tmp_path / "killed", form, "--json")
    assert (code, json.loads(output)["exported"][0]["found"]) == (0, False)
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    code, output, _ = exported(call, filled, target, tmp_path / "killed", form)
    assert (code, "there already" in output) == (0, True)
    assert {path.name for path in tmp_path.iterdir()} >= {"killed", "straight"}
    assert not list(tmp_path.glob("*.partial"))


def test_an_export_of_a_sweep_that_was_stopped_goes_on(call, filled, tmp_path):
    exported(call, filled, "tiny", tmp_path / "all", "npz")
    expected = contents(tmp_path / "all")
    lost = sorted((tmp_path / "all").iterdir())[1]
    lost.unlink()
    code, output, _ = exported(call, filled, "tiny", tmp_path / "all", "npz", "--json")
    found = {item["path"]: item["found"] for item in json.loads(output)["exported"]}
    assert (code, sorted(found.values()), found[str(lost)]) == (0, [False, True], False)
    assert contents(tmp_path / "all") == expected


def test_two_exports_at_once_do_not_meet(call, filled, real, tmp_path):
    with exporting._whole(tmp_path / "a"):
        code, _, errors = exported(call, filled, f"tiny/{real.fingerprint}", tmp_path / "a", "png")
        assert (code, "a.partial: another export is writing it" in errors) == (2, True)
        assert (tmp_path / "a.partial").is_dir()
    assert list(tmp_path.glob("a*")) == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_breaks_off_leaves_nothing(filled, real, tmp_path, monkeypatch, form):
    read = exporting.committed_images
    calls = []

    def damaged(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise DamageError("a file is damaged")
        return read(*arguments)

    monkeypatch.setattr(exporting, "committed_images", damaged)
    with pytest.raises(DamageError):
        exporting.export_images(filled, real, tmp_path / "a", form)
    assert list(tmp_path.glob("a*")) == []


def test_missing_images_and_stages_are_named(call, filled, real, tmp_path):
    target = f"tiny/{real.fingerprint}"
    code, _, errors = exported(call, filled, target, tmp_path / "a", "png", "--step", "7")
    assert (code, "has no images after 7 steps; kept are 0" in errors) == (2, True)
    sorted(filled.root.glob(f"{target}/images/**/*.json"))[0].unlink()
    code, _, errors = exported(call, filled, target, tmp_path / "a", "png")
    assert (code, "lacks 16 of 40 images: [0, 16)" in errors) == (2, True)
    assert not list(tmp_path.glob("a*"))


def test_compare_ranks_a_sweep_and_refuses_what_is_not_comparable(call, filled, tmp_path):
    code, output, _ = call("compare", "tiny", "--store", filled.url, "--json")
    assert code == 0
    found = json.loads(output)
    assert [rank["name"].partition("(")[2] for rank in found["ranking"]] == [
        "real / score)",
        "noise / score)",
    ]
    assert found["ranking"][1]["distinct"]
    file = next(filled.root.glob("tiny/*/results/*.json"))
    other = json.loads(file.read_text())
    other["samples"] = 50_000
    (tmp_path / "theirs.json").write_text(json.dumps(other))
    code, output, _ = call("compare", file, tmp_path / "theirs.json", "--store", filled.url)
    assert code == 2
    assert "not comparable, and so not ranked: they differ in N generated" in output
    code, output, _ = call("compare", file, tmp_path / "theirs.json", "--store", filled.url, "--json")
    assert (code, json.loads(output)["comparable"], json.loads(output)["ranking"]) == (2, False, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", "--metric", "kid"), "has no kid, it has fid"),
        (("tiny", "--metric", "kidd"), "did you mean 'kid'?"),
        (("tiny", "{folder}/broken.json"), "is neither the results file of a configuration nor"),
        (("tiny", "--reference", "other"), "has 0 results (none that fits)"),
        (("nobody",), "no sweep 'nobody'"),
        (("{file}",), "needs two results at least"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(call, filled, tmp_path, arguments, message):
    (tmp_path / "broken.json").write_text('{"version": 1')
    file = next(filled.root.glob("tiny/*/results/*.json"))
    texts = [text.format(folder=tmp_path, file=file) for text in arguments]
    code, _, errors = call("compare", *texts, "--store", filled.url)
    assert (code, message in errors) == (2, True), errors


def test_damage_is_told_with_its_remedy(filled, call, tmp_path):
    damaged = next(filled.root.glob("tiny/*/images/**/*.parquet"))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    code, _, errors = call(
        "export", "tiny", "--to", tmp_path / "out", "--format", "npz", "--store", filled.url
    )
    assert code == 1
    assert f"{damaged.name} cannot be read" in errors
    assert "`sdesweep verify SWEEP`" in errors
