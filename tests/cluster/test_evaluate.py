"""Scoring again: by the driver and the commit protocol of a run, without ever making an image."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
from local_pool import LocalPool
from safetensors.torch import load_file, save_file

from cluster.display import Silence
from cluster.prepare_evaluation import Evaluation
from cluster.run import run_sweep
from jobs.compute.assignment import Assignment
from jobs.compute.worker import WorkerState
from jobs.inputs.datasets import read_digits
from jobs.models.catalog import WEIGHTS
from jobs.models.resolve import resolve_extractor
from jobs.paths import SweepPaths
from jobs.planning.lookup import find_sweep
from jobs.scores.results import Result, SweepResults
from jobs.specs.sections import DataSet
from jobs.specs.spec import ExtractorSection
from jobs.store_local import LocalStore
from jobs.work.evaluation import EvaluationRequest
from jobs.work.perform import perform
from jobs.work.shard import MissingImagesError
from jobs.work.verify import verify


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The digits' classifier with other weights: another extractor."""
    tensors = load_file(WEIGHTS / "digits-cnn.safetensors")
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_file({name: tensor * 1.05 for name, tensor in tensors.items()}, path)
    return resolve_extractor(ExtractorSection(name="digits-cnn", weights=str(path)), path.parent)


def evaluation(store, found=None, **asked):
    """A request for all configurations of the tiny sweep, by another extractor if given."""
    extractors = (found.thing,) if found else None
    files = {digest: str(path) for digest, path in found.files.items()} if found else {}
    request = EvaluationRequest(extractors=extractors, **asked)
    return Evaluation(request, files, find_sweep(store, "tiny").configurations)


def run(store, asked, pool=None):
    """Evaluate; return the outcome and what was performed."""
    pool = pool or LocalPool(store)
    sweep = find_sweep(store, "tiny")
    outcome = run_sweep(store, sweep, pool.open, Silence(), ["evaluate"], preparing=asked.prepare)
    return outcome, pool.performed


def pixels(store):
    """Everything that images and the sweep's own record consist of."""
    root = store.root / "tiny"
    paths = [*root.glob("*/images/**/*.*"), *root.glob("*/spec.json"), root / "sweep.json"]
    return {path: path.read_bytes() for path in paths}


def results(store):
    """Result by configuration, extractor's key and reference."""
    found = {}
    for path in sorted(store.root.glob("tiny/*/results/*.json")):
        found[path.parent.parent.name, path.stem] = Result.model_validate_json(path.read_text())
    return found


def test_another_extractor_and_reference_leave_images_and_spec_untouched(filled, other):
    before, scores = pixels(filled), results(filled)
    asked = evaluation(filled, other, references=(DataSet(name="digits-heldout"),), metrics=("fid", "kid"))
    outcome, performed = run(filled, asked)
    assert outcome.exit_code == 0
    assert sorted(item.kind for item in performed) == ["reduce"] * 2 + ["reference"] + ["sample"] * 6
    assert pixels(filled) == before
    after = results(filled)
    assert {place: after[place] for place in scores} == scores
    assert len(after) == 4
    for (_, name), result in after.items():
        if name == f"{other.thing.key}-digits-heldout":
            assert result.reference.name == "digits-heldout"
            assert result.final.kid is not None
    table = SweepResults.model_validate_json(filled.get(SweepPaths("tiny").results))
    assert table.complete
    assert len(table.cells) == 4


def test_a_bootstrap_is_made_where_it_is_asked_for_and_only_there(filled):
    before = results(filled)
    outcome, performed = run(filled, evaluation(filled, standard_error="bootstrap"))
    assert outcome.exit_code == 0
    assert sorted(item.kind for item in performed) == ["reduce"] * 2 + ["reference"]
    after = results(filled)
    for place, result in after.items():
        fid = result.final.fid
        assert fid.value == before[place].final.fid.value
        assert fid.standard_error_method == "bootstrap, 100 resamples, seed 0"
    table = SweepResults.model_validate_json(filled.get(SweepPaths("tiny").results))
    assert table.complete
    assert run(filled, evaluation(filled, standard_error="bootstrap"))[1] == []


def test_a_second_evaluation_has_nothing_to_do(filled, other):
    run(filled, evaluation(filled, other))
    outcome, performed = run(filled, evaluation(filled, other))
    assert (outcome.exit_code, performed) == (0, [])


def test_stopped_in_the_middle_it_goes_on_to_the_same_bits(filled, other, tmp_path):
    straight = LocalStore(tmp_path / "straight")
    shutil.copytree(filled.root, straight.root)
    run(straight, evaluation(straight, other))

    def interrupt(assignment):
        if assignment.kind == "sample" and len(pool.performed) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    pool = LocalPool(filled, interrupt)
    outcome, performed = run(filled, evaluation(filled, other), pool)
    assert outcome.exit_code == 75
    assert len(performed) < 6
    outcome, performed = run(filled, evaluation(filled, other))
    assert outcome.exit_code == 0
    assert 0 < [item.kind for item in performed].count("sample") < 6
    assert [r.stages for r in results(filled).values()] == [r.stages for r in results(straight).values()]


def test_other_metrics_read_the_features_that_are_there_and_keep_the_scores(filled):
    scores = results(filled)
    outcome, performed = run(filled, evaluation(filled, metrics=("precision_recall",)))
    assert outcome.exit_code == 0
    assert {item.kind for item in performed} == {"reference", "reduce"}
    for place, result in results(filled).items():
        assert result.final.fid == scores[place].final.fid
        assert result.final.precision_recall is not None
    table = SweepResults.model_validate_json(filled.get(SweepPaths("tiny").results))
    assert [summary.measure for summary in table.cells[0].summaries] == ["FID", "precision", "recall"]


