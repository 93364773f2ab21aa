"""Measuring: what is timed, what is proposed, and what bfloat16's error and share are."""

import itertools

import pytest
import torch

from jobs.models.catalog import WEIGHTS
from jobs.planning import bench as measuring
from jobs.planning.bench import Rate, auto_share, bench, propose
from jobs.planning.submission import FLOAT32_BELOW
from sdesampling.analytic import GaussianNetwork
from sdesampling.models import load_model
from sdesampling.networks import build_network
from sdesampling.score import ScoreModel
from sdesampling.sde import VE


@pytest.fixture
def digits():
    return load_model(WEIGHTS / "digits-ve.safetensors")


def ticking(seconds):
    """A clock by which every timed step takes the next of these times."""
    readings = itertools.chain.from_iterable((0.0, each) for each in itertools.cycle(seconds))
    return lambda: next(readings)


def test_rates_count_evaluations_times_images_and_finished_images(digits):
    found = bench(
        digits, 50, micro_batches=(2,), precisions=("float32",), clock=ticking([0.5, 0.1, 9.0, 0.5])
    )
    (rate,) = found.rates
    assert (rate.precision, rate.micro_batch) == ("float32", 2)
    assert rate.evaluations_per_second == pytest.approx(2 * 2 / 0.5)  # a PC step of two images; the median
    assert found.evaluations == 100
    assert rate.images_per_second == pytest.approx(rate.evaluations_per_second / 100)
    assert rate.peak_bytes == 2 * found.image_bytes > 2 * 64 * 4
    assert (found.proposal.precision, found.proposal.micro_batch) == ("float32", 2)
    assert (found.errors, found.auto_share) == ((), None)


def test_all_precisions_leave_the_model_as_it_was(digits):
    x, t = torch.rand(2, 1, 8, 8), torch.full((2,), 0.5)
    with torch.no_grad():
        before = digits.score(x, t)
        found = bench(digits, 10, micro_batches=(4, 1))
        assert torch.equal(digits.score(x, t), before)
    assert {(rate.precision, rate.micro_batch) for rate in found.rates} == {
        (precision, size) for precision in ("float32", "bfloat16", "auto") for size in (1, 4)
    }
    levels, errors = zip(*found.errors, strict=True)
    assert list(levels) == sorted(levels, reverse=True)
    assert all(1e-4 < error < 1 for error in errors)
    assert max(errors[:5]) < 0.05  # where there is much noise
    assert found.to_json()["proposal"]["micro_batch"] in (1, 4)


def test_vp_and_ncsn_models_are_measured_to_the_end():
    vp = load_model(WEIGHTS / "digits-vp.safetensors")
    found = bench(vp, 25, micro_batches=(1,), clock=ticking([0.1]))
    assert len(found.errors) == measuring.TRAJECTORY
    assert found.errors[0][0] > 50 > 1 > found.errors[-1][0]  # noise levels from the first time to the last
    ncsn = build_network("ncsn", image_size=8, num_channels=1, ngf=4)
    small = ScoreModel(ncsn, VE(0.01, 1, 10), (1, 8, 8), continuous=False)
    found = bench(small, 100, micro_batches=(1,), clock=ticking([0.1]))
    assert (found.sampler["kind"], found.evaluations) == ("annealed_langevin", 100)
    assert len(found.errors) == 10
    levels = build_network("ncsn", image_size=8, num_channels=1, ngf=4, num_scales=50)
    fine = ScoreModel(levels, VE(0.01, 1, 50), (1, 8, 8), continuous=False)
    assert len(bench(fine, 100, micro_batches=(1,), clock=ticking([0.1])).errors) == measuring.TRAJECTORY


def test_a_class_conditional_network_is_measured_with_its_classes():
    network = build_network(
        "ncsnpp", image_size=8, num_channels=1, nf=8, ch_mult=(1,), num_res_blocks=1, num_classes=3
    )
    found = bench(ScoreModel(network, VE(), (1, 8, 8)), 50, micro_batches=(1,), clock=ticking([0.1]))
    assert found.errors
    assert {rate.precision for rate in found.rates} == {"float32", "bfloat16", "auto"}


def test_share_of_bfloat16_is_that_of_the_noise_levels(digits):
    sde = VE(0.01, 8, 1000)
    geometric = torch.log(torch.tensor(8 / FLOAT32_BELOW)) / torch.log(torch.tensor(8 / 0.01))
    assert digits.sde.sigma_max == sde.sigma_max
    assert auto_share(digits, 1000) == pytest.approx(float(geometric), abs=2e-3)


def test_steps_that_take_too_long_end_the_search(digits):
    found = bench(digits, 10, micro_batches=(1, 2, 4), precisions=("float32",), clock=ticking([2.0]))
    assert [rate.micro_batch for rate in found.rates] == [1]


def test_networks_without_bfloat16_are_measured_in_float32():
    mean = torch.full((1, 4, 4), 0.5)
    model = GaussianNetwork(VE(0.01, 8, 1000), mean, mean / 5).model()
    found = bench(model, 5, micro_batches=(1,))
    assert [rate.precision for rate in found.rates] == ["float32"]


def test_generators_are_measured_by_their_own_sampler():
    found = bench(load_model(WEIGHTS / "digits-gan.safetensors"), 3, micro_batches=(2,))
    assert found.sampler["kind"] == "ddls"
    assert found.image_bytes is None
    assert [rate.precision for rate in found.rates] == ["float32"]


def test_a_data_set_has_nothing_to_be_measured():
    with pytest.raises(ValueError, match="nothing to measure"):
        bench(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 10)


def rate(precision, micro_batch, images):
    return Rate(precision, micro_batch, 100 * images, images, None)


def test_the_smallest_micro_batch_that_is_as_good_as_the_best_is_proposed():
    rates = [rate("float32", 1, 5.0), rate("float32", 4, 9.6), rate("float32", 16, 10.0)]
    assert propose(rates).micro_batch == 4


def test_bfloat16_is_proposed_where_it_is_clearly_faster():
    slow = [rate("float32", 4, 10.0), rate("auto", 4, 10.5), rate("bfloat16", 4, 11.0)]
    assert propose(slow).precision == "float32"
    fast = [rate("float32", 4, 10.0), rate("auto", 4, 25.0), rate("auto", 1, 15.0), rate("bfloat16", 4, 40.0)]
    assert (propose(fast).precision, propose(fast).micro_batch) == ("auto", 4)
    assert propose([rate("bfloat16", 4, 40.0)]).precision == "bfloat16"
