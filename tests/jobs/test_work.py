"""Shards: the same bits however the work was cut, stopped, killed or repeated."""

import multiprocessing
import pickle
import random
import signal
import time
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
import torch
from shards import KEY, Context, Worker, configuration, paths, perform_slowly, prepare, sample
from storage import EXECUTION

from jobs.compute.assignment import Drained
from jobs.compute.sampling import INTERVAL, SHARE
from jobs.digests import add_digests
from jobs.planning.plan import plan
from jobs.storage.commit import OverlapError, data_name
from jobs.storage.features import committed_features
from jobs.storage.images import BadImagesError, committed_images
from jobs.storage.ledger import scan
from jobs.storage.snapshots import Progress, Snapshots
from jobs.store_local import LocalStore
from sdesampling.samplers import NonFiniteStateError, State

CONFIGURATION = configuration()
PATHS = paths(CONFIGURATION)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "store")


def new_store(root, chosen=CONFIGURATION):
    store = LocalStore(root)
    prepare(store, chosen)
    return store


def run_all(store, chosen=CONFIGURATION):
    for shard in plan(chosen, scan(store, paths(chosen), [KEY]).done):
        sample(store, chosen, shard)


def outcome(store, chosen=CONFIGURATION):
    """Digests of all pixels and all features, from the files."""
    where = paths(chosen)
    ledger = scan(store, where, [KEY])
    assert not ledger.damaged
    images = [block for m in ledger.images for block in committed_images(store, where.images, m)]
    features = [
        block for m in ledger.features[KEY] for block in committed_features(store, where.features(KEY), m)
    ]
    count = sum(len(block.index) for block in images)
    return add_digests(b.digest for b in images), add_digests(b.digest for b in features), count


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = new_store(tmp_path_factory.mktemp("undisturbed"))
    run_all(store)
    torch.set_num_threads(threads)
    return outcome(store)


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


def test_a_sampler_that_diverges_fails_by_name(store):
    class Broken(Worker):
        def sampler(self, store, configuration):
            sampler = super().sampler(store, configuration)
            sampler.finish = lambda state: torch.full((8, 1, 4, 4), float("nan"))
            return sampler

    with pytest.raises(BadImagesError, match=r"reverse diffusion / PC8 \(.*\), samples \[0, 8\), step 3"):
        sample(store, CONFIGURATION, range(16), Broken())
    assert scan(store, PATHS, [KEY]).done == []


def test_a_state_that_is_not_finite_fails_at_its_step(store):
    class Broken(Worker):
        def sampler(self, store, configuration):
            sampler = super().sampler(store, configuration)

            def check(state):
                if state.step == 2:
                    raise NonFiniteStateError("x is not finite")

            sampler.check_finite = check
            return sampler

    with pytest.raises(BadImagesError, match=r"step 2: x is not finite"):
        sample(store, CONFIGURATION, range(16), Broken())


class Small(Worker):
    """Memory suffices for so many samples at once."""

    def __init__(self, most, error):
        super().__init__()
        self._most = most
        self._error = error

    def sampler(self, store, configuration):
        sampler = super().sampler(store, configuration)
        step = sampler.step
        at_once = self.execution(configuration).micro_batch

        def short(state, noise):
            if at_once > self._most and state.step == 5:
                raise self._error
            return step(state, noise)

        sampler.step = short
        return sampler


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_short_of_memory_the_micro_batch_is_halved_and_markers_say_so(store, error):
    worker = Small(2, error)
    receipt = sample(store, CONFIGURATION, range(16), worker)
    assert [note.rpartition(" ")[2] for note in receipt.notes] == ["4", "2"]
    (marker,) = scan(store, PATHS, [KEY]).images
    assert marker.execution.micro_batch == 2
    assert receipt.evaluations > marker.evaluations  # what was lost is counted as spent
    sample(store, CONFIGURATION, range(16, 24), worker)
    assert worker.execution(CONFIGURATION).micro_batch == 2  # remembered, not found out again
    assert scan(store, PATHS, [KEY]).snapshots == 0


def test_short_of_memory_for_a_single_sample_is_a_failure(store):
    with pytest.raises(MemoryError):
        sample(store, CONFIGURATION, range(16), Small(0, MemoryError()))


def test_other_errors_of_pytorch_are_not_taken_for_lack_of_memory(store):
    with pytest.raises(RuntimeError, match="shapes do not match"):
        sample(store, CONFIGURATION, range(16), Small(4, RuntimeError("shapes do not match")))


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


def test_receipts_stay_small_however_many_groups_were_resumed(store):
    chosen = configuration(group_size=1, samples=24, shard_size=24)
    prepare(store, chosen)
    with pytest.raises(Drained):
        sample(store, chosen, range(24), context=Context(24 * 9 - 3))
    receipt = sample(store, chosen, range(24))
    assert receipt.notes[0] == "groups found finished in snapshots: 23"
    assert len(pickle.dumps(receipt)) < 1024
