"""gc: what no run needs is found and removed once it is old, and nothing else, on every kind of store."""

import dataclasses
import json
import time
import weakref

import pytest
from storage import EXECUTION, FINGERPRINT, commit_features, commit_images

from jobs.paths import StorePaths, SweepPaths
from jobs.storage import gc
from jobs.storage.gc import DAY, SAFE, collect_garbage
from jobs.storage.lease import acquire, held, inspect
from jobs.storage.ledger import scan
from jobs.storage.snapshots import Snapshots
from jobs.store import Entry, open_store
from jobs.store_local import LocalStore

SWEEP = SweepPaths("sweep")
PATHS = SWEEP.configuration(FINGERPRINT)
REFERENCE = StorePaths().reference_features("real", "a" * 64, "cnn-a")


@pytest.fixture
def store(store_url, monkeypatch):
    """A store with a bit of everything, looked at two days later."""
    store = open_store(store_url)
    for samples in (range(8), range(8, 16)):
        marker = commit_images(store, PATHS.images, samples).marker
        commit_features(store, PATHS.features("cnn-a"), samples, marker.digest)
    commit_features(store, REFERENCE, range(8), "b" * 64)
    store.put(SWEEP.resolved, b"{}")
    later = time.time() + 2 * DAY
    monkeypatch.setattr(gc.time, "time", lambda: later)
    return store


def names(store):
    return {entry.name for entry in store.list("")}


def leave_orphans(store):
    """Attempts that lost beside a winner, that never came to a marker, and of a reference."""
    found = [
        PATHS.images.attempt(range(8), "1" * 32, "parquet"),
        PATHS.images.attempt(range(16, 24), "2" * 32, "parquet"),
        PATHS.images.attempt(range(16, 24), "3" * 32, "parquet"),
        PATHS.features("cnn-a").attempt(range(16, 24), "4" * 32, "parquet"),
        REFERENCE.attempt(range(8, 16), "5" * 32, "parquet"),
    ]
    for number, name in enumerate(found):
        store.put(name, b"x" * (number + 1))
    return found


def snapshot(store, group):
    name = PATHS.snapshots.attempt(group, "6" * 32, "safetensors")
    store.put(name, b"state")
    return name


def test_a_clean_store_keeps_everything(store):
    before = names(store)
    assert collect_garbage(store).found == []
    assert names(store) == before


def test_orphans_are_removed_and_what_is_committed_stays(store):
    before = names(store)
    orphans = leave_orphans(store)
    dry = collect_garbage(store, dry_run=True)
    assert sorted(item.name for item in dry.found) == sorted(orphans)
    assert dry.bytes == 1 + 2 + 3 + 4 + 5
    assert dry.count() == {"orphan": (5, 15)}
    assert names(store) == before | set(orphans)
    report = collect_garbage(store)
    assert report.found == dry.found
    assert names(store) == before
    assert len(scan(store, PATHS, ["cnn-a"]).features["cnn-a"]) == 2
    json.dumps(dataclasses.asdict(report))


def test_what_is_young_stays(store):
    leave_orphans(store)
    assert collect_garbage(store, older_than=3 * DAY).found == []


def test_beside_a_marker_that_cannot_be_read_nothing_is_removed(store):
    leave_orphans(store)
    store.put(PATHS.images.marker(range(8)), b"{}")
    found = {item.name for item in collect_garbage(store).found}
    assert not any("000000000000-000000000008" in name for name in found)


def test_what_lies_between_the_files_of_a_range_does_not_hide_its_marker(store):
    for samples in (range(8), range(8, 16)):
        name = PATHS.images.marker(samples)
        store.put(name.replace(".json", "-copy.parquet"), b"by hand")
        store.put(f"{name}.bak", b"by hand")
    before = names(store)
    assert collect_garbage(store).found == []
    assert names(store) == before


def test_a_marker_that_came_after_the_listing_counts(store, monkeypatch):
    (orphan, *_) = leave_orphans(store)[1:]
    listing = list(store.list(""))
    store.put(PATHS.images.marker(range(16, 24)), b"a marker")
    monkeypatch.setattr(store, "list", lambda folder: iter(e for e in listing if e.name.startswith(folder)))
    assert orphan not in {item.name for item in collect_garbage(store).found}


class Endless(LocalStore):
    """Lists as many names as it is told, and knows how many of them are held at once."""

    def __init__(self, root, count):
        super().__init__(root)
        self.count = count
        self.most = 0

    def list(self, folder):
        if folder:
            return
        held = weakref.WeakSet()
        for number in range(self.count):
            samples = range(8 * number, 8 * number + 8)
            for name in (
                PATHS.images.attempt(samples, "1" * 32, "parquet"),
                PATHS.images.marker(samples),
            ):
                entry = Entry(name, 1)
                held.add(entry)
                yield entry
            self.most = max(self.most, len(held))


def test_the_listing_of_a_store_is_not_held(tmp_path):
    store = Endless(tmp_path, 5_000)
    assert collect_garbage(store).found == []
    assert 0 < store.most < 20


def test_snapshots_of_groups_that_are_done_go_and_others_stay(store):
    done, unfinished = snapshot(store, range(8, 12)), snapshot(store, range(16, 24))
    assert [item.name for item in collect_garbage(store).found] == [done]
    assert unfinished in names(store)
    assert Snapshots(store, PATHS.snapshots, FINGERPRINT, EXECUTION, "7" * 32).load([range(16, 24)])[1]


def test_leases_of_drivers_that_are_gone_go(store):
    acquire(store, SWEEP).release()
    assert {item.kind for item in collect_garbage(store).found} == {"lease"}
    assert inspect(store, SWEEP) is None
    assert acquire(store, SWEEP).holder.epoch == 1


def test_a_lease_that_is_held_stays_and_young_work_is_left_alone(store, monkeypatch):
    leave_orphans(store)
    monkeypatch.undo()
    with held(store, SWEEP, interval=60.0):
        report = collect_garbage(store, older_than=-1.0)  # however young
        assert report.left_alone == ["references", "sweep"]
        assert report.found == []
        assert inspect(store, SWEEP).alive
    assert collect_garbage(store, older_than=-1.0).left_alone == []
    assert SAFE < DAY


def test_quarantined_files_go_only_when_asked(store):
    name = f"{PATHS.root}/quarantine/{'8' * 32}/images/000000/x.parquet"
    store.put(name, b"damaged")
    assert collect_garbage(store).found == []
    (found,) = collect_garbage(store, quarantine=True).found
    assert (found.kind, found.name) == ("quarantine", name)
    assert name not in names(store)


def test_progress_is_told(store):
    leave_orphans(store)
    told = []
    collect_garbage(store, removing=lambda total: told.append(total) or told.append)
    assert told == [5, 1, 1, 1, 1, 1]
