"""The FID line states everything, and only what measures the same thing is ranked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scored import configuration, demonstration, fill, prepare, sweep_of

from fid.moments import Moments
from jobs.report.table import tables_of
from jobs.scores.comparison import common_metric, compare, conditions
from jobs.scores.fidline import facts, read_line, sentence, sentence_of_cell, table, with_error
from jobs.scores.gather import reduce_sweep
from jobs.scores.scoring import distance_of_moments
from jobs.store_local import LocalStore
from jobs.work.reduce import reduce_configuration


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of two replicates of one cell, of fewer samples, and of another quantisation."""
    store = LocalStore(tmp_path_factory.mktemp("store"))
    metrics = ("fid", "kid")
    items = [
        configuration("VE", "P100", metrics=metrics),
        configuration("VE", "P100", metrics=metrics, replicate=1),
        configuration("VE", "few", metrics=metrics, samples=192, seed=1),
        configuration("VE", "noisy", metrics=metrics, seed=2),
    ]
    prepare(store, sweep_of(items))
    for item in items:
        fill(store, item, noise=0.4 if item.column == "noisy" else 0.05)
    found = [reduce_configuration(store, item.sweep, item)[0] for item in items]
    return found, reduce_sweep(store, items[0].sweep)


def test_the_line_states_what_a_score_depends_on(results):
    """The list is that of section 5 of the project's facts on FID conventions."""
    (result, *_), _ = results
    told = facts(result)
    text = sentence(result)
    fid = result.final.fid
    for part in (
        with_error(fid.value, fid.standard_error),
        "means ",
        "95 % interval",
        "predicted bias",
        "256 images of digits-synthetic/",
        "1,248 images of digits-train, content 1280abf6140f",
        "digits-cnn, weights sha256 " + result.extractor["weights"][:12],
        "layer global average pool, dimension 64, resize none",
        "normalisation x / 255",
        "covariance divided by N - 1",
        "trace term by symmetric eigenvalues, float64",
        "features float32, moments float64",
        "model sha256 aaaaaaaaaaaa",
        "predictor reverse_diffusion",
        "snr 0.16",
        "eps 1e-05",
        "denoise True",
        "evaluations an image",
        "seed 0, replicate 0",
        "floor, sampled in float32",
        "torch " + result.versions["torch"],
        "blocks of ",
    ):
        assert part in text, part
        assert any(part in f"{name} {value}" for name, value in told.items()), part
    assert text.startswith("FID[digits-cnn] ")
    assert text.endswith(".")


def test_a_cell_has_mean_and_deviation_over_replicates_and_never_one_of_them(results):
    found, gathered = results
    (cell,) = [cell for cell in gathered.cells if cell.column == "P100"]
    text = sentence_of_cell(cell)
    values = [result.final.fid.value for result in found[:2]]
    assert with_error(float(np.mean(values)), float(np.std(values, ddof=1))) in text
    assert "2 replicates" in text
    assert "replicates 0 to 1" in text
    assert "95 % interval" not in text


def test_a_table_has_a_column_for_each_line(results):
    found, _ = results
    rows = {row[0]: row[1:] for row in table(found)}
    assert all(len(row) == len(found) for row in rows.values())
    assert rows["generated"][2].startswith("192 images")


def test_files_are_read_back(results):
    found, _ = results
    assert read_line(found[0].model_dump_json()) == found[0]
    assert read_line(json.dumps({"result": found[0].model_dump(mode="json")})) == found[0]


def test_lines_of_equal_conditions_are_ranked_with_their_errors(results):
    found, _ = results
    outcome = compare(["noisy", "clean", "again"], [found[3], found[0], found[1]], "fid")
    assert outcome.comparable
    assert outcome.ranking[-1].name == "noisy"
    assert outcome.ranking[-1].distinct
    assert outcome.ranking[1].distinct is False
    assert {difference.what for difference in outcome.differences} >= {"seed", "replicate", "generated"}
    assert not any(difference.decisive for difference in outcome.differences)


