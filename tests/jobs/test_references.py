"""References: features of real data are made once for each content and extractor, and checked when read."""

import numpy as np
import pytest
from shards import EXTRACTOR, Worker

from jobs.inputs.datasets import read_dataset
from jobs.references import reference as references
from jobs.references.reference import build_reference, load_reference, reference_folder
from jobs.specs.sections import DataSet
from jobs.storage.commit import data_name
from jobs.storage.features import features_in_order
from jobs.store_local import LocalStore

HELD_OUT = DataSet(name="digits-heldout")
COUNT = len(read_dataset("digits-heldout"))


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(references, "PART", 256)


def rows(store, reference):
    found = features_in_order(store, reference.folder, reference.markers, 0, reference.count, 100)
    return np.concatenate([block.features for block in found])


def test_features_are_those_of_the_data_in_order(store):
    reference = build_reference(store, HELD_OUT, EXTRACTOR, Worker())
    images = read_dataset("digits-heldout").images
    assert (reference.count, reference.content) == (COUNT, read_dataset("digits-heldout").content_hash)
    np.testing.assert_array_equal(rows(store, reference), images.astype(np.float32).sum(axis=(1, 2)))
    assert [marker.samples for marker in reference.markers] == [
        range(256),
        range(256, 512),
        range(512, COUNT),
    ]
    assert load_reference(store, HELD_OUT, EXTRACTOR).digest == reference.digest


def test_a_second_build_makes_nothing(store):
    build_reference(store, HELD_OUT, EXTRACTOR, Worker())
    worker = Worker()
    build_reference(store, HELD_OUT, EXTRACTOR, worker)
    assert worker.sums.images == 0


def test_an_interrupted_build_goes_on(store):
    calls = []

    def give_up():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        build_reference(store, HELD_OUT, EXTRACTOR, Worker(), give_up)
    with pytest.raises(FileNotFoundError):
        load_reference(store, HELD_OUT, EXTRACTOR)
    worker = Worker()
    reference = build_reference(store, HELD_OUT, EXTRACTOR, worker)
    assert worker.sums.images == COUNT - 512
    assert reference.count == COUNT


def test_what_was_never_built_is_not_there(store):
    with pytest.raises(FileNotFoundError):
        load_reference(store, HELD_OUT, EXTRACTOR)
    assert reference_folder(store, HELD_OUT, EXTRACTOR) is None


def test_damaged_parts_are_quarantined_and_made_again(store):
    before = rows(store, build_reference(store, HELD_OUT, EXTRACTOR, Worker()))
    reference = load_reference(store, HELD_OUT, EXTRACTOR)
    store.delete(data_name(reference.folder, reference.markers[1]))
    with pytest.raises(FileNotFoundError, match=f"features of 256 of {COUNT}"):
        load_reference(store, HELD_OUT, EXTRACTOR)
    worker = Worker()
    again = build_reference(store, HELD_OUT, EXTRACTOR, worker)
    assert worker.sums.images == 256
    np.testing.assert_array_equal(rows(store, again), before)
    root, _ = reference_folder(store, HELD_OUT, EXTRACTOR)
    assert any(entry.name.endswith("incident.json") for entry in store.list(f"{root}/quarantine"))


def test_other_data_under_the_same_name_get_features_of_their_own(store, tmp_path):
    images = read_dataset("digits-heldout").images
    data_set = DataSet(name="mine", path=str(tmp_path / "mine.npz"))
    np.savez(tmp_path / "mine.npz", images=images[:300])
    first = build_reference(store, data_set, EXTRACTOR, Worker())
    np.savez(tmp_path / "mine.npz", images=images[300:])
    second = build_reference(store, data_set, EXTRACTOR, Worker())
    assert (first.count, second.count) == (300, COUNT - 300)
    assert first.folder != second.folder
    assert load_reference(store, data_set, EXTRACTOR).digest == second.digest != first.digest


def test_extractors_are_kept_apart(store):
    other = EXTRACTOR.model_copy(update={"weights": "c" * 64})
    build_reference(store, HELD_OUT, EXTRACTOR, Worker())
    with pytest.raises(FileNotFoundError):
        load_reference(store, HELD_OUT, other)
    assert (
        build_reference(store, HELD_OUT, other, Worker()).folder
        != load_reference(store, HELD_OUT, EXTRACTOR).folder
    )
