"""The commit protocol on every kind of store: one winner, nothing left of losers, damage seen."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from storage import commit_images, image_rows

from jobs.paths import SPAN, RangeFolder, SweepPaths, attempt_range, marker_range
from jobs.storage.commit import DamageError, OverlapError, data_name, load_committed, quarantine
from jobs.storage.images import committed_images
from jobs.store import open_store

PATHS = SweepPaths("sweep").configuration("f" * 64)


@pytest.fixture
def store(store_url):
    return open_store(store_url)


def test_a_commit_is_a_file_and_a_marker(store):
    samples = range(8, 16)
    done = commit_images(store, PATHS.images, samples)
    assert done.won
    marker = load_committed(store, PATHS.images, samples)
    assert marker.model_dump_json() == done.marker.model_dump_json()
    assert marker.size == store.size(data_name(PATHS.images, marker))
    assert (marker.rows, marker.steps) == (8, (10,))
    (block,) = committed_images(store, PATHS.images, marker)
    assert block.digest == image_rows(samples)[0].digest


def test_what_is_not_there_is_none(store):
    assert load_committed(store, PATHS.images, range(8)) is None


def test_the_first_of_many_attempts_wins_and_the_others_leave_no_file(store):
    with ThreadPoolExecutor(6) as pool:
        commits = list(
            pool.map(lambda seed: commit_images(store, PATHS.images, range(8), seed=seed), range(12))
        )
    (winner,) = [done for done in commits if done.won]
    assert {done.marker.attempt for done in commits} == {winner.marker.attempt}
    names = [entry.name for entry in store.list(PATHS.images.root)]
    assert len([name for name in names if marker_range(name)]) == 1
    assert [attempt_range(name)[1] for name in names if attempt_range(name)] == [winner.marker.attempt]
    committed_images(store, PATHS.images, winner.marker)


@pytest.mark.parametrize("other", [range(4), range(4, 12), range(2, 6), range(16)])
def test_overlapping_ranges_are_refused_and_leave_no_file(store, other):
    commit_images(store, PATHS.images, range(8))
    with pytest.raises(OverlapError, match="000000000000-000000000008"):
        commit_images(store, PATHS.images, other)
    assert len(list(store.list(PATHS.images.root))) == 2


def test_overlap_is_seen_across_subfolders(store):
    commit_images(store, PATHS.images, range(SPAN - 4, SPAN + 4))
    with pytest.raises(OverlapError):
        commit_images(store, PATHS.images, range(SPAN, SPAN + 8))
    assert commit_images(store, PATHS.images, range(SPAN + 4, SPAN + 8)).won


def test_neighbours_are_no_overlap(store):
    for samples in (range(8), range(16, 24), range(8, 16)):
        assert commit_images(store, PATHS.images, samples).won


@pytest.mark.parametrize("damage", ["truncated", "missing", "marker", "other range"])
def test_damage_is_named_with_its_files(store, damage):
    samples = range(8)
    marker = commit_images(store, PATHS.images, samples).marker
    file, name = data_name(PATHS.images, marker), PATHS.images.marker(samples)
    if damage == "truncated":
        store.put(file, store.get(file)[:-1])
    elif damage == "missing":
        store.delete(file)
    elif damage == "marker":
        store.put(name, store.get(name)[:-5])
    else:
        store.put(name, marker.model_copy(update={"last": 9}).model_dump_json().encode())
    with pytest.raises(DamageError) as error:
        load_committed(store, PATHS.images, samples)
    assert error.value.names[0] == name
    assert (file in error.value.names) == (damage in ("truncated", "missing"))


def test_a_changed_pixel_is_damage_though_the_size_is_right(store):
    samples = range(8)
    marker = commit_images(store, PATHS.images, samples).marker
    other = RangeFolder("elsewhere")
    file = data_name(other, commit_images(store, other, samples, seed=1).marker)
    store.put(data_name(PATHS.images, marker), store.get(file))
    with pytest.raises(DamageError, match="digest"):
        committed_images(store, PATHS.images, marker)


@pytest.mark.parametrize("samples", [range(7), range(1, 9)])
def test_missing_or_other_rows_are_damage(store, samples):
    marker = commit_images(store, PATHS.images, range(8)).marker
    file = data_name(RangeFolder("elsewhere"), commit_images(store, RangeFolder("elsewhere"), samples).marker)
    store.put(data_name(PATHS.images, marker), store.get(file))
    with pytest.raises(DamageError, match=r"does not hold just the samples \[0, 8\)"):
        committed_images(store, PATHS.images, marker)


def test_a_file_that_is_no_parquet_is_damage(store):
    marker = commit_images(store, PATHS.images, range(8)).marker
    store.put(data_name(PATHS.images, marker), b"x" * marker.size)
    with pytest.raises(DamageError, match="cannot be read"):
        committed_images(store, PATHS.images, marker)


def test_quarantine_moves_and_says_why_twice_if_need_be(store):
    samples = range(8)
    for _ in range(2):
        marker = commit_images(store, PATHS.images, samples).marker
        names = [PATHS.images.marker(samples), data_name(PATHS.images, marker), PATHS.images.marker(range(9))]
        incident = quarantine(store, PATHS.root, names, "a test")
        found = {entry.name.rpartition("/")[2] for entry in store.list(f"{PATHS.root}/quarantine/{incident}")}
        assert found == {names[0].rpartition("/")[2], marker.file, "incident.json"}
        assert load_committed(store, PATHS.images, samples) is None
    assert list(store.list(PATHS.images.root)) == []
