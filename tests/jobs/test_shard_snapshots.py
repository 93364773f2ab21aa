"""Snapshots of shards: when they are written, what they cost, what they save."""

import pickle
import time
from itertools import pairwise

import pytest
import torch
from shards import (
    CONFIGURATION,
    KEY,
    PATHS,
    Context,
    Worker,
    configuration,
    outcome,
    prepare,
    sample,
)
from storage import EXECUTION

from jobs.compute.assignment import Drained
from jobs.compute.sampling import INTERVAL, SHARE
from jobs.storage.ledger import scan
from jobs.storage.snapshots import Progress, Snapshots
from jobs.store_local import LocalStore
from sdesampling.samplers import State

pytestmark = pytest.mark.usefixtures("one_thread")


def test_snapshots_of_another_shard_size_are_used(store, undisturbed):
    with pytest.raises(Drained):
        sample(store, CONFIGURATION, range(24), context=Context(9 + 5))
    receipt = sample(store, CONFIGURATION, range(16))
    assert len(receipt.notes) == 2  # one group finished, one in the middle
    assert receipt.evaluations < 8 * 16
    sample(store, CONFIGURATION, range(16, 24))
    assert outcome(store) == undisturbed


def test_snapshots_are_written_as_time_goes_by(store, undisturbed, monkeypatch):
    chosen = configuration(snapshot_every=0.0001)
    prepare(store, chosen)
    saved = []
    save = Snapshots.save
    monkeypatch.setattr(Snapshots, "save", lambda *given: saved.append(given) or save(*given))
    sample(store, chosen, range(24))
    assert len(saved) > 20
    assert scan(store, PATHS, [KEY]).snapshots == 0
    assert outcome(store) == undisturbed


def at_risk(store, monkeypatch, chosen, step, snapshot, shards=(range(24),)):
    """Seconds of work without a snapshot after each step; steps and snapshots take so many by the clock.

    One worker does the shards.
    """
    prepare(store, chosen)
    seconds, saved, found = [0.0], [0.0], []
    monkeypatch.setattr("jobs.compute.sampling.time.monotonic", lambda: seconds[0])
    save = Snapshots.save

    def slow_save(*given):
        seconds[0] += snapshot
        save(*given)

    monkeypatch.setattr(Snapshots, "save", slow_save)

    class Slow(Worker):
        def sampler(self, store, configuration):
            sampler = super().sampler(store, configuration)
            advance = sampler.step

            def slow_step(state, noise):
                seconds[0] += step
                found.append(seconds[0] - saved[0])
                return advance(state, noise)

            sampler.step = slow_step
            return sampler

    class Watch(Context):
        def saved(self):
            super().saved()
            saved[0] = seconds[0]

    worker = Slow()
    for shard in shards:
        sample(store, chosen, shard, worker, Watch())
    assert len(found) == 24  # three groups of eight steps
    return found


def test_what_a_sigkill_could_cost_is_never_more_than_the_interval_and_a_step(store, monkeypatch):
    found = at_risk(store, monkeypatch, configuration(snapshot_every=3.0), step=1.0, snapshot=0.0)
    assert max(found) == 3.0
    assert found.count(1.0) == 8


@pytest.mark.parametrize(("snapshot", "expected"), [(0.125, 60.0), (2.0, 400.0)])
def test_snapshots_that_take_long_come_less_often_unless_the_spec_says_when(
    store, monkeypatch, snapshot, expected
):
    """By itself an interval of 60 s becomes 200 times what the last snapshot took."""
    found = at_risk(store, monkeypatch, configuration(snapshot_every=None), step=20.0, snapshot=snapshot)
    first, *others = [before for before, after in pairwise(found) if after < before]
    assert first == 60.0
    assert others == [expected] * len(others)
    assert others


def test_the_first_snapshot_of_a_large_state_waits_until_its_likely_cost_is_small_too(store, monkeypatch):
    """x, its mean and the pixels of a stage: 8 images of 1x4x4 each, as float32 and as bytes, 1,152 bytes."""
    monkeypatch.setattr("jobs.compute.sampling.PACE", 1152)
    found = at_risk(store, monkeypatch, configuration(snapshot_every=None), step=40.0, snapshot=0.125)
    first, *others = [before for before, after in pairwise(found) if after < before]
    assert first == 200.0
    assert others == [80.0] * 9


def test_what_a_snapshot_took_is_remembered_for_the_next_shard(store, monkeypatch):
    shards = (range(8), range(8, 24))
    chosen = configuration(snapshot_every=None)
    found = at_risk(store, monkeypatch, chosen, step=20.0, snapshot=1.0, shards=shards)
    assert [before for before, after in pairwise(found) if after < before] == [60.0, 100.0, 200.0]


def test_an_interval_that_is_written_is_kept(store, monkeypatch):
    found = at_risk(store, monkeypatch, configuration(snapshot_every=40.0), step=20.0, snapshot=9.0)
    assert max(found) == 40.0


def test_a_snapshot_costs_less_than_its_share_of_the_interval(tmp_path):
    """The state of 1,024 images of 64x64 colour: x and its mean. In CPU time: others use the machine."""
    tensors = {name: torch.randn(1024, 3, 64, 64) for name in ("x", "mean")}
    store = LocalStore(tmp_path)
    snapshots = Snapshots(store, PATHS.snapshots, CONFIGURATION.fingerprint, EXECUTION, "a" * 32)
    seconds = []
    for step in range(3):
        began = time.process_time()
        snapshots.save(Progress(range(1024), State(step, tensors, 0)))
        seconds.append(time.process_time() - began)
    assert min(seconds) < SHARE * INTERVAL


def test_receipts_stay_small_however_many_groups_were_resumed(store):
    chosen = configuration(group_size=1, samples=24, shard_size=24)
    prepare(store, chosen)
    with pytest.raises(Drained):
        sample(store, chosen, range(24), context=Context(24 * 9 - 3))
    receipt = sample(store, chosen, range(24))
    assert receipt.notes[0] == "groups found finished in snapshots: 23"
    assert len(pickle.dumps(receipt)) < 1024
