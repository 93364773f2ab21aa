"""Shards: the same bits however the work was cut, stopped, killed or repeated."""

import multiprocessing
import random
import signal
from contextlib import suppress

import numpy as np
import pytest
from shards import (
    CONFIGURATION,
    KEY,
    PATHS,
    Context,
    Worker,
    configuration,
    new_store,
    outcome,
    perform_slowly,
    run_all,
    sample,
)

from jobs.compute.assignment import Drained
from jobs.planning.plan import plan
from jobs.storage.commit import OverlapError, data_name
from jobs.storage.features import committed_features
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def first_shard(tmp_path):
    store = new_store(tmp_path / "first")
    sample(store, CONFIGURATION, range(16))
    return outcome(store)


def test_a_shard_has_images_of_all_stages_and_their_features(store):
    receipt = sample(store, CONFIGURATION, range(16))
    ledger = scan(store, PATHS, [KEY])
    (images,), (features,) = ledger.images, ledger.features[KEY]
    assert (images.rows, images.steps, images.evaluations) == (32, (3, 8), 16 * 16)
    assert [(group.first, group.last, group.evaluations) for group in images.groups] == [
        (0, 8, 16),
        (8, 16, 16),
    ]
    assert images.inputs == {"model": "a" * 64}
    assert features.inputs["images"] == images.digest
    assert images.execution.threads == 1
    assert set(images.groups[0].clipped) == {3, 8}
    assert (receipt.images, receipt.evaluations, receipt.notes) == (16, 256, ())
    assert set(receipt.seconds) == {"load", "sample", "write", "extract"}
    early, late = committed_images(store, PATHS.images, images)
    assert (early.step, late.step) == (3, 8)
    np.testing.assert_array_equal(late.group, [0] * 8 + [1] * 8)
    # A Gaussian around 1/2 with deviation 0.2: the pixels say so, the early stage is still noisier.
    assert late.images.mean() == pytest.approx(127, abs=12)
    assert early.images.std() > late.images.std() > 30
    (early_sums, late_sums) = committed_features(store, PATHS.features(KEY), features)
    np.testing.assert_array_equal(late_sums.features, late.images.astype(np.float32).sum(axis=(1, 2)))
    np.testing.assert_array_equal(early_sums.features, early.images.astype(np.float32).sum(axis=(1, 2)))
    assert scan(store, PATHS, [KEY]).snapshots == 0


@pytest.mark.parametrize("shard_size", [8, 16, 24])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_bit_depends_on_the_shard_size_or_the_order(tmp_path, undisturbed, shard_size, seed):
    chosen = configuration(shard_size=shard_size)
    store = new_store(tmp_path, chosen)
    shards = plan(chosen)
    random.Random(seed).shuffle(shards)
    for shard in shards:
        sample(store, chosen, shard)
    assert outcome(store) == undisturbed


def test_every_stop_is_resumed_bit_for_bit(tmp_path, first_shard):
    """Stopped at every question there is, a few at a time, always by a new worker."""
    for stop_after in range(19):
        store = new_store(tmp_path / str(stop_after))
        with pytest.raises(Drained):
            sample(store, CONFIGURATION, range(16), context=Context(stop_after))
        made = scan(store, PATHS, [KEY])
        receipt = sample(store, CONFIGURATION, range(16))
        if not made.done:
            assert receipt.notes or stop_after == 0
            assert receipt.evaluations <= 256 - 16 * min(max(stop_after - 1, 0), 8)
        assert outcome(store) == first_shard


def test_a_shard_stopped_after_each_single_step_comes_to_its_end(store, undisturbed):
    class OneStep(Context):
        def should_stop(self):
            return super().should_stop() and not scan(store, PATHS, []).done

    attempts, spent = 0, 0
    while attempts < 100:
        context = OneStep(2)
        try:
            spent += sample(store, CONFIGURATION, range(24), context=context).evaluations
            break
        except Drained:
            attempts += 1
            spent += context.reports[-1][1] if context.reports else 0
    assert attempts > 10
    assert outcome(store) == undisturbed
    ledger = scan(store, PATHS, [KEY])
    assert ledger.snapshots == 0
    assert spent == ledger.images[0].evaluations