def test_another_number_of_images_forbids_to_rank_fid_and_not_kid(results):
    found, _ = results
    outcome = compare(["many", "few"], [found[0], found[2]], "fid")
    assert not outcome.comparable
    assert outcome.ranking == ()
    assert [item.what for item in outcome.differences if item.decisive] == ["N generated"]
    kid = compare(["many", "few"], [found[0], found[2]], "kid")
    assert [item.what for item in kid.differences if item.decisive] == ["KID: block size"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"extractor": {"resize": "half-pixel"}}, "extractor: resize"),
        ({"extractor": {"weights": "f" * 64}}, "extractor: weights"),
        ({"extractor": {"layer": "pool64"}}, "extractor: layer"),
        ({"reference": {"content": "e" * 64}}, "reference: content"),
        ({"reference": {"imported": True}}, "reference: statistics"),
        ({"statistics": {"ddof": 0}}, "covariance"),
        ({"statistics": {"features_dtype": "float16"}}, "features"),
    ],
)
def test_what_forbids_to_rank_is_named(results, changes, what):
    found, _ = results
    data = found[0].model_dump(mode="json")
    for part, values in changes.items():
        data[part] |= values
    outcome = compare(["ours", "theirs"], [found[0], read_line(json.dumps(data))], "fid")
    assert not outcome.comparable
    assert [item.what for item in outcome.differences if item.decisive] == [what]


def test_versions_and_names_are_said_and_do_not_forbid(results):
    found, _ = results
    data = found[0].model_dump(mode="json")
    data["versions"]["torch"] = "9.9"
    data["reference"]["name"] = "my-digits"
    outcome = compare(["a", "b"], [found[0], read_line(json.dumps(data))], "fid")
    assert outcome.comparable
    assert {item.what for item in outcome.differences} == {"version: torch", "reference: name"}


def test_a_metric_that_one_lacks_is_named(results):
    found, _ = results
    assert common_metric(found) == "fid"
    with pytest.raises(ValueError, match="b has no is, it has fid, kid"):
        compare(["b", "c"], found[:2], "is")
    assert "N generated" not in conditions(found[0], "kid")


def test_moments_alone_give_the_golden_distances():
    golden = Path(__file__).parent.parent / "golden"
    numbers = np.load(golden / "fid_frechet.npz")
    expected = json.loads((golden / "fid_frechet.json").read_text())
    for case in ("full", "rankdef"):
        sides = []
        for k in (1, 2):
            rows = numbers[f"frechet/{case}/feats{k}"].astype(np.float64)
            covariance = np.cov(rows, rowvar=False)
            sides.append(Moments.from_covariance(rows.mean(axis=0), covariance, len(rows)))
        scores = distance_of_moments(*sides, "0" * 64)
        assert scores.fid.value == pytest.approx(expected[case]["pytorch_fid"], rel=1e-6)
        assert scores.fid.standard_error is None


def test_errors_too_small_for_decimals_are_written_with_exponents():
    assert with_error(2.86e-11, 6.9e-13) == "2.86e-11 ± 6.9e-13"
    assert with_error(3.6183, None) == "3.618"


def test_every_cell_of_a_sweep_has_a_line(tmp_path):
    store = LocalStore(tmp_path)
    sweep = demonstration(store)
    item = next(item for item in sweep.configurations if len(item.stages) > 1)
    reduce_configuration(store, item.sweep, item)
    (cell,) = reduce_sweep(store, item.sweep).cells
    assert "ddls steps 100" in sentence_of_cell(cell)


def test_a_control_and_a_bias_are_those_of_the_frechet_distance_alone(results):
    (line, *_), found = results
    fid, kid = (" ".join(table.notes) for table in tables_of(found))
    for said in ("Real images in these numbers score about ", "Finite N alone is predicted to add "):
        assert said in fid
        assert said not in kid
    assert " (of the Fréchet distance: ± is the standard error" in sentence(line)
