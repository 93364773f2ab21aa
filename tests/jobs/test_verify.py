"""verify: every kind of damage is found, quarantined with its marker, and made again by the next run."""

import dataclasses
import json

import pytest
from shards import KEY, configuration, paths, prepare, sample

from jobs.fingerprint import file_sha256
from jobs.paths import StorePaths, SweepPaths
from jobs.planning.plan import plan
from jobs.planning.sweep import Sweep
from jobs.specs.sections import DataSet, Resources
from jobs.storage.commit import data_name
from jobs.storage.features import committed_features
from jobs.storage.ledger import scan
from jobs.store_local import LocalStore
from jobs.work.verify import verify


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights of some model")
    return path


@pytest.fixture
def chosen(weights):
    return configuration(
        model=configuration().model.model_copy(update={"weights": {"model": file_sha256(weights)}}),
        references=(DataSet(name="digits-heldout"),),
    )


@pytest.fixture
def store(tmp_path, chosen, weights):
    store = LocalStore(tmp_path / "store")
    prepare(store, chosen)
    sweep = Sweep(
        name="sweep",
        description="",
        written="",
        overrides={},
        rows=(chosen.row,),
        columns=(chosen.column,),
        configurations=(chosen,),
        store=str(store.root),
        resources=Resources(),
        files={},
        missing=(),
    )
    store.put(SweepPaths("sweep").resolved, sweep.to_json().encode())
    store.put(StorePaths().weights(file_sha256(weights)), weights.read_bytes())
    run(store, chosen)
    return store


def run(store, chosen):
    ledger = scan(store, paths(chosen), [KEY])
    for shard in [*plan(chosen, ledger.done), *ledger.without_features.ranges]:
        sample(store, chosen, shard)


def digests(store, chosen):
    ledger = scan(store, paths(chosen), [KEY])
    return [marker.digest for marker in [*ledger.images, *ledger.features[KEY]]]


def flip(store, name, position):
    data = bytearray(store.get(name))
    data[position] ^= 1
    store.put(name, bytes(data))


def test_a_whole_sweep_is_intact(store):
    report = verify(store, "sweep")
    assert report.intact
    assert (report.problems, report.orphans) == ([], [])
    assert report.files == 1 + 2 + 2 + 1  # spec, images, features, weights
    assert report.bytes > 10_000
    json.dumps(dataclasses.asdict(report))


def test_several_processes_find_the_same_damage(store, chosen, monkeypatch):
    monkeypatch.setattr("jobs.work.verify.SHARE", 1)
    where = paths(chosen)
    name = data_name(where.images, scan(store, where, [KEY]).images[1])
    flip(store, name, store.get(name).index(b"IDAT") + 8)
    alone = verify(store, "sweep", repair=False)
    told = []
    together = verify(
        store, "sweep", repair=False, processes=2, reading=lambda total: told.append(total) or told.append
    )
    assert dataclasses.asdict(together) == dataclasses.asdict(alone)
    assert [problem.file for problem in together.problems] == [where.images.marker(range(16, 24))]
    assert told == [6, 1, 1, 1, 1, 1, 1]


def test_every_single_flipped_byte_of_an_image_file_is_found_or_harmless(store, chosen):
    """Harmless: bytes that change no pixel, no index and no step, such as the names inside the file."""
    where = paths(chosen)
    marker = scan(store, where, [KEY]).images[0]
    name = data_name(where.images, marker)
    whole = store.get(name)
    found = 0
    for position in range(0, len(whole), 211):
        flip(store, name, position)
        found += not verify(store, "sweep", repair=False).intact
        store.put(name, whole)
    assert found > 0.3 * len(range(0, len(whole), 211))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "marker", "features"])
def test_damage_is_found_quarantined_and_made_again(store, chosen, damage):
    before = digests(store, chosen)
    where = paths(chosen)
    ledger = scan(store, where, [KEY])
    folder, marker = where.images, ledger.images[0]
    if damage == "features":
        folder, marker = where.features(KEY), ledger.features[KEY][0]
    name = data_name(folder, marker)
    if damage in ("flipped", "features"):
        # In a PNG, or in the lowest bits of a number: where no length and no checksum of Parquet looks.
        wanted = (
            b"IDAT"
            if damage == "flipped"
            else committed_features(store, folder, marker)[0].features[3].tobytes()
        )
        flip(store, name, store.get(name).index(wanted) + 8)
    elif damage == "truncated":
        store.put(name, store.get(name)[:-1])
    elif damage == "missing":
        store.delete(name)
    else:
        store.put(folder.marker(marker.samples), b"{}")

    reported = verify(store, "sweep", repair=False)
    assert [problem.incident for problem in reported.problems] == [None] * len(reported.problems)
    report = verify(store, "sweep")
    assert not report.intact
    assert [problem.reason for problem in report.problems] == [
        problem.reason for problem in reported.problems
    ]
    incident = f"{where.root}/quarantine/{report.problems[0].incident}/"
    moved = {entry.name.removeprefix(incident) for entry in store.list(incident.rstrip("/"))}
    assert folder.marker(marker.samples).removeprefix(f"{where.root}/") in moved
    if damage in ("flipped", "truncated", "features"):
        assert name.removeprefix(f"{where.root}/") in moved

    for line in scan(store, where, [KEY]).damaged:  # features of quarantined images
        for stale in line.names:
            store.delete(stale)
    run(store, chosen)
    assert digests(store, chosen) == before
    assert verify(store, "sweep").intact


def test_orphans_are_listed_and_left_alone(store, chosen):
    orphan = paths(chosen).images.attempt(range(16), "0" * 32, "parquet")
    store.put(orphan, b"of an attempt that was killed before its marker")
    report = verify(store, "sweep")
    assert report.intact
    assert report.orphans == [orphan]
    assert store.size(orphan) is not None


def test_damaged_weights_are_quarantined(store, weights):
    name = StorePaths().weights(file_sha256(weights))
    flip(store, name, 3)
    (problem,) = verify(store, "sweep").problems
    assert "sha256" in problem.reason
    assert store.size(name) is None


@pytest.mark.parametrize("text", [b"{}", None])
def test_an_altered_configuration_is_quarantined(store, chosen, text):
    name = paths(chosen).spec
    store.put(name, text or store.get(name).replace(b'"seed": 1', b'"seed": 2'))
    (problem,) = verify(store, "sweep").problems
    assert problem.file == name
    assert store.size(name) is None


def test_an_unknown_sweep_is_an_error(store):
    with pytest.raises(FileNotFoundError):
        verify(store, "other")
