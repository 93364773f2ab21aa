"""Scores: against torchmetrics on the same features, closed forms, and plain loops over pairs."""

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from fid.moments import Moments
from fid.scores import (
    InceptionScoreSums,
    density_coverage,
    fid_score,
    inception_score,
    kernel_distance,
    precision_recall,
)


class Passed(torch.nn.Module):
    """Gives torchmetrics our features as if a network had made them of images."""

    num_features = 24

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


@pytest.fixture(scope="module")
def sets() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(24, 24)) / 5
    generated = (generator.normal(0.2, 1.1, (700, 24)) @ mixing).astype(np.float32)
    reference = (generator.normal(size=(900, 24)) @ mixing).astype(np.float32)
    return generated, reference


def test_fid_agrees_with_torchmetrics(sets):
    metric = FrechetInceptionDistance(feature=Passed(), input_img_size=(24,)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(sets[1]).double(), real=True)
    metric.update(torch.from_numpy(sets[0]).double(), real=False)
    score = fid_score(*sets)
    assert score.value == pytest.approx(metric.compute().item(), rel=1e-9)
    assert score.value == pytest.approx(score.mean_term + score.trace_term)
    assert (score.count, score.reference_count) == (700, 900)


def test_inception_score_agrees_with_torchmetrics_in_any_blocks():
    logits = np.random.default_rng(1).normal(0, 3, (1000, 10)).astype(np.float32)
    theirs = TorchmetricsInceptionScore(feature=Passed(), splits=1)
    theirs.update(torch.from_numpy(logits))
    assert inception_score(logits, splits=1).mean == pytest.approx(theirs.compute()[0].item(), rel=1e-5)
    sums = InceptionScoreSums(1000, 10, splits=10)
    for block in np.split(logits, [130, 128 + 300, 999]):
        sums.update(block)
    blocked, whole = sums.score(), inception_score(logits, splits=10)
    assert blocked.mean == pytest.approx(whole.mean, rel=1e-13)
    by_hand = [inception_score(part, splits=1).mean for part in np.split(logits, 10)]
    assert whole.mean == pytest.approx(np.mean(by_hand), rel=1e-13)
    assert whole.std == pytest.approx(np.std(by_hand), rel=1e-10)


def test_inception_score_limits():
    certain = np.eye(10)[np.arange(1000) % 10] * 1e4
    assert inception_score(certain, splits=1).mean == pytest.approx(10, rel=1e-12)
    assert inception_score(np.ones((1000, 10)), splits=10).mean == pytest.approx(1, rel=1e-12)
    with pytest.raises(ValueError, match="cannot be cut into 10 splits"):
        inception_score(np.ones((5, 10)))
    sums = InceptionScoreSums(1000, 10)
    with pytest.raises(ValueError, match="1000 samples were announced, 0 came"):
        sums.score()
    with pytest.raises(ValueError, match="1000 samples were announced, 1001 came"):
        sums.update(np.ones((1001, 10)))


def test_kernel_distance_of_one_block_agrees_with_torchmetrics(sets):
    generated, reference = sets[0], sets[1][:700]
    metric = KernelInceptionDistance(feature=Passed(), subsets=1, subset_size=700)
    metric.update(torch.from_numpy(reference), real=True)
    metric.update(torch.from_numpy(generated), real=False)
    ours = kernel_distance(generated, reference, block_size=700)
    assert ours.value == pytest.approx(metric.compute()[0].item(), rel=1e-4)  # torchmetrics: float32
    assert ours.standard_error is None


def test_kernel_distance_is_unbiased_and_its_error_honest():
    generator = np.random.default_rng(2)
    scores = [
        kernel_distance(generator.normal(size=(400, 16)), generator.normal(size=(400, 16))) for _ in range(60)
    ]
    values = np.array([score.value for score in scores])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(60)
    stated = np.mean([score.standard_error for score in scores])
    assert stated == pytest.approx(values.std(), rel=0.3)  # a standard deviation of 60 values is known to 9 %


def test_precision_recall_density_coverage_agree_with_loops_over_pairs(sets):
    generated, reference = sets[0][:150].astype(np.float64), sets[1][:130].astype(np.float64)

    def distances(a, b):
        return np.array([[np.linalg.norm(x - y) for y in b] for x in a])

    cross = distances(generated, reference)
    real = np.sort(distances(reference, reference), axis=1)
    fake = np.sort(distances(generated, generated), axis=1)
    ours = precision_recall(generated, reference, k=3)
    assert ours.precision == np.mean((cross <= real[:, 3]).any(axis=1))
    assert ours.recall == np.mean((cross <= fake[:, 3][:, None]).any(axis=0))
    ours = density_coverage(generated, reference, k=5)
    assert ours.density == pytest.approx((cross < real[:, 5]).sum() / (5 * 150), rel=1e-12)
    assert ours.coverage == np.mean(cross.min(axis=0) < real[:, 5])


def test_mode_collapse_lowers_recall_and_coverage_alone(sets):
    reference = sets[1]
    collapsed = reference[:1] + 1e-3 * np.random.default_rng(3).normal(size=(300, 24))
    scores = precision_recall(collapsed, reference)
    assert scores.precision > 0.95
    assert scores.recall < 0.02
    assert density_coverage(collapsed, reference).coverage < 0.1


def test_refusals(sets):
    with pytest.raises(ValueError, match="3 neighbours need more than 3 samples"):
        precision_recall(sets[0][:3], sets[1])
    with pytest.raises(ValueError, match="of one dimension"):
        kernel_distance(sets[0][:, :3], sets[1])
    with pytest.raises(ValueError, match="blocks of 5000 rows"):
        kernel_distance(*sets, block_size=5000)
    with pytest.raises(ValueError, match="must be"):
        fid_score(sets[0], Moments(3))
    with pytest.raises(ValueError, match="error = 'bootstap': must be one of jackknife, bootstrap"):
        fid_score(*sets, error="bootstap")
    for score in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match="k = 0"):
            score(*sets, k=0)


@pytest.mark.parametrize("score", [fid_score, kernel_distance, precision_recall, density_coverage])
def test_what_is_not_finite_gets_no_score(score, sets):
    broken = sets[0].copy()
    broken[[3, 5], 7] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 700 feature rows hold NaN or infinity"):
        score(broken, sets[1])
    with pytest.raises(ValueError, match="2 of 700 logit rows"):
        inception_score(broken)
