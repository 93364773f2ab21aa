"""Whole runs without Ray: what is prepared, written down, skipped, made again, and refused."""

from __future__ import annotations

import os
import pickle
import signal

import pytest
from local_pool import Lines, LocalPool

from cluster.prepare import NotRunnableError, prepare
from cluster.run import run_sweep
from cluster.status import status_of
from jobs.compute.assignment import Assignment, Receipt
from jobs.paths import SweepPaths
from jobs.scores.results import SweepResults
from jobs.storage import runrecord
from jobs.storage.lease import LeaseHeldError, held
from jobs.storage.ledger import Failure, failures, set_aside


def run(store, sweep, pool=None):
    """Run a sweep; return the outcome, the pool and the notes."""
    pool = pool or LocalPool(store)
    lines = Lines()
    outcome = run_sweep(store, sweep, pool.open, lines, ["sdesweep", "run"])
    return outcome, pool, lines.notes


def kinds(pool: LocalPool) -> list[str]:
    return [assignment.kind for assignment in pool.performed]


def own_paths(sweep, number=0):
    return SweepPaths(sweep.name).configuration(sweep.configurations[number].fingerprint)


def test_a_run_leaves_images_scores_table_page_and_a_record(store, make_sweep):
    sweep = make_sweep()
    outcome, pool, _ = run(store, sweep)
    assert outcome.exit_code == 0
    assert sorted(kinds(pool)) == ["reduce"] * 2 + ["reference"] + ["sample"] * 6
    paths = SweepPaths("tiny")
    results = SweepResults.model_validate_json(store.get(paths.results))
    assert results.complete
    assert len(results.cells) == 2
    assert store.get(paths.written).decode() == sweep.written
    assert b"<html" in store.get(paths.report("index.html"))
    (record,) = runrecord.runs(store, paths)
    assert (record.outcome, record.exit_code, record.shards, record.shards_done) == ("done", 0, 6, 6)
    assert record.images == 80
    assert record.seconds["sample"] > 0
    assert status_of(store, sweep).complete


def test_a_second_run_opens_no_pool(filled, make_sweep):
    outcome, pool, _ = run(filled, make_sweep())
    assert outcome.exit_code == 0
    assert pool.performed == []


def test_more_samples_are_added_to_those_that_are_there(filled, make_sweep):
    outcome, pool, _ = run(filled, make_sweep(samples=48))
    assert outcome.exit_code == 0
    assert kinds(pool).count("sample") == 2
    assert {(a.first, a.last) for a in pool.performed if a.kind == "sample"} == {(40, 48)}
    assert kinds(pool).count("reduce") == 2


def test_an_edited_spec_has_folders_of_its_own_and_leaves_the_old_results(filled, make_sweep):
    before = make_sweep()
    old = [own_paths(before, number).root for number in range(2)]
    kept = {entry.name: filled.get(entry.name) for root in old for entry in filled.list(root)}
    outcome, pool, _ = run(filled, make_sweep(seed=4))
    assert outcome.exit_code == 0
    assert kinds(pool).count("sample") == 6
    assert kept == {entry.name: filled.get(entry.name) for root in old for entry in filled.list(root)}
    assert run(filled, before)[1].performed == []


def test_another_metric_makes_no_image(filled, make_sweep):
    outcome, pool, _ = run(filled, make_sweep(metrics=["fid", "is"]))
    assert outcome.exit_code == 0
    assert set(kinds(pool)) == {"reference", "reduce"}


def test_damage_is_quarantined_and_only_that_made_again(filled, make_sweep):
    sweep = make_sweep()
    images = sorted((filled.root / own_paths(sweep).images.root).rglob("*.parquet"))
    images[1].write_bytes(images[1].read_bytes()[:-1])
    outcome, pool, notes = run(filled, sweep)
    assert outcome.exit_code == 0
    assert [(a.first, a.last) for a in pool.performed if a.kind == "sample"] == [(16, 32)]
    assert any("quarantined" in note for note in notes)


def test_shards_that_failed_are_tried_again_by_the_next_run(store, make_sweep):
    sweep = make_sweep()
    prepare(store, sweep, print)
    set_aside(store, own_paths(sweep), Failure(range(0, 16), 3, "ValueError: bad"))
    outcome, _, notes = run(store, sweep)
    assert outcome.exit_code == 0
    assert failures(store, own_paths(sweep)) == []
    assert any("tried again" in note for note in notes)


