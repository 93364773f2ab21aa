"""Reduction: the same bits however the work was cut, refusals of what is missing or double, provenance."""

import json

import numpy as np
import pytest
import scored
import torch

from fid.control import real_control
from fid.moments import Moments
from fid.scores import fid_score
from jobs.paths import SweepPaths, extractor_key
from jobs.references.moments import reference_moments, written_moments
from jobs.references.reference import load_reference
from jobs.scores.gather import reduce_sweep
from jobs.scores.results import Result
from jobs.scores.scoring import moments_of
from jobs.specs.sections import DataSet
from jobs.storage.commit import DamageError, data_name, load_marker
from jobs.storage.features import features_in_order
from jobs.storage.ledger import scan
from jobs.work.reduce import IncompleteError, reduce_configuration

ALL = ("fid", "is", "kid", "precision_recall", "density_coverage", "memorisation")


@pytest.fixture
def store(tmp_path):
    return scored.local_store(tmp_path / "store")


def prepared(store, **changes):
    item = scored.configuration("row", "column", **changes)
    scored.prepare(store, scored.sweep_of([item]))
    return item


def all_features(store, item, step):
    key = extractor_key("digits-cnn", scored.extractor().weights)
    paths = SweepPaths(item.sweep).configuration(item.fingerprint)
    markers = scan(store, paths, [key]).features[key]
    blocks = features_in_order(store, paths.features(key), markers, step, item.samples, 1024)
    return np.concatenate([block.features for block in blocks])


def test_scores_are_those_of_the_stored_features(store):
    item = prepared(store, metrics=ALL, stages=(50, 100))
    scored.fill(store, item)
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    reference = load_reference(store, DataSet(name="digits-train"), scored.extractor())
    real = features_in_order(store, reference.folder, reference.markers, 0, reference.count, 1024)
    truth = np.concatenate([block.features for block in real])
    assert len(truth) == result.reference.count == 1248
    for stage in result.stages:
        direct = fid_score(all_features(store, item, stage.step), Moments.of(truth))
        assert stage.fid.value == pytest.approx(direct.value, rel=1e-12)
        assert stage.fid.standard_error == pytest.approx(direct.standard_error.value, rel=1e-9)
        assert all(stage.value(metric) is not None for metric in ALL)
    assert [stage.step for stage in result.stages] == [50, 100]
    assert result.stages[0].fid.value > 2 * result.final.fid.value  # noise fades with the steps
    control = real_control(truth, item.samples, 1248, seed=0)
    assert (result.control.value, result.control.spread) == (control.mean, control.spread)
    assert 0 < result.control.value < result.final.fid.value  # these images are noise
    paths = SweepPaths(item.sweep).configuration(item.fingerprint)
    name = paths.result(f"digits-cnn-{scored.extractor().weights[:12]}", "digits-train")
    assert Result.model_validate_json(store.get(name)) == result


def test_bits_do_not_depend_on_shards_nor_threads(tmp_path):
    results = []
    for number, (shard, threads) in enumerate([(64, 1), (256, 2), (192, 1)]):
        store = scored.local_store(tmp_path / str(number))
        item = prepared(store, samples=1100, group_size=64, metrics=("fid", "is"))
        scored.fill(store, item, shard)
        torch.set_num_threads(threads)
        results.append(reduce_configuration(store, scored.SWEEP, item)[0])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert results[0].stages == results[1].stages == results[2].stages
    assert results[0].images == results[1].images


def test_identity_evaluations_and_diagnostics_come_from_the_markers(store):
    item = prepared(store)
    other = scored.EXECUTION.model_copy(update={"device": "NVIDIA H100", "micro_batch": 64})
    scored.commit_shard(store, item, range(0, 192))
    scored.commit_shard(store, item, range(192, 256), execution=other)
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    assert [(share.execution.device, share.samples) for share in result.executions] == [
        ("cpu AVX2", 192),
        ("NVIDIA H100", 64),
    ]
    assert any("2 execution identities" in warning for warning in result.warnings)
    assert result.evaluations.made == 199
    assert result.evaluations.planned == 200
    assert result.diagnostics["acceptance"].least == 0.5
    assert result.diagnostics["acceptance"].most == pytest.approx(0.692)
    assert result.clipped == {100: pytest.approx(0.0005)}
    assert result.seconds["sample"] == 1.0
    assert result.images_per_second == 256
    assert result.extractor["weights"] == scored.extractor().weights
    assert result.versions["torch"] == torch.__version__


def test_fewer_samples_than_dimensions_are_said(store):
    item = prepared(store, samples=50, group_size=50)
    scored.fill(store, item)
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    assert any("50 generated samples for 64 dimensions" in warning for warning in result.warnings)


