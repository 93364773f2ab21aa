"""The ledger: what counts as done, what is damaged, what is left."""

import json
import re
from collections import Counter

import pytest
from storage import commit_features, commit_images

from jobs.digests import add_digests
from jobs.paths import SweepPaths
from jobs.planning.plan import gaps
from jobs.storage.commit import DamageError, data_name
from jobs.storage.features import features_in_order
from jobs.storage.ledger import Failure, clear_failures, failures, mend, scan, set_aside
from jobs.store_local import LocalStore

PATHS = SweepPaths("sweep").configuration("f" * 64)
KEYS = ["cnn-a", "cnn-b"]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def fill(store, samples, keys=KEYS):
    images = commit_images(store, PATHS.images, samples).marker
    for key in keys:
        commit_features(store, PATHS.features(key), samples, images.digest)
    return images


def test_an_empty_store_has_nothing_done(store):
    ledger = scan(store, PATHS, KEYS)
    assert (ledger.done, ledger.without_features.ranges, ledger.damaged) == ([], [], [])


def test_done_ranges_are_in_order_and_gaps_are_what_is_left(store):
    for samples in (range(16, 24), range(8), range(32, 40)):
        fill(store, samples)
    ledger = scan(store, PATHS, KEYS)
    assert ledger.done == [range(8), range(16, 24), range(32, 40)]
    assert ledger.count == 24
    assert ledger.without_features.ranges == []
    assert ledger.damaged == []
    assert list(gaps(40, ledger.done)) == [range(8, 16), range(24, 32)]


def test_images_without_all_features_are_told(store):
    fill(store, range(8))
    fill(store, range(8, 16), keys=KEYS[:1])
    fill(store, range(16, 24), keys=[])
    ledger = scan(store, PATHS, KEYS)
    assert ledger.done == [range(8), range(8, 16), range(16, 24)]
    assert ledger.without_features.ranges == [range(8, 16), range(16, 24)]
    assert scan(store, PATHS, KEYS[:1]).without_features.ranges == [range(16, 24)]
    assert scan(store, PATHS, []).without_features.ranges == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "unreadable marker"])
def test_damaged_images_are_not_done_and_mending_makes_room(store, damage):
    fill(store, range(8))
    marker = fill(store, range(8, 16))
    file, name = data_name(PATHS.images, marker), PATHS.images.marker(range(8, 16))
    if damage == "truncated":
        store.put(file, store.get(file)[:100])
    elif damage == "missing":
        store.delete(file)
    else:
        store.put(name, b"{}")
    ledger = scan(store, PATHS, KEYS)
    assert ledger.done == [range(8)]
    assert {found.samples for found in ledger.damaged} == {range(8, 16)}
    lines = mend(store, PATHS.root, ledger.damaged)
    assert name in lines[0]
    assert scan(store, PATHS, KEYS).damaged == []
    assert fill(store, range(8, 16)).digest == marker.digest
    assert scan(store, PATHS, KEYS).without_features.ranges == []


def altered(**changes):
    def alter(marker):
        return marker.model_copy(update=changes).model_dump_json().encode()

    return alter


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (altered(digests={10: "no digest"}), "is no marker"),
        (altered(inputs={"model": "../model"}), "is no marker"),
        (
            altered(file="../../../elsewhere"),
            "names the file '../../../elsewhere'",
        ),
        (altered(file=f"{0:012d}-{8:012d}-{'0' * 32}.parquet"), "which is not of its range"),
        (altered(rows=9), "says 9 rows, of 1 steps"),
        (altered(first=0, last=8), r"speaks of \[0, 8\)"),
        (lambda marker: b"\xff\x00 no text", "is no marker"),
        (lambda marker: b"", "is no marker"),
    ],
)
def test_an_altered_marker_is_named_and_quarantined(store, alter, reason):
    fill(store, range(8))
    marker = fill(store, range(8, 16))
    name = PATHS.images.marker(range(8, 16))
    store.put(name, alter(marker))
    ledger = scan(store, PATHS, [])
    assert ledger.done == [range(8)]
    (damage,) = ledger.damaged
    assert damage.names == (name,)
    assert re.search(reason, damage.reason)
    mend(store, PATHS.root, ledger.damaged)
    assert scan(store, PATHS, []).damaged == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("000003/000000000008-000000000016.json", "wrong folder"),
        ("000000/000000000000-000000900000.json", "is no marker"),
    ],
)
def test_a_marker_where_none_can_be_is_damage(store, name, reason):
    fill(store, range(8, 16))
    content = json.loads(store.get(PATHS.images.marker(range(8, 16))))
    _, samples = name.removesuffix(".json").split("/")
    first, last = map(int, samples.split("-"))
    file = content["file"].replace("000000000008-000000000016", samples)
    stray = f"{PATHS.images.root}/{name}"
    altered = {"first": first, "last": last, "rows": last - first, "file": file}
    store.put(stray, json.dumps(content | altered).encode())
    ledger = scan(store, PATHS, [])
    assert ledger.done == [range(8, 16)]
    assert [damage.names for damage in ledger.damaged] == [(stray,)]
    assert reason in ledger.damaged[0].reason


def test_a_shard_committed_while_the_ledger_is_read_is_no_damage(store, monkeypatch):
    """The listing may hold a marker and miss its file, which was renamed into the folder just before it."""
    marker = fill(store, range(8))
    listed = store.list
    monkeypatch.setattr(
        store, "list", lambda folder: (found for found in listed(folder) if marker.file not in found.name)
    )
    ledger = scan(store, PATHS, KEYS)
    assert (ledger.done, ledger.damaged) == ([range(8)], [])


