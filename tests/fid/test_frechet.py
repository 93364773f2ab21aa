"""Fréchet distance: closed forms, golden numbers of the reference implementations, singular covariances."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from fid.frechet import (
    frechet_distance,
    frechet_distance_of_features,
    frechet_distance_of_rows,
    frechet_distances,
)
from fid.moments import Moments

GOLDEN = Path(__file__).parent.parent / "golden"


def nuclear_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Independent truth from features: the root's trace is the nuclear norm of X1 X2^T."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    a = (first - first.mean(0)) / np.sqrt(len(first) - 1)
    b = (second - second.mean(0)) / np.sqrt(len(second) - 1)
    delta = first.mean(0) - second.mean(0)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(delta @ delta + (a**2).sum() + (b**2).sum() - 2 * root)


@pytest.mark.parametrize("case", ["full", "rankdef", "identical"])
def test_golden_of_pytorch_fid_and_torch_fidelity(case):
    arrays = np.load(GOLDEN / "fid_frechet.npz")
    expected = json.loads((GOLDEN / "fid_frechet.json").read_text())[case]
    first, second = arrays[f"frechet/{case}/feats1"], arrays[f"frechet/{case}/feats2"]
    a, b = Moments.of(first), Moments.of(second)
    np.testing.assert_allclose(a.covariance, arrays[f"frechet/{case}/sigma1"], rtol=1e-12, atol=1e-14)
    ours = frechet_distance(a, b).distance
    # the references differ among themselves by 1e-8 relative where covariances are singular
    for name, value in expected.items():
        assert ours == pytest.approx(value, rel=1e-7, abs=1e-12), name


@pytest.mark.parametrize("sizes", [(600, 500), (30, 500), (500, 30), (30, 40), (2, 500)])
def test_singular_covariances_agree_with_the_nuclear_norm(sizes):
    generator = np.random.default_rng(3)
    mixing = generator.normal(size=(48, 48)) / 7
    first = generator.normal(size=(sizes[0], 48)) @ mixing
    second = generator.normal(0.3, 1.2, (sizes[1], 48)) @ mixing
    truth = nuclear_distance(first, second)
    assert frechet_distance(Moments.of(first), Moments.of(second)).distance == pytest.approx(truth, rel=1e-6)
    assert frechet_distance_of_features(first, Moments.of(second)).distance == pytest.approx(truth, rel=1e-6)


def test_dead_features_and_near_singular_spectra():
    generator = np.random.default_rng(4)
    scales = np.concatenate(
        [10.0 ** -np.arange(20), np.zeros(12)]
    )  # condition beyond float64, then dead features
    first, second = generator.normal(size=(400, 32)) * scales, generator.normal(size=(300, 32)) * scales * 1.5
    truth = nuclear_distance(first, second)
    assert frechet_distance(Moments.of(first), Moments.of(second)).distance == pytest.approx(truth, rel=1e-6)


def test_closed_form_of_commuting_covariances():
    a = Moments.from_covariance([0.0, 1.0, 2.0], np.diag([1.0, 4.0, 9.0]), 100)
    b = Moments.from_covariance([1.0, 1.0, 0.0], np.diag([4.0, 4.0, 1.0]), 100)
    result = frechet_distance(a, b)
    assert result.mean_term == pytest.approx(5.0, rel=1e-14)
    assert result.trace_term == pytest.approx(1.0 + 0.0 + 4.0, rel=1e-13)
    assert result.distance == result.mean_term + result.trace_term


def test_symmetric_and_zero_for_equal_moments():
    generator = np.random.default_rng(5)
    a = Moments.of(generator.normal(size=(200, 40)) @ generator.normal(size=(40, 40)))
    b = Moments.of(generator.normal(size=(300, 40)))
    assert frechet_distance(a, b).distance == pytest.approx(frechet_distance(b, a).distance, rel=1e-10)
    assert frechet_distance(a, a).distance == pytest.approx(0, abs=1e-9 * np.trace(a.covariance))


@pytest.mark.parametrize("count", [2, 40, 90, 300])
@pytest.mark.parametrize("kind", ["normal", "decaying", "sparse", "repeated", "far", "constant"])
def test_a_set_has_no_distance_to_itself(count, kind):
    """None at all, by every way and in another order of the rows; while features 1 % wider have one."""
    generator = np.random.default_rng(8)
    rows = generator.normal(size=(count, 80))
    rows = {
        "normal": rows,
        "decaying": rows * 10.0 ** -np.linspace(0, 12, 80),
        "sparse": np.maximum(rows - 1, 0),
        "repeated": np.repeat(rows[:, :8], 10, axis=1),
        "far": rows * 1e-3 + 100,
        "constant": np.full_like(rows, 0.1),
    }[kind]
    same, shuffled = Moments.of(rows), generator.permutation(rows)
    ways = [
        frechet_distance(same, Moments.of(shuffled)),
        frechet_distance_of_features(rows, same),
        frechet_distance_of_rows(rows, shuffled),
        *frechet_distances([same, Moments.of(shuffled)], same),
    ]
    assert [found.distance for found in ways] == [0.0] * len(ways)
    if kind != "constant":
        wider = frechet_distance(Moments.of(1.01 * rows), same)
        assert wider.trace_term == pytest.approx(1e-4 * np.trace(same.covariance), rel=0.1)


def test_panels_agree_with_a_general_square_root():
    """More dimensions than one panel of the triangular product, against scipy's sqrtm."""
    generator = np.random.default_rng(6)
    a = Moments.of(generator.normal(size=(900, 300)) * generator.uniform(0.1, 2, 300))
    b = Moments.of(generator.normal(0.1, 1.0, (800, 300)))
    root = np.trace(scipy.linalg.sqrtm(a.covariance @ b.covariance)).real
    expected = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    assert frechet_distance(a, b).trace_term == pytest.approx(expected, rel=1e-9)


def test_many_at_once_are_as_one_by_one():
    generator = np.random.default_rng(7)
    reference = Moments.of(generator.normal(0.2, 1.3, (600, 40)))
    many = [Moments.of(generator.normal(size=(count, 40))) for count in (500, 41, 40, 12, 900)]
    many.append(Moments.of(np.zeros((100, 40))))
    together = frechet_distances(iter(many), reference)
    for moments, found in zip(many, together, strict=True):
        assert found.distance == pytest.approx(frechet_distance(moments, reference).distance, rel=1e-8)
    singular = Moments.of(generator.normal(size=(20, 40)))
    (found,) = frechet_distances([reference], singular)
    assert found.distance == pytest.approx(frechet_distance(reference, singular).distance, rel=1e-8)


def test_refusals():
    with pytest.raises(ValueError, match="48 and 3 dimensions"):
        frechet_distance(Moments(48), Moments(3))
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance_of_features(np.zeros((1, 3)), Moments.of(np.eye(3)))
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        frechet_distance_of_rows(np.zeros((5, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"of one dimension, got \(5, 3\), \(5, 4\)"):
        frechet_distance_of_rows(np.zeros((5, 3)), np.zeros((5, 4)))
