"""Published statistics become references of what they are good for; what cannot be right is refused."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.inputs.datasets import DatasetError
from jobs.references.check import check_reference
from jobs.references.importing import import_reference
from jobs.references.moments import reference_moments
from jobs.references.reference import load_reference
from jobs.specs.configuration import Extractor
from jobs.specs.sections import DataSet
from jobs.storage.reference_index import named_references
from jobs.store_local import LocalStore

ROWS = np.random.default_rng(5).gamma(2.0, size=(60, 4)).astype(np.float32)
BY = Extractor(name="inception", weights="e" * 64, dimension=4, logits=3)
OTHER_RESIZE = BY.model_copy(update={"name": "inception-half-pixel"})
MEAN, COVARIANCE = ROWS.mean(axis=0, dtype=np.float64), np.cov(ROWS.astype(np.float64), rowvar=False)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def bring(store, tmp_path):
    """Import arrays as the reference `theirs`."""

    def call(count=None, extractor=BY, name="theirs", **arrays):
        path = tmp_path / "stats.npz"
        np.savez(path, **arrays)
        return import_reference(store, name, path, extractor, count)

    return call


@pytest.mark.parametrize("key", ["pool_3", "feats", "features"])
def test_raw_features_serve_every_metric(store, bring, key):
    record = bring(**{key: ROWS, "logits": ROWS[:, :3]})
    assert (record.kind, record.count, record.dimension, record.logits) == ("features", 60, 4, True)
    reference = load_reference(store, DataSet(name="theirs"), BY)
    source = reference.features(store)
    np.testing.assert_array_equal(source.everything(), ROWS)
    np.testing.assert_array_equal(next(iter(source)).logits, ROWS[:, :3])
    np.testing.assert_allclose(reference_moments(store, reference).covariance, COVARIANCE, rtol=1e-12)
    assert record.obstacle(BY, ("fid", "kid", "memorisation")) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_and_a_covariance_serve_fid_alone(store, bring, dtype):
    record = bring(60, mu=MEAN.astype(dtype), sigma=COVARIANCE.astype(dtype))
    assert (record.kind, record.count) == ("moments", 60)
    reference = load_reference(store, DataSet(name="theirs"), BY)
    assert reference.features(store) is None
    moments = reference_moments(store, reference)
    np.testing.assert_allclose(moments.covariance, COVARIANCE, rtol=1e-6)
    assert moments.count == 60
    assert record.obstacle(BY, ("fid", "fid_infinity", "is")) is None
    assert "kid cannot use" in record.obstacle(BY, ("fid", "kid"))


def test_the_conventions_that_made_it_must_be_those_of_the_score(store, bring):
    record = bring(60, OTHER_RESIZE, mu=MEAN, sigma=COVARIANCE)
    assert "inception-half-pixel" in record.uses
    assert "and inception gives others" in record.obstacle(BY, ("fid",))
    with pytest.raises(DatasetError, match="imported as moments by inception-half-pixel"):
        load_reference(store, DataSet(name="theirs"), BY)
    assert load_reference(store, DataSet(name="theirs"), OTHER_RESIZE).count == 60


@pytest.mark.parametrize(
    ("arrays", "count", "message"),
    [
        ({"mu": MEAN, "sigma": COVARIANCE}, None, "give --count"),
        ({"mu": MEAN, "sigma": COVARIANCE}, 1, "give --count"),
        ({"pool_3": ROWS}, 50, "features of 60 images, not of 50"),
        ({"mu": MEAN[:3], "sigma": COVARIANCE}, 60, "do not belong together"),
        ({"mu": MEAN[:3], "sigma": COVARIANCE[:3, :3]}, 60, "is of 3 dimensions, and inception gives 4"),
        ({"mu": MEAN, "sigma": COVARIANCE + np.triu(COVARIANCE)}, 60, "not symmetric"),
        ({"mu": MEAN, "sigma": -COVARIANCE}, 60, "negative eigenvalues"),
        ({"mu": MEAN, "sigma": COVARIANCE * np.nan}, 60, "sigma holds NaN"),
        ({"pool_3": ROWS[0]}, None, "pool_3 must be 2-dimensional floats"),
        ({"pool_3": ROWS, "logits": ROWS[:5]}, None, "60 rows of pool_3 and 5 of logits"),
        ({"mu": MEAN, "arr_0": ROWS}, 60, "neither pool_3, feats, features nor mu and sigma, only arr_0, mu"),
        ({"pool_3": np.array([{"a": 1}])}, None, "pickles can run code and are not read"),
    ],
)
def test_what_cannot_be_right_is_refused(store, bring, arrays, count, message):
    with pytest.raises(DatasetError, match=message):
        bring(count, **arrays)
    assert named_references(store) == {}


def test_a_name_stands_for_one_content(store, bring):
    first = bring(pool_3=ROWS)
    assert bring(pool_3=ROWS) == first
    with pytest.raises(DatasetError, match="theirs stands for other content already: 60 images"):
        bring(pool_3=ROWS[:50])
    with pytest.raises(DatasetError, match="shipped with the project"):
        bring(name="digits-train", pool_3=ROWS)


def test_a_damaged_import_is_found(store, bring):
    record = bring(60, mu=MEAN, sigma=COVARIANCE)
    assert check_reference(store, "theirs", record).intact
    name = load_reference(store, DataSet(name="theirs"), BY).moments
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.put(name, bytes(data))
    found = check_reference(store, "theirs", record)
    assert not found.intact
    assert store.size(name) is None