def test_markers_are_read_again_when_they_are_asked_for(store):
    for first in range(0, 24, 8):
        fill(store, range(first, first + 8))
    images = scan(store, PATHS, []).images
    assert [marker.samples for marker in images] == images.ranges
    assert [marker.attempt for marker in (images[0], *images[1:])] == [marker.attempt for marker in images]
    assert images.digest == add_digests(marker.digest for marker in images)
    assert images.before(9).ranges == [range(8), range(8, 16)]
    store.delete(PATHS.images.marker(range(8, 16)))
    for read in (list, lambda markers: markers[1]):
        with pytest.raises(DamageError, match="is not there any more"):
            read(images)


def test_files_that_no_marker_names_are_orphans(store):
    first, second = fill(store, range(8)), fill(store, range(8, 16))
    orphan = PATHS.images.attempt(range(8), "0" * 32, "parquet")
    store.put(orphan, b"of an attempt that was killed")
    store.put(PATHS.images.marker(range(8, 16)), b"{}")
    unnamed = data_name(PATHS.images, second)
    assert scan(store, PATHS, KEYS).orphans == [orphan, unnamed]
    assert data_name(PATHS.images, first) not in scan(store, PATHS, KEYS).orphans


def test_a_deleted_marker_takes_the_features_with_it(store):
    fill(store, range(8))
    store.delete(PATHS.images.marker(range(8)))
    ledger = scan(store, PATHS, KEYS)
    assert ledger.done == []
    assert [damage.reason for damage in ledger.damaged] == [
        "made from images that are not there any more"
    ] * 2


def test_features_of_other_pixels_do_not_count(store):
    commit_images(store, PATHS.images, range(8), seed=1)
    commit_features(store, PATHS.features(KEYS[0]), range(8), "0" * 64)
    ledger = scan(store, PATHS, KEYS[:1])
    assert not ledger.features[KEYS[0]]
    assert ledger.without_features.ranges == [range(8)]


def test_of_overlapping_ranges_some_count_and_the_others_are_damage(store, monkeypatch):
    monkeypatch.setattr("jobs.storage.commit.refuse_overlap", lambda *_: None)
    for samples in (range(8), range(4, 12), range(12, 20), range(4), range(14, 15)):
        commit_images(store, PATHS.images, samples)
    ledger = scan(store, PATHS, [])
    assert ledger.done == [range(8), range(12, 20)]
    assert [damage.samples for damage in ledger.damaged] == [range(4), range(4, 12), range(14, 15)]
    mend(store, PATHS.root, ledger.damaged)
    ledger = scan(store, PATHS, [])
    assert (ledger.done, ledger.damaged) == ([range(8), range(12, 20)], [])


def test_failures_are_kept_until_cleared(store):
    for first in (8, 0):
        set_aside(store, PATHS, Failure(range(first, first + 8), 3, "Traceback: boom"))
    assert scan(store, PATHS, []).failed == [range(8), range(8, 16)]
    assert failures(store, PATHS) == [
        Failure(range(8), 3, "Traceback: boom"),
        Failure(range(8, 16), 3, "Traceback: boom"),
    ]
    name = PATHS.failed.marker(range(8))
    for content in (b"{", b"[]", b"{}", b"\xff"):
        store.put(name, content)
        assert failures(store, PATHS)[0] == Failure(range(8), 0, f"its record {name} cannot be read")
    assert clear_failures(store, PATHS) == 2
    assert failures(store, PATHS) == []


def test_scanning_lists_once_and_reads_each_marker_once(store, monkeypatch):
    for first in range(0, 40, 8):
        fill(store, range(first, first + 8))
    calls = Counter()
    for name in ("list", "get", "size", "open"):
        method = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda *args, name=name, method=method: calls.update([name]) or method(*args)
        )
    assert len(scan(store, PATHS, KEYS).done) == 5
    assert calls == {"list": 1, "get": 5 * 3}


def collect(store, key, samples, block=5):
    markers = scan(store, PATHS, [key]).features[key]
    return list(features_in_order(store, PATHS.features(key), markers, 10, samples, block))


def test_features_come_in_order_in_blocks_that_do_not_depend_on_shards(store):
    for samples in (range(16, 24), range(8), range(8, 16)):
        fill(store, samples)
    other = SweepPaths("other").configuration("f" * 64)
    whole = commit_features(store, other.features("cnn-a"), range(24), "0" * 64).marker
    found = collect(store, "cnn-a", 23)
    expected = list(features_in_order(store, other.features("cnn-a"), [whole], 10, 23, 5))
    assert [len(rows.index) for rows in found] == [5, 5, 5, 5, 3]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.digest == theirs.digest
        assert mine.logits is not None


@pytest.mark.parametrize(
    ("missing", "message"), [(range(8), "begins at sample 8"), (range(16, 24), "ends at 16")]
)
def test_missing_features_are_refused(store, missing, message):
    for samples in (range(8), range(8, 16), range(16, 24)):
        if samples != missing:
            fill(store, samples)
    with pytest.raises(DamageError, match=message):
        collect(store, "cnn-a", 24)


def test_features_of_a_step_that_is_not_there_are_refused(store):
    fill(store, range(8))
    markers = scan(store, PATHS, ["cnn-a"]).features["cnn-a"]
    with pytest.raises(DamageError, match=r"has the steps \(10,\), not 7"):
        list(features_in_order(store, PATHS.features("cnn-a"), markers, 7, 8, 5))