def test_a_run_afterwards_keeps_what_was_evaluated(filled, make_sweep, other):
    run(filled, evaluation(filled, other, metrics=("kid",)))
    pool = LocalPool(filled)
    outcome = run_sweep(filled, make_sweep(), pool.open, Silence(), ["run"])
    assert (outcome.exit_code, pool.performed) == (0, [])
    assert len(SweepResults.model_validate_json(filled.get(SweepPaths("tiny").results)).cells) == 4


def test_missing_images_are_named_and_the_others_scored(filled, other):
    (first, second) = find_sweep(filled, "tiny").configurations
    marker = filled.root / SweepPaths("tiny").configuration(first.fingerprint).images.marker(range(16, 32))
    marker.unlink()
    asked = evaluation(filled, other)
    outcome, performed = run(filled, asked)
    assert outcome.exit_code == 0
    assert [(item.fingerprint, spans) for item, spans in asked.missing] == [
        (first.fingerprint, [range(16, 32)])
    ]
    assert {item.fingerprint for item in performed if item.kind == "reduce"} == {second.fingerprint}
    assert not marker.exists(), "no image may be made"


def test_damaged_images_are_set_aside_and_never_made_again(filled, other):
    (first, _) = find_sweep(filled, "tiny").configurations
    folder = filled.root / SweepPaths("tiny").configuration(first.fingerprint).images.root
    damaged = sorted(folder.rglob("*.parquet"))[0]
    content = bytearray(damaged.read_bytes())
    for place in range(len(content) // 4, len(content) // 2):
        content[place] ^= 1
    damaged.write_bytes(content)
    asked = evaluation(filled, other)
    asked.prepare(filled, find_sweep(filled, "tiny"), print)
    shard = Assignment("sample", "tiny", first.fingerprint, 0, 16, asked.request.digest)
    with pytest.raises(MissingImagesError, match=r"images \[0, 16\) are not whole.*sdesweep resume tiny"):
        perform(shard, filled, WorkerState(), LocalPool(filled))
    assert not damaged.exists()


def test_verify_reads_the_features_of_evaluations_too(filled, other):
    run(filled, evaluation(filled, other))
    assert verify(filled, "tiny").intact
    damaged = next(filled.root.glob(f"tiny/*/features/{other.thing.key}/**/*.parquet"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (problem,) = verify(filled, "tiny").problems
    assert other.thing.key in problem.file


def test_a_reference_of_the_users_own(filled, call, tmp_path):
    np.savez(tmp_path / "mine.npz", images=read_digits("heldout").images[:200])
    call("reference", "build", "mine", "--from", tmp_path / "mine.npz", "--store", filled.url)
    outcome, _ = run(filled, evaluation(filled, references=(DataSet(name="mine"),)))
    assert outcome.exit_code == 0
    assert {result.reference.count for result in results(filled).values()} == {200, 1248}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "no sweep 'nobody'"),
        (("tiny/zzz",), "no configuration tiny/zzz; there are tiny/"),
        (("tiny", "--metrics", "fid_infinity"), "fid_infinity needs at least 780 images, there are 40"),
        (("tiny", "--reference", "digits-hold"), "unknown reference 'digits-hold' is not one of digits"),
        (("tiny", "--extractor", "digits-cnm"), "did you mean 'digits-cnn'?"),
    ],
)
def test_wrong_requests_are_told_in_a_line(call, filled, arguments, message):
    code, _, errors = call("evaluate", *arguments, "--store", filled.url)
    assert code == 2
    assert message in errors


def test_all_metrics_are_those_that_can_be_had_and_the_others_are_said(call, filled):
    metrics = ("fid", "is", "kid", "precision_recall", "density_coverage", "memorisation")
    run(filled, evaluation(filled, metrics=metrics))
    code, output, _ = call("evaluate", "tiny", "--metrics", "all", "--store", filled.url, "--json")
    assert code == 0
    found = json.loads(output)
    assert [reason.partition(": ")[2] for reason in found["left_out"]] == [
        "fid_infinity needs at least 780 images, there are 40"
    ]
    assert "KID[digits-cnn]" in found["lines"][0]


def test_nothing_left_to_do_needs_no_cluster(call, filled):
    code, output, _ = call("evaluate", "tiny", "--store", filled.url, "--json")
    assert code == 0
    found = json.loads(output)
    assert found["missing"] == []
    assert all(" / score: FID[digits-cnn] " in line for line in found["lines"])


def test_the_command_names_missing_images_and_can_be_repeated_later(call, filled):
    (first, _) = find_sweep(filled, "tiny").configurations
    folder = filled.root / SweepPaths("tiny").configuration(first.fingerprint).images.root
    sorted(folder.rglob("*.json"))[1].unlink()
    code, output, _ = call("evaluate", "tiny", "--store", filled.url, "--json")
    assert code == 75
    (missing,) = json.loads(output)["missing"]
    assert (missing["configuration"], missing["missing"]) == (f"tiny/{first.fingerprint}", [[16, 32]])
    code, output, _ = call("evaluate", "tiny", "--store", filled.url)
    assert code == 75
    assert "lacks the images [16, 32)" in output
    assert "`sdesweep resume tiny" in output
