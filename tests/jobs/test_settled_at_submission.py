"""What a spec leaves to auto is decided once, by the hardware on record, and is part of what is recorded."""

import pytest

from jobs.planning.hardware import Hardware, hardware_here
from jobs.planning.specfile import load_spec
from jobs.planning.submission import FLOAT32_BELOW, MAX_MICRO_BATCH, micro_batch_for, settle, settle_precision
from jobs.planning.sweep import Sweep, expand
from sdesampling.networks.ncsnpp import NCSNpp

PLAIN = Hardware()
FAST = Hardware(cpu_bfloat16=True)
GPUS = Hardware(gpus=4, gpu="H100", gpu_memory=80 * 2**30, gpu_bfloat16=True)
OLD_GPU = Hardware(gpus=1, gpu="V100", gpu_memory=16 * 2**30, cpu_bfloat16=True)

SPEC = """\
name: small
model: digits-ve
sampler: {kind: predictor_corrector, predictor: reverse_diffusion, corrector: none, steps: 10}
samples: 300
metrics: []
"""


@pytest.fixture
def sweep(tmp_path):
    def expanded(more=""):
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC + more)
        return expand(load_spec(str(path)))

    return expanded


def test_nothing_is_left_open_and_all_is_recorded(sweep):
    settled = settle(sweep("precision: auto\n"), GPUS)
    assert settled.hardware == GPUS
    assert settled.resources.gpus == 1.0
    (configuration,) = settled.configurations
    assert configuration.resources.gpus == 1.0
    assert configuration.resources.micro_batch == MAX_MICRO_BATCH
    assert (configuration.precision, configuration.float32_below) == ("bfloat16", FLOAT32_BELOW)
    assert settle(Sweep.from_json(settled.to_json()), PLAIN).configurations == settled.configurations


@pytest.mark.parametrize(
    ("hardware", "gpus", "precision"),
    [
        (PLAIN, "auto", "float32"),
        (FAST, "auto", "bfloat16"),
        (GPUS, "auto", "bfloat16"),
        (GPUS, "0", "float32"),  # on the CPUs of that machine, which have no units for it
        (OLD_GPU, "auto", "float32"),
        (OLD_GPU, "0", "bfloat16"),
    ],
)
def test_auto_takes_bfloat16_where_it_is_faster(sweep, hardware, gpus, precision):
    settled = settle(sweep(f"precision: auto\nresources: {{gpus: {gpus}}}\n"), hardware)
    assert [each.precision for each in settled.configurations] == [precision]


def test_fingerprints_tell_precisions_apart_and_auto_from_none_of_them(sweep):
    def fingerprint(precision, hardware):
        (configuration,) = settle(sweep(f"precision: {precision}\n"), hardware).configurations
        return configuration.fingerprint

    float32, bfloat16 = fingerprint("float32", FAST), fingerprint("bfloat16", PLAIN)
    mixed = fingerprint("auto", FAST)
    assert len({float32, bfloat16, mixed}) == 3
    assert fingerprint("auto", PLAIN) == float32
    (planned,) = settle_precision(sweep("precision: auto\n"), FAST).configurations
    assert planned.fingerprint == mixed


def test_what_the_spec_says_stays(sweep):
    settled = settle(sweep("precision: bfloat16\nresources: {gpus: 0.5, micro_batch: 3}\n"), PLAIN)
    (configuration,) = settled.configurations
    assert (configuration.precision, configuration.float32_below) == ("bfloat16", 0.0)
    assert (configuration.resources.gpus, configuration.resources.micro_batch) == (0.5, 3)


def test_networks_of_other_families_stay_in_float32(sweep):
    more = "sweep: {axes: {cell: {a: {model: digits-gan, sampler: {kind: prior}}, b: {}}}}\nprecision: auto\n"
    precisions = {each.row: each.precision for each in settle(sweep(more), FAST).configurations}
    assert precisions == {"a": "float32", "b": "bfloat16"}


def test_networks_without_a_form_in_bfloat16_stay_in_float32(sweep, monkeypatch):
    monkeypatch.delattr(NCSNpp, "set_precision")
    more = "precision: auto\nresources: {micro_batch: 8}\n"  # the model need not be built to decide it
    (configuration,) = settle(sweep(more), FAST).configurations
    assert configuration.precision == "float32"


def test_micro_batches_fit_and_are_powers_of_two_at_most_a_group(sweep):
    assert micro_batch_for(1, PLAIN, 0) == MAX_MICRO_BATCH
    assert micro_batch_for(10 * 2**20, PLAIN, 0) == 16
    assert micro_batch_for(10 * 2**20, Hardware(gpus=2), 1) == 16  # counted by a cluster, and no devices
    assert micro_batch_for(10 * 2**40, PLAIN, 0) == 1
    assert micro_batch_for(2 * 2**30, GPUS, 1) == 16
    assert micro_batch_for(2 * 2**30, GPUS, 0.25) == 4  # four workers share a device
    (configuration,) = settle(sweep("group_size: 100\n"), PLAIN).configurations
    assert configuration.resources.micro_batch == 100


def test_a_model_that_is_not_here_keeps_its_micro_batch_open(sweep):
    planned = sweep("sweep: {axes: {model: [ve/cifar10_ncsnpp, digits-ve]}}\n")
    sizes = [each.resources.micro_batch for each in settle(planned, PLAIN).configurations]
    assert sizes == [None, MAX_MICRO_BATCH]


def test_this_machine_can_be_asked():
    found = hardware_here()
    assert found.gpus == 0 or found.gpu_memory > 0
    assert Hardware.model_validate_json(found.model_dump_json()) == found
