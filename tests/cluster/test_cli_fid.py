"""`sdesweep fid`: the numbers of the reference implementations, sets of every kind, and one complete line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from inception_weights import GOLDEN, write_formula_made
from PIL import Image

from fid.frechet import frechet_distance
from fid.moments import Moments
from jobs.inputs.datasets import read_digits
from jobs.scores.fidline import read_line
from jobs.scores.results import Result, SetResult

DIGITS = read_digits("heldout").images


def result_of(data: dict) -> SetResult:
    """The typed result of the command's JSON form."""
    found = read_line(json.dumps(data))
    assert isinstance(found, SetResult)
    return found


@pytest.fixture
def npz(tmp_path):
    """Write images as an npz archive; returns its path."""

    def write(name: str, images: np.ndarray):
        path = tmp_path / f"{name}.npz"
        np.savez(path, images=images)
        return path

    return write


@pytest.fixture
def fid(call, store):
    """Call the command by the digits' extractor; return the result's data."""

    def invoke(first, second, *arguments):
        options = ("--extractor", "digits-cnn", "--store", store.url, "--json", *arguments)
        code, output, errors = call("fid", first, second, *options)
        assert code == 0, errors or output
        return json.loads(output)

    return invoke


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    write_formula_made(path)
    return path


def test_the_distance_is_that_of_the_reference_implementations_features(call, store, npz, inception):
    """Four golden images, two on a side; the lower block, as decompositions of 2,048 take seconds."""
    numbers = np.load(GOLDEN / "fid_inception.npz")
    images = numbers["inception/images_u8"]
    features = numbers["inception/torch_fidelity_192"].astype(np.float64)
    sets = (npz("first", images[:2]), npz("second", images[2:]))
    options = ("--extractor", f"inception-pool192={inception}", "--store", store.url, "--json")
    code, output, _ = call("fid", *sets, *options)
    assert code == 0
    data = json.loads(output)
    score = data["result"]["stages"][0]["fid"]
    expected = frechet_distance(Moments.of(features[:2]), Moments.of(features[2:]))
    assert score["value"] == pytest.approx(expected.distance, rel=1e-4)
    assert score["mean_term"] == pytest.approx(expected.mean_term, rel=1e-4)
    assert data["sentence"].startswith("FID[inception pool192] ")
    assert not any(store.root.glob("models/*")), "two sets of files leave nothing in the store"


def test_the_same_images_in_every_form_give_the_same_number(fid, npz, tmp_path):
    images = DIGITS[:60]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{number:03d}.png")
    idx = tmp_path / "t10k-images-idx3-ubyte"
    head = b"".join(number.to_bytes(4) for number in (0x803, 60, 8, 8))
    idx.write_bytes(head + images.tobytes())
    found = [fid(path, "digits-train")["result"] for path in (npz("a", images), folder, idx, f"{idx}:test")]
    assert len({json.dumps(result["stages"]) for result in found}) == 1
    assert len({result["generated"]["content"] for result in found}) == 1
    assert found[3]["generated"]["split"] == "test"


def test_a_configurations_stored_images_give_the_scores_of_its_run(fid, call, filled):
    """With the sweep's own extractor nothing is extracted; the reference is found by its name."""
    path = next(filled.root.glob("tiny/*/results/*.json"))
    result = Result.model_validate_json(path.read_text())
    found = result_of(fid(f"tiny/{result.fingerprint[:10]}", "digits-train"))
    assert found.final.fid == result.final.fid
    assert found.final.features == result.final.features
    assert found.generated.configuration == result.configuration


def test_images_are_extracted_again_where_features_are_not_there(fid, filled):
    path = next(filled.root.glob("tiny/*/results/*.json"))
    result = Result.model_validate_json(path.read_text())
    for marker in filled.root.glob(f"tiny/{result.fingerprint}/features/**/*.json"):
        marker.unlink()
    found = result_of(fid(f"tiny/{result.fingerprint}", "digits-train"))
    assert found.final == result.final


def test_missing_images_are_named(call, filled):
    marker = sorted(filled.root.glob("tiny/*/images/**/*.json"))[1]
    marker.unlink()
    fingerprint = marker.relative_to(filled.root).parts[1]
    options = ("--extractor", "digits-cnn", "--store", filled.url)
    code, _, errors = call("fid", f"tiny/{fingerprint}", "digits-train", *options)
    assert code == 2
    assert "lacks 16 of 40 images: [16, 32); `sdesweep resume tiny` makes them" in errors


def test_all_metrics_and_why_one_is_missing(fid, npz):
    data = fid(npz("a", DIGITS[:200]), "digits-train", "--metrics", "all")
    scores = result_of(data).final
    assert scores.kid.value == pytest.approx(0, abs=50)
    assert None not in (scores.inception_score, scores.precision_recall, scores.density_coverage)
    assert scores.memorisation is not None
    assert scores.fid_infinity is None
    assert "fid_infinity needs at least 780 images, there are 200" in data["result"]["warnings"]


def test_the_kind_of_standard_error_is_chosen_and_named(fid, npz):
    images = npz("a", DIGITS[:200])
    usual = fid(images, "digits-train")
    other = fid(images, "digits-train", "--standard-error", "bootstrap")
    assert "infinitesimal jackknife" in usual["facts"]["standard error"]
    assert other["facts"]["standard error"].endswith("bootstrap, 100 resamples, seed 0")
    first, second = (data["result"]["stages"][0]["fid"] for data in (usual, other))
    assert first["value"] == second["value"]
    assert first["standard_error"] < second["standard_error"] < 3 * first["standard_error"]


