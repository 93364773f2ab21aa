"""Whole runs in which storage, memory or a network fails: what is made again, set aside, and said."""

from __future__ import annotations

import errno
import threading

import pytest
import torch
from local_pool import LocalPool

from cluster import driver, retries
from cluster.display import Silence
from cluster.prepare import prepare
from cluster.run import run_sweep
from jobs.compute.worker import WorkerState
from jobs.paths import SweepPaths, extractor_key
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import expand
from jobs.scores.results import Result, SweepResults
from jobs.storage import runrecord
from jobs.storage.commit import data_name
from jobs.storage.ledger import failures, scan
from jobs.store import open_store
from jobs.store_local import LocalStore

SWEEP = SweepPaths("tiny")


class Notes(Silence):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str, context: object = None) -> None:
        self.notes.append(text)


def run(store, sweep, pool=None):
    """Outcome and notes of a run in this process."""
    display = Notes()
    outcome = run_sweep(store, sweep, (pool or LocalPool(store)).open, display, ["sdesweep", "run"])
    return outcome, display.notes


def own(configuration):
    paths = SWEEP.configuration(configuration.fingerprint)
    (extractor,) = configuration.extractors
    return paths, extractor_key(extractor.name, extractor.weights or "")


def scores(store, sweep):
    """Every result without the seconds that it took."""
    found = []
    for configuration in sweep.configurations:
        paths, key = own(configuration)
        result = Result.model_validate_json(store.get(paths.result(key, "digits-train")))
        found.append((result.fingerprint, result.images, result.stages))
    return found


@pytest.fixture
def quick_backoff(monkeypatch):
    monkeypatch.setattr(driver, "BACKOFF", (0.01,) * 6)