def test_a_stop_ends_incomplete_and_the_next_run_goes_on(store, make_sweep):
    sweep = make_sweep()

    def interrupt(assignment: Assignment) -> None:
        if assignment.kind == "sample" and len(pool.performed) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    pool = LocalPool(store, interrupt)
    outcome, _, _ = run(store, sweep, pool)
    assert outcome.exit_code == 75
    assert outcome.reason == "asked to stop"
    status = status_of(store, sweep)
    assert not status.complete
    assert status.driver.state == "ended"
    assert status.last_run is not None
    assert status.last_run.outcome == "incomplete"
    assert 0 < sum(item.shards_done for item in status.configurations) < 6
    assert run(store, sweep)[0].exit_code == 0


def test_handlers_of_signals_are_put_back(store, make_sweep):
    before = signal.getsignal(signal.SIGTERM)
    run(store, make_sweep())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_driver_is_refused(store, make_sweep):
    with held(store, SweepPaths("tiny")), pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on"):
        run(store, make_sweep())


def test_a_run_that_raises_is_recorded_as_incomplete(store, make_sweep):
    def fail(assignment: Assignment) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(store, make_sweep(), LocalPool(store, fail))
    (record,) = runrecord.runs(store, SweepPaths("tiny"))
    assert (record.outcome, record.exit_code) == ("incomplete", 75)
    assert record.ended is not None


def test_missing_weights_are_refused_with_the_remedy(store, make_sweep):
    sweep = make_sweep().model_copy(update={"missing": ("the weights of x are not here: add them",)})
    with pytest.raises(NotRunnableError, match="the weights of x are not here"):
        run(store, sweep)


def test_cells_that_are_the_same_experiment_are_run_once(store, spec, make_sweep):
    text = spec.read_text()
    spec.write_text(f"{text}      again: {{model: digits-heldout, sampler: {{kind: noise}}}}\n")
    outcome, pool, _ = run(store, make_sweep())
    assert outcome.exit_code == 0
    assert kinds(pool).count("sample") == 6
    results = SweepResults.model_validate_json(store.get(SweepPaths("tiny").results))
    assert len(results.cells) == 3


def test_a_shard_done_meanwhile_under_other_ranges_is_planned_again(store, make_sweep):
    """Another driver with another shard size committed first: what it left is done, nothing twice."""
    from cluster.prepare import shards_left_within

    sweep = make_sweep()
    run(store, make_sweep(shard_size=8))
    marker = sorted((store.root / own_paths(sweep).images.root).rglob("*.json"))[1]
    marker.unlink()  # [8, 16)
    left = shards_left_within(store, "tiny", sweep.configurations[0], range(0, 16))
    assert left == [range(8, 16)]


def test_status_of_a_run_that_is_going_on(store, make_sweep):
    sweep = make_sweep()
    seen = []

    def look(assignment: Assignment) -> None:
        seen.append(status_of(store, sweep))

    run(store, sweep, LocalPool(store, look))
    assert {status.driver.state for status in seen} == {"running"}
    assert seen[0].driver.pid == os.getpid()
    assert seen[-1].configurations[0].shards_done == 3
    done = [sum(item.shards_done for item in status.configurations) for status in seen]
    assert done == sorted(done)


def test_a_record_that_cannot_be_written_does_not_end_the_run(store, make_sweep, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    pool = LocalPool(store, lambda assignment: monkeypatch.setattr(runrecord, "save", full))
    outcome, _, notes = run(store, make_sweep(), pool)
    assert outcome.exit_code == 0
    assert any("run record could not be written" in note for note in notes)


def test_a_receipt_stays_under_a_kilobyte():
    """It is all that passes through the driver."""
    assignment = Assignment("sample", "a-sweep-with-a-long-name", "f" * 64, 10**9, 10**9 + 1024)
    seconds = dict.fromkeys(("load", "sample", "write", "extract"), 123.456789)
    notes = ("group [1000000000, 1000000256) resumed from a snapshot at step 1000",) * 4
    assert len(pickle.dumps(Receipt(assignment, 1024, 10**9, seconds, notes))) < 1024