def files(store):
    """When each file was written; those that go meanwhile are left out."""
    found = {}
    for path in store.root.rglob("*-*.*"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def test_sigkill_at_any_moment_changes_no_bit(tmp_path, undisturbed):
    """Real processes, each killed after a random number of changes in the store, until all is done."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["jobs.work.perform"])  # its imports take seconds
    chance = random.Random(0)
    store = new_store(tmp_path, configuration(snapshot_every=0.001))
    kills = 0
    for first, last in ((0, 16), (16, 24)):
        while not scan(store, PATHS, [KEY]).features[KEY][first // 16 :]:
            process = processes.Process(target=perform_slowly, args=(str(store.root), first, last, 0.01))
            process.start()
            changes, seen = chance.randint(1, 9), files(store)
            while changes and process.is_alive():
                now = files(store)
                changes -= now != seen
                seen = now
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            kills += process.exitcode != 0
    assert outcome(store) == undisturbed
    assert kills >= 4


def test_what_is_done_is_not_done_again(store):
    sample(store, CONFIGURATION, range(16))
    worker = Worker()
    receipt = sample(store, CONFIGURATION, range(16), worker)
    assert (receipt.images, receipt.evaluations, worker.samplers, worker.sums.images) == (0, 0, 0, 0)


def test_missing_features_are_made_from_the_stored_images(store, undisturbed):
    run_all(store)
    for entry in list(store.list(PATHS.features(KEY).root)):
        store.delete(entry.name)
    assert scan(store, PATHS, [KEY]).without_features.ranges == [range(16), range(16, 24)]
    worker = Worker()
    for shard in (range(16), range(16, 24)):
        receipt = sample(store, CONFIGURATION, shard, worker)
        assert receipt.evaluations == 0
    assert worker.samplers == 0
    assert outcome(store) == undisturbed


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "marker"])
@pytest.mark.parametrize("kind", ["images", "features"])
def test_damage_is_quarantined_and_made_again(store, undisturbed, damage, kind):
    run_all(store)
    ledger = scan(store, PATHS, [KEY])
    folder = PATHS.images if kind == "images" else PATHS.features(KEY)
    marker = (ledger.images if kind == "images" else ledger.features[KEY])[0]
    file = data_name(folder, marker)
    if damage == "truncated":
        store.put(file, store.get(file)[:-1])
    elif damage == "missing":
        store.delete(file)
    elif damage == "marker":
        store.put(folder.marker(marker.samples), b"{")
    else:
        store.put(file, b"x" * marker.size)  # seen when it is read, which only features of its images need
        if kind == "features":
            return
        store.delete(PATHS.features(KEY).marker(marker.samples))
    receipt = sample(store, CONFIGURATION, range(16))
    assert "quarantined" in receipt.notes[0]
    assert outcome(store) == undisturbed


def test_a_deleted_marker_is_made_again(store, undisturbed):
    run_all(store)
    store.delete(PATHS.images.marker(range(16)))
    sample(store, CONFIGURATION, range(16))
    assert outcome(store) == undisturbed


def test_two_attempts_at_once_give_one_shard(store, undisturbed):
    """The second one commits while the first one is in its last step."""

    class Interrupted(Context):
        def progress(self, images, evaluations):
            if evaluations == 240 and not done:
                done.append(sample(store, CONFIGURATION, range(16)))

    done = []
    receipt = sample(store, CONFIGURATION, range(16), context=Interrupted())
    assert done[0].images == 16
    assert receipt.images == 0
    assert "another attempt committed images first, with the same bits" in receipt.notes
    sample(store, CONFIGURATION, range(16, 24))
    assert outcome(store) == undisturbed


def test_features_follow_the_images_that_won(store):
    """The other attempt had other bits (another device, say): the loser's pixels must not become features."""

    class Interrupted(Context):
        def progress(self, images, evaluations):
            if evaluations == 240 and not done:
                done.append(True)
                with pytest.raises(Drained):
                    sample(store, CONFIGURATION, range(16), Worker(mean=0.3), Context(18))

    done = []
    receipt = sample(store, CONFIGURATION, range(16), context=Interrupted())
    assert "another attempt committed images first, with other bits" in receipt.notes
    ledger = scan(store, PATHS, [KEY])
    assert not ledger.damaged
    assert not ledger.without_features


def test_samples_added_later_leave_the_old_ones_alone(tmp_path):
    chosen = configuration(samples=12)
    store = new_store(tmp_path, chosen)
    run_all(store, chosen)
    before = {m.samples: m.digest for m in scan(store, PATHS, [KEY]).images}
    assert list(before) == [range(12)]
    more = configuration(samples=30)
    run_all(store, more)
    ledger = scan(store, PATHS, [KEY])
    assert ledger.done == [range(12), range(12, 16), range(16, 30)]
    assert ledger.images[0].digest == before[range(12)]
    assert [(g.first, g.last) for g in ledger.images[1].groups] == [(12, 16)]


def test_a_range_planned_on_an_outdated_ledger_is_refused_before_any_work(store):
    sample(store, CONFIGURATION, range(16))
    worker = Worker()
    with pytest.raises(OverlapError):
        sample(store, CONFIGURATION, range(8, 24), worker)
    assert worker.samplers == 0


def test_a_configuration_that_was_altered_in_the_store_is_refused(store):
    text = store.get(PATHS.spec).replace(b'"seed": 1', b'"seed": 2')
    store.put(PATHS.spec, text)
    with pytest.raises(ValueError, match="was altered"):
        sample(store, CONFIGURATION, range(16))


def test_progress_counts_up_to_what_the_receipt_says(store):
    context = Context()
    receipt = sample(store, CONFIGURATION, range(16), context=context)
    assert context.reports == sorted(context.reports)
    assert context.reports[-1] == (receipt.images, receipt.evaluations)
