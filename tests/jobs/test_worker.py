"""Workers: weights come through the store, are checked, and stay loaded; runs leave a record."""

import numpy as np
import pytest
import torch
from shards import configuration

from jobs.compute.extraction import extract
from jobs.compute.worker import WorkerState
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import read_digits
from jobs.models import catalog
from jobs.models.build import WrongWeightsError
from jobs.models.weights import send_weights
from jobs.paths import StorePaths, SweepPaths
from jobs.planning.submission import MAX_MICRO_BATCH
from jobs.specs.configuration import Extractor
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import Resources
from jobs.storage import runrecord
from jobs.store_local import LocalStore

WEIGHTS = catalog.WEIGHTS / "digits-ve.safetensors"
CNN = catalog.WEIGHTS / "digits-cnn.safetensors"


@pytest.fixture(scope="module")
def digits():
    model = configuration().model.model_copy(
        update={"name": "digits-ve", "shape": (1, 8, 8), "weights": {"model": file_sha256(WEIGHTS)}}
    )
    return configuration(model=model)


@pytest.fixture
def store(tmp_path):
    store = LocalStore(tmp_path)
    send_weights(store, {file_sha256(path): str(path) for path in (WEIGHTS, CNN)})
    return store


def test_weights_are_sent_once(store, tmp_path):
    files = {file_sha256(WEIGHTS): str(WEIGHTS)}
    assert send_weights(store, files) == 0
    store.delete(StorePaths().weights(file_sha256(WEIGHTS)))
    assert send_weights(store, files) == 1


def test_weights_that_changed_since_they_were_planned_with_are_not_sent(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"new")
    store = LocalStore(tmp_path / "store")
    with pytest.raises(WrongWeightsError, match="has changed"):
        send_weights(store, {"a" * 64: str(path)})
    assert store.size(StorePaths().weights("a" * 64)) is None


def test_features_do_not_depend_on_how_pixels_lie_in_memory(store):
    """The shipped digits, the same from an archive, and the same sent by another machine are one data set."""
    weights = file_sha256(CNN)
    network = WorkerState().extractor(
        store, Extractor(name="digits-cnn", weights=weights, dimension=64, logits=10)
    )
    images = read_digits("heldout").images[:300]
    layouts = (images[:, 0][:, None], images.reshape(300, 1, 8, 8).copy(), np.asfortranarray(images))
    assert len({each.strides for each in layouts}) == 3
    found = {extract(network, 0, each, [range(300)]).digest for each in layouts}
    assert len(found) == 1


def test_a_model_stays_loaded_between_shards_and_configurations(store, digits):
    worker = WorkerState()
    first = worker.sampler(store, digits)
    assert worker.sampler(store, digits) is first
    fewer = PredictorCorrector(
        kind="predictor_corrector", predictor="reverse_diffusion", corrector="none", steps=3
    )
    other = worker.sampler(store, configuration(model=digits.model, sampler=fewer, stages=(3,)))
    assert other.model.network is first.model.network
    assert (first.steps, other.steps) == (8, 3)


def test_micro_batches_are_part_of_the_execution_identity(store, digits):
    worker = WorkerState()
    small = configuration(model=digits.model, resources=Resources(micro_batch=4))
    assert worker.sampler(store, digits).model.micro_batch == 8  # never more than a group
    assert worker.execution(digits).micro_batch == 8
    assert worker.execution(small).micro_batch == 4
    assert worker.execution(configuration(group_size=1024, shard_size=1024)).micro_batch == MAX_MICRO_BATCH
    execution = worker.execution(digits)
    assert execution.threads == torch.get_num_threads()
    assert (execution.torch, execution.precision) == (torch.__version__, "float32")
    assert execution.device.startswith("cpu ")


def test_precisions_are_part_of_the_execution_identity_and_models_of_their_own(store, digits):
    worker = WorkerState()
    mixed = digits.model_copy(update={"precision": "bfloat16", "float32_below": 0.5})
    low = digits.model_copy(update={"precision": "bfloat16"})
    networks = [worker.sampler(store, each).model.network for each in (digits, low, mixed)]
    assert len(set(map(id, networks))) == 3
    precisions = [worker.execution(each).precision for each in (digits, low, mixed)]
    assert precisions == ["float32", "bfloat16", "bfloat16, float32 below noise level 0.5"]


def test_a_precision_that_was_never_decided_is_refused(store, digits):
    with pytest.raises(ValueError, match="precision auto was not decided; submit the sweep again"):
        WorkerState().sampler(store, digits.model_copy(update={"precision": "auto"}))


def test_an_extractor_is_loaded_once(store):
    worker = WorkerState()
    extractor = Extractor(name="digits-cnn", weights=file_sha256(CNN), dimension=64, logits=10)
    assert worker.extractor(store, extractor) is worker.extractor(store, extractor)


def test_damaged_or_missing_weights_are_refused(store, digits):
    name = StorePaths().weights(file_sha256(WEIGHTS))
    data = bytearray(store.get(name))
    data[-1] ^= 1
    store.put(name, bytes(data))
    with pytest.raises(WrongWeightsError, match="digits-ve"):
        WorkerState().sampler(store, digits)
    store.delete(name)
    with pytest.raises(FileNotFoundError):
        WorkerState().sampler(store, digits)


def test_run_records_tell_how_runs_began_and_ended(store):
    paths = SweepPaths("sweep")
    first = runrecord.begin(store, paths, ["sdesweep", "run", "sweep"])
    first.images = 7
    first.retries["machine"] = 2
    runrecord.save(store, paths, first)
    assert [(run.outcome, run.images, run.ended) for run in runrecord.runs(store, paths)] == [
        ("running", 7, None)
    ]
    runrecord.end(store, paths, first, "incomplete", 75)
    (found,) = runrecord.runs(store, paths)
    assert found == first
    assert (found.outcome, found.exit_code, found.retries) == ("incomplete", 75, {"machine": 2})
    assert found.started <= found.ended
    with pytest.raises(ValueError, match="outcome"):
        found.outcome = "perhaps"