def test_missing_samples_are_refused(store):
    item = prepared(store)
    scored.commit_shard(store, item, range(0, 128))
    with pytest.raises(IncompleteError, match="128 of 256 samples"):
        reduce_configuration(store, scored.SWEEP, item)


def test_a_lost_middle_is_refused(store):
    item = prepared(store)
    scored.fill(store, item, shard=64)
    key = extractor_key("digits-cnn", scored.extractor().weights)
    folder = SweepPaths(item.sweep).configuration(item.fingerprint).features(key)
    store.delete(folder.marker(range(64, 128)))
    with pytest.raises(IncompleteError, match="192 of 256"):
        reduce_configuration(store, scored.SWEEP, item)


def test_altered_indices_are_refused(store):
    item = prepared(store)
    scored.fill(store, item, shard=128)
    key = extractor_key("digits-cnn", scored.extractor().weights)
    folder = SweepPaths(item.sweep).configuration(item.fingerprint).features(key)
    first, second = (load_marker(store, folder.marker(part), part) for part in (range(128), range(128, 256)))
    store.put(data_name(folder, second), store.get(data_name(folder, first)))
    altered = second.model_copy(update={"size": first.size})
    store.put(folder.marker(second.samples), altered.model_dump_json().encode())
    with pytest.raises(DamageError, match="does not hold just the samples"):
        reduce_configuration(store, scored.SWEEP, item)


def test_sweep_gathers_replicates_and_lists_what_is_not_there(store):
    first = scored.configuration("row", "column")
    second = first.model_copy(update={"replicate": 1})
    late = scored.configuration("row", "late", seed=5)
    scored.prepare(store, scored.sweep_of([first, second, late]))
    for item in (first, second):
        scored.fill(store, item)
        reduce_configuration(store, scored.SWEEP, item)
    scored.commit_shard(store, late, range(0, 64))
    results = reduce_sweep(store, scored.SWEEP)
    (cell,) = results.cells
    values = [result.final.fid.value for result in cell.results]
    assert cell.summaries[0].final.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert cell.summaries[0].final.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert cell.summaries[0].label == "FID[digits-cnn]"
    (missing,) = results.unscored
    assert (missing.row, missing.column, missing.done) == ("row", "late", 64)
    assert "64 of 256 samples" in missing.reason
    assert not results.complete
    assert json.loads(store.get(SweepPaths(scored.SWEEP).results))["sweep"] == scored.SWEEP


def test_a_result_of_fewer_samples_is_not_taken_for_the_larger_run(store):
    small = prepared(store, samples=128)
    scored.fill(store, small)
    reduce_configuration(store, scored.SWEEP, small)
    large = small.model_copy(update={"samples": 256})
    assert large.fingerprint == small.fingerprint
    scored.prepare(store, scored.sweep_of([large]))
    assert reduce_sweep(store, scored.SWEEP).cells == ()


def test_extrapolation_and_memorisation_are_metrics_with_their_errors(store):
    item = prepared(store, samples=800, metrics=("fid", "fid_infinity", "memorisation"), group_size=100)
    scored.fill(store, item)
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    line = result.final.fid_infinity
    assert line.value < result.final.fid.value
    assert line.sizes[-1] == 12 * (800 // 12)
    assert result.final.memorisation.exact == 0  # held-out digits under noise
    assert result.final.memorisation.too_near < 0.2
    (cell,) = reduce_sweep(store, scored.SWEEP).cells
    labels = {summary.label: summary.final for summary in cell.summaries}
    assert labels["FID-infinity[digits-cnn]"].standard_error == line.standard_error
    assert labels["memorised[digits-cnn]"].mean == result.final.memorisation.too_near


def test_moments_of_a_reference_are_computed_once_and_never_trusted_blindly(store):
    item = prepared(store)
    scored.fill(store, item)
    (first,) = reduce_configuration(store, scored.SWEEP, item)
    reference = load_reference(store, DataSet(name="digits-train"), scored.extractor())
    (name,) = [entry.name for entry in store.list("references") if "/moments/" in entry.name]
    whole = store.get(name)
    moments = reference_moments(store, reference)
    truth = moments_of(reference.features(store))
    np.testing.assert_array_equal(moments.scatter, truth.scatter)
    assert (moments.count, reference.digest) == (1248, first.reference.features)
    for damaged in (whole[:-100], whole[:700] + bytes([whole[700] ^ 1]) + whole[701:], b""):
        store.put(name, damaged)
        assert reduce_configuration(store, scored.SWEEP, item)[0].stages == first.stages
        assert store.get(name) == whole
    store.put(name, written_moments(Moments.of(np.eye(64)), "0" * 64))  # of other features
    np.testing.assert_array_equal(reference_moments(store, reference).scatter, truth.scatter)
