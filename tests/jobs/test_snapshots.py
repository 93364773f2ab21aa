"""Snapshots: the whole state and back, the furthest one wins, damaged ones are ignored with a note."""

import pytest
import torch
from storage import EXECUTION

from jobs.paths import RangeFolder
from jobs.storage.snapshots import Progress, Snapshots, remove_finished
from jobs.store_local import LocalStore
from sdesampling.samplers import State

FOLDER = RangeFolder("sweep/f/snapshots")
GROUP = range(8, 12)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def attempt(store, number, execution=EXECUTION, fingerprint="f" * 64):
    return Snapshots(store, FOLDER, fingerprint, execution, f"{number:032x}")


def progress(step, group=GROUP, finished=False):
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "x": torch.randn(4, 1, 3, 3, generator=generator),
        "double": torch.randn(4, dtype=torch.float64, generator=generator),
        "half": torch.randn(4, 2, generator=generator).bfloat16(),
        "count": torch.arange(4),
        "flag": torch.tensor([True, False, True, True]),
        "scalar": torch.tensor(1.5),
        "nothing": torch.zeros(4, 0),
    }
    return Progress(
        group=group,
        state=State(step, {} if finished else tensors, evaluations=2 * step),
        finished=finished,
        pixels={1: torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8, generator=generator)},
        clipped={1: 0.25},
        diagnostics={"r_hat": float("nan")} if finished else {},
        seconds=1.5,
    )


def test_everything_comes_back_bit_for_bit(store):
    saved = progress(7)
    attempt(store, 1).save(saved)
    loaded, notes = attempt(store, 2).load([GROUP])
    assert notes == []
    found = loaded[GROUP]
    assert (found.state.step, found.state.evaluations) == (7, 14)
    assert (found.finished, found.clipped, found.seconds) == (False, {1: 0.25}, 1.5)
    assert found.state.tensors.keys() == saved.state.tensors.keys()
    for name, tensor in saved.state.tensors.items():
        assert found.state.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.state.tensors[name], tensor)
    assert torch.equal(found.pixels[1], saved.pixels[1])


def test_the_furthest_of_several_attempts_is_used(store):
    for number, step in enumerate([3, 9, 5]):
        attempt(store, number).save(progress(step))
    assert attempt(store, 9).load([GROUP])[0][GROUP].state.step == 9
    attempt(store, 4).save(progress(1, finished=True))
    assert attempt(store, 9).load([GROUP])[0][GROUP].finished


def test_an_attempt_keeps_one_snapshot_of_a_group_and_removes_what_it_continued(store):
    first = attempt(store, 1)
    for step in (3, 4, 5):
        first.save(progress(step))
    assert len(list(store.list(FOLDER.root))) == 1
    second = attempt(store, 2)
    second.load([GROUP])
    second.save(progress(6))
    (entry,) = store.list(FOLDER.root)
    assert entry.name.endswith(f"{2:032x}.safetensors")


def test_groups_are_kept_apart(store):
    attempt(store, 1).save(progress(3))
    attempt(store, 1).save(progress(4, range(12, 16)))
    loaded, _ = attempt(store, 2).load([GROUP, range(16, 20)])
    assert {group: found.state.step for group, found in loaded.items()} == {GROUP: 3}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "metadata"])
def test_a_damaged_snapshot_is_ignored_with_a_note(store, damage):
    attempt(store, 1).save(progress(3))
    attempt(store, 2).save(progress(9))
    name = FOLDER.attempt(GROUP, f"{2:032x}", "safetensors")
    data = bytearray(store.get(name))
    if damage == "truncated":
        data = data[:-3]
    elif damage == "flipped":
        data[-20] ^= 1
    elif damage == "empty":
        data = bytearray()
    elif damage == "text":
        data = bytearray(b"no safetensors at all, only words")
    else:
        data = data.replace(b'\\"step\\":9', b'\\"step\\":8')
    store.put(name, bytes(data))
    loaded, notes = attempt(store, 3).load([GROUP])
    assert loaded[GROUP].state.step == 3
    assert len(notes) == 1
    assert name in notes[0]


def test_another_execution_identity_or_configuration_is_ignored_with_a_note(store):
    attempt(store, 1).save(progress(3))
    other = EXECUTION.model_copy(update={"threads": 2})
    loaded, notes = attempt(store, 2, execution=other).load([GROUP])
    assert loaded == {}
    assert "bits would be mixed" in notes[0]
    loaded, notes = attempt(store, 2, fingerprint="e" * 64).load([GROUP])
    assert loaded == {}
    assert len(notes) == 1


def test_remove_takes_those_of_every_attempt(store):
    for number in range(3):
        attempt(store, number).save(progress(number))
    attempt(store, 5).save(progress(4, range(12, 16)))
    attempt(store, 9).remove([GROUP])
    assert list(attempt(store, 9).load([GROUP, range(12, 16)])[0]) == [range(12, 16)]


def test_snapshots_that_came_after_the_commit_are_removed(store):
    for first in (0, 4, 8, 12, 16):
        attempt(store, 1).save(progress(3, range(first, first + 4)))
    assert remove_finished(store, FOLDER, [range(16, 20), range(4, 12)]) == 3
    left, _ = attempt(store, 2).load([range(first, first + 4) for first in (0, 4, 8, 12, 16)])
    assert list(left) == [range(4), range(12, 16)]
