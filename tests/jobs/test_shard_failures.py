"""Shards that cannot be made: samplers that diverge, memory that does not suffice."""

import pytest
import torch
from shards import CONFIGURATION, KEY, PATHS, Worker, sample

from jobs.storage.images import BadImagesError
from jobs.storage.ledger import scan
from sdesampling.samplers import NonFiniteStateError

pytestmark = pytest.mark.usefixtures("one_thread")


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