def test_a_metric_that_was_asked_for_and_cannot_be_had_is_an_error(call, store, npz):
    options = ("--extractor", "digits-cnn", "--store", store.url, "--metrics", "fid,fid_infinity")
    code, _, errors = call("fid", npz("a", DIGITS[:200]), "digits-train", *options)
    assert code == 2
    assert "fid_infinity needs at least 780 images" in errors


def test_a_reference_of_a_single_image_has_no_covariance(call, store, npz):
    ours, one = npz("ours", DIGITS[:40]), npz("one", DIGITS[50:51])
    options = ("--extractor", "digits-cnn", "--store", store.url)
    code, _, errors = call("fid", ours, one, *options)
    assert code == 2
    assert "fid needs a reference of at least 2 images, it has 1" in errors


def test_a_set_against_itself_in_another_order_is_no_distance_away(fid, npz):
    found = fid(npz("ours", DIGITS[:100]), npz("again", DIGITS[99::-1]))["result"]["stages"][0]["fid"]
    assert (found["value"], found["mean_term"], found["trace_term"]) == (0, 0, 0)


def test_statistics_serve_on_either_side_where_they_are_enough(fid, call, npz, tmp_path, store):
    rows = np.random.default_rng(1).gamma(2.0, size=(300, 64)).astype(np.float32)
    mean, covariance = rows.mean(axis=0, dtype=np.float64), np.cov(rows.astype(np.float64), rowvar=False)
    np.savez(tmp_path / "stats.npz", mu=mean, sigma=covariance)
    np.savez(tmp_path / "raw.npz", pool_3=rows)
    images = npz("a", DIGITS[:200])
    by_moments = fid(images, tmp_path / "stats.npz", "--count", "300")["result"]
    by_features = fid(images, tmp_path / "raw.npz")["result"]
    values = [result["stages"][-1]["fid"]["value"] for result in (by_moments, by_features)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert by_moments["reference"]["imported"]
    other_way = fid(tmp_path / "stats.npz", images, "--count", "300")["result"]
    assert other_way["stages"][-1]["fid"]["value"] == pytest.approx(values[0], rel=1e-9)
    assert other_way["stages"][-1]["fid"]["standard_error"] is None
    options = ("--extractor", "digits-cnn", "--store", store.url)
    code, _, errors = call("fid", images, tmp_path / "stats.npz", *options)
    assert (code, "give --count" in errors) == (2, True)
    code, _, errors = call(
        "fid", images, tmp_path / "stats.npz", *options, "--count", "300", "--metrics", "kid"
    )
    assert (code, "kid needs the features of the reference" in errors) == (2, True)


def test_a_strangers_folder_is_refused_whole_or_read_with_a_count(call, fid, store, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number, image in enumerate(DIGITS[:80]):
        Image.fromarray(image[0]).save(folder / f"{number:03d}.png")
    Image.new("RGBA", (8, 8)).save(folder / "alpha.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep.png")
    Image.new("L", (9, 8)).save(folder / "large.png")
    (folder / "corrupt.png").write_bytes((folder / "000.png").read_bytes()[:40])
    options = ("--extractor", "digits-cnn", "--store", store.url)
    code, _, errors = call("fid", folder, "digits-train", *options)
    assert code == 2
    assert "4 of 84 images cannot be used" in errors
    assert all(f"{name}.png" in errors for name in ("alpha", "deep", "large", "corrupt"))
    data = fid(folder, "digits-train", "--skip-unreadable")
    assert (data["result"]["samples"], data["result"]["generated"]["left_out"]) == (80, 4)
    assert "4 images of" in data["sentence"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "digits-train"), "nowhere is no file or folder, no reference (digits"),
        (("digits-heldout", "tiny/abc"), "no sweep 'tiny'"),
        (("digits", "digits", "--metrics", "fidd"), "did you mean 'fid'?"),
        (("digits", "digits", "--metrics", ","), "name at least one"),
        (("digits", "digits", "--extractor", "inception"), "the weights of inception are not here"),
    ],
)
def test_wrong_requests_are_told_in_a_line(call, store, monkeypatch, arguments, message):
    monkeypatch.delenv("SDESWEEP_WEIGHTS_INCEPTION", raising=False)
    monkeypatch.setenv("SDESWEEP_MODELS", str(store.root))
    code, _, errors = call("fid", "--extractor", "digits-cnn", *arguments, "--store", store.url)
    assert code == 2
    assert message in errors


def test_images_that_the_extractor_does_not_read_are_told_in_a_line(call, store, npz):
    options = ("--extractor", "digits-cnn", "--store", store.url)
    colour = npz("colour", np.zeros((4, 3, 8, 8), np.uint8))
    code, _, errors = call("fid", colour, "digits-train", *options)
    assert (code, "reads 1 channels, got images with 3" in errors) == (2, True)
    code, _, errors = call("reference", "build", "colour", "--from", colour, *options)
    assert (code, "colour: digits-cnn reads 1 channels" in errors) == (2, True)


def test_a_name_that_is_a_path_too_is_ambiguous(call, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    options = ("--extractor", "digits-cnn", "--store", store.url)
    code, _, errors = call("fid", "digits", "digits-train", *options)
    assert (code, "write ./digits for the path" in errors) == (2, True)
