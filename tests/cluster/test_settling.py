"""Before a run, what is open is decided by the store's record or else by the machines; once."""

import pytest

from cluster.settling import settled
from jobs.paths import SweepPaths
from jobs.planning.hardware import Hardware
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import expand
from jobs.store_local import LocalStore

FAST = Hardware(cpu_bfloat16=True)
GPU = Hardware(gpus=1, gpu="H100", gpu_memory=2**36, gpu_bfloat16=True)


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: small\nmodel: digits-vp\nsamples: 8\nmetrics: []\nprecision: auto\n"
        "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: none, steps: 30}\n"
    )
    return expand(load_spec(str(path)))


def never():
    raise AssertionError("the hardware is on record, so nobody may be asked")


def test_a_run_again_keeps_what_was_decided_whatever_the_machine_is_now(tmp_path, sweep):
    store, notes = LocalStore(tmp_path / "store"), []
    first = settled(store, sweep, lambda: FAST, notes.append)
    assert notes == ["precision: bfloat16, float32 below noise level 0.125"]
    store.put(SweepPaths("small").resolved, first.to_json().encode())
    again = settled(store, sweep, never, notes.append)
    assert again == first
    assert settled(store, first, never, notes.append) == first  # as `resume` does


def test_a_record_that_cannot_be_read_is_made_anew(tmp_path, sweep):
    store = LocalStore(tmp_path / "store")
    store.put(SweepPaths("small").resolved, b'{"name": "of an older version"}')
    notes = []
    found = settled(store, sweep, lambda: GPU, notes.append)
    assert found.hardware == GPU
    assert notes[-1] == "one GPU for each worker: H100"