# --- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "marker gone", "reference"])
def test_damage_met_by_a_reduction_is_made_again_within_the_run(store, make_sweep, finished_store, damage):
    sweep = make_sweep()
    spoilt = sweep.configurations[0]
    paths, key = own(spoilt)

    def spoil(assignment):
        if assignment.kind != "reduce" or assignment.fingerprint != spoilt.fingerprint or done:
            return
        done.append(assignment)
        folder = paths.features(key)
        if damage == "reference":
            names = [entry.name for entry in store.list("references") if entry.name.endswith(".parquet")]
            name = names[0]
        else:
            marker = scan(store, paths, [key]).features[key][1]
            name = data_name(folder, marker)
        content = bytearray(store.get(name))
        if damage in ("truncated", "reference"):
            store.put(name, bytes(content[:-10]))
        elif damage == "marker gone":
            store.delete(folder.marker(marker.samples))
        else:
            content[len(content) // 3] ^= 1
            store.put(name, bytes(content))

    done: list = []
    outcome, notes = run(store, sweep, LocalPool(store, spoil))
    assert outcome.exit_code == 0, notes
    assert done
    assert any("made again" in note for note in notes)
    assert scores(store, sweep) == scores(finished_store, sweep)


# --- networks ----------------------------------------------------------------------------------------------


def test_a_network_that_gives_nan_sets_its_configuration_aside_and_the_rest_goes_on(store, spec):
    spec.write_text(
        """
name: tiny
samples: 40
group_size: 4
shard_size: 4
extractor: digits-cnn
reference: digits-train
sweep:
  axes:
    model:
      broken:
        model: digits-ve
        sampler: {kind: predictor_corrector, predictor: euler_maruyama, corrector: none, steps: 4}
      noise: {model: digits-heldout, sampler: {kind: noise}}
"""
    )
    sweep = expand(load_spec(spec))
    broken, whole = sweep.configurations

    class Broken(WorkerState):
        def sampler(self, store, configuration):
            sampler = super().sampler(store, configuration)
            if configuration.fingerprint == broken.fingerprint:
                sampler.model.network.forward = lambda *arguments: torch.full((4, 1, 8, 8), float("nan"))
            return sampler

    outcome, notes = run(store, sweep, LocalPool(store, state=Broken()))
    assert outcome.exit_code == 1
    assert outcome.failed == 10
    paths, key = own(broken)
    recorded = failures(store, paths)
    assert len(recorded) == retries.HOPELESS
    assert all(failure.attempts == retries.MAX_DIVERGED for failure in recorded)
    assert "broken" in recorded[0].error
    assert "not finite" in recorded[0].error
    assert scan(store, paths, [key]).done == []
    (cell,) = SweepResults.model_validate_json(store.get(SWEEP.results)).cells
    assert cell.row == whole.row
    assert any("set aside untried" in note for note in notes)


# --- storage -----------------------------------------------------------------------------------------------


class Full(LocalStore):
    """Has no room for so many images and features."""

    def __init__(self, root, times):
        super().__init__(root)
        self.times = times

    def writing(self, name):
        if name.endswith(".parquet") and self.times > 0:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().writing(name)


def test_a_disk_that_is_full_for_a_while_delays(tmp_path, make_sweep, finished_store, quick_backoff):
    store, sweep = Full(tmp_path / "full", 2), make_sweep()
    outcome, notes = run(store, sweep)
    assert outcome.exit_code == 0
    assert any("No space left on device" in note for note in notes)
    assert scores(store, sweep) == scores(finished_store, sweep)


def test_a_disk_that_stays_full_drains_with_the_reason_and_the_next_run_goes_on(
    tmp_path, make_sweep, finished_store, quick_backoff
):
    store, sweep = Full(tmp_path / "full", 10**9), make_sweep()
    outcome, _ = run(store, sweep)
    assert outcome.exit_code == 75
    assert "No space left on device" in outcome.reason
    (record,) = runrecord.runs(store, SWEEP)
    assert record.outcome == "incomplete"
    assert record.shards_failed == 0  # the machine's failure, not the code's
    store.times = 0
    assert run(store, sweep)[0].exit_code == 0
    assert scores(store, sweep) == scores(finished_store, sweep)


def test_a_disk_that_is_full_when_results_are_written_ends_incomplete_and_resumable(
    tmp_path, make_sweep, finished_store, monkeypatch
):
    store, sweep = LocalStore(tmp_path / "full"), make_sweep()
    put = LocalStore.put

    def full(self, name, data):
        if name.endswith("results.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, name, data)

    monkeypatch.setattr(LocalStore, "put", full)
    outcome, _ = run(store, sweep)
    assert outcome.exit_code == 75
    assert "No space left on device" in outcome.reason
    assert [record.outcome for record in runrecord.runs(store, SWEEP)] == ["incomplete"]
    monkeypatch.undo()
    assert run(store, sweep)[0].exit_code == 0
    assert scores(store, sweep) == scores(finished_store, sweep)


def test_an_object_store_that_is_away_for_a_while_delays(
    s3, s3_url, make_sweep, finished_store, quick_backoff, monkeypatch
):
    monkeypatch.setattr("jobs.store_s3.ATTEMPTS", 1)  # the library's own patience is tested elsewhere
    store, sweep = open_store(s3_url), make_sweep()
    away: list = []

    def leave(assignment):
        if assignment.kind == "sample" and not away:
            away.append(assignment)
            s3.fault("slow", 5)

    outcome, notes = run(store, sweep, LocalPool(store, leave))
    assert outcome.exit_code == 0, notes
    assert any("SlowDown" in note for note in notes)
    assert scores(store, sweep) == scores(finished_store, sweep)
    assert threading.active_count() < 50


def test_credentials_that_run_out_drain_with_the_remedy_and_new_ones_go_on(
    s3, s3_url, make_sweep, finished_store, quick_backoff, monkeypatch
):
    store, sweep = open_store(s3_url), make_sweep()
    sampled: list = []

    def run_out(assignment):
        sampled.append(assignment)
        if len(sampled) == 3:
            s3.fault("expired", 10**9)

    try:
        outcome, _ = run(store, sweep, LocalPool(store, run_out))
    finally:
        s3.fault("expired", 0)
    assert outcome.exit_code == 75
    assert "ExpiredToken" in outcome.reason
    assert "get new ones, and go on" in outcome.reason
    assert outcome.failed == 0
    monkeypatch.setattr("jobs.storage.lease.MISSED", 0)  # the driver could not release it, and is gone
    assert run(store, sweep)[0].exit_code == 0
    assert scores(store, sweep) == scores(finished_store, sweep)


def test_an_object_store_holds_the_same_sweep_as_a_folder(s3_url, make_sweep, finished_store):
    store, sweep = open_store(s3_url), make_sweep()
    assert run(store, sweep)[0].exit_code == 0
    assert scores(store, sweep) == scores(finished_store, sweep)
    assert any(entry.name.endswith("index.html") for entry in store.list("tiny/report"))
    assert prepare(store, sweep, print).idle
