"""Moments: exact against numpy, mergeable in any order, and independent of how rows are stored."""

import numpy as np
import pytest

from fid.moments import Moments


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, (5000, 24)).astype(np.float32)


def test_mean_and_covariance_agree_with_numpy(rows):
    moments = Moments.of(rows)
    double = rows.astype(np.float64)
    np.testing.assert_allclose(moments.mean, double.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(double, rowvar=False), rtol=1e-12, atol=1e-13)


def test_a_large_offset_does_not_cancel():
    rows = np.random.default_rng(1).normal(1e6, 1.0, (4000, 8))
    np.testing.assert_allclose(Moments.of(rows).covariance, np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_merging_in_any_order_agrees_to_1e_12(rows, seed):
    generator = np.random.default_rng(seed)
    cuts = np.sort(generator.integers(0, len(rows), 9))
    parts = [Moments.of(part) for part in np.split(rows, cuts)]
    merged = Moments(rows.shape[1])
    for index in generator.permutation(len(parts)):
        merged.merge(parts[index])
    whole = Moments.of(rows)
    assert merged.count == len(rows)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-12)


def test_published_statistics_come_back_unchanged(rows):
    moments = Moments.of(rows)
    again = Moments.from_covariance(moments.mean, moments.covariance, moments.count)
    np.testing.assert_allclose(again.covariance, moments.covariance, rtol=1e-15)


def test_refusals(rows):
    bad = rows[:10].copy()
    bad[3, 5] = np.nan
    with pytest.raises(ValueError, match="1 of 10 feature rows hold NaN"):
        Moments.of(bad)
    with pytest.raises(ValueError, match=r"must be \(rows, 24\)"):
        Moments(24).update(rows[:, :3])
    with pytest.raises(ValueError, match="at least 2 samples"):
        _ = Moments.of(rows[:1]).covariance
    with pytest.raises(ValueError, match="do not merge"):
        Moments(3).merge(Moments(4))
