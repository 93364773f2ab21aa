"""Memorisation: copies are found, fresh samples are not accused."""

import numpy as np
import pytest

from fid.memorisation import memorisation


@pytest.fixture
def sets():
    generator = np.random.default_rng(0)
    return (
        generator.normal(size=(500, 10)),
        generator.normal(size=(400, 10)),
        generator.normal(size=(600, 10)),
    )


def test_fresh_samples_are_as_near_as_held_out_images(sets):
    training, held_out, fresh = sets
    found = memorisation(fresh, training, held_out)
    assert abs(found.too_near - found.level) < 3 * found.standard_error
    assert found.exact == 0


def test_without_held_out_images_the_training_set_stands_for_them(sets):
    training, _, fresh = sets
    found = memorisation(fresh, training)
    assert abs(found.too_near - found.level) < 3 * found.standard_error
    assert memorisation(training, training).exact == 1
    assert memorisation(training, training).too_near == 1


def test_copies_are_counted_and_named(sets):
    training, held_out, fresh = sets
    generated = fresh.copy()
    generated[:60] = training[100:160]
    generated[60:120] = training[200:260] + 1e-3
    found = memorisation(generated, training, held_out)
    assert found.exact == pytest.approx(0.1)
    assert found.too_near == pytest.approx(0.2 + 0.8 * 0.05, abs=0.04)
    assert found.too_near - found.level > 5 * found.standard_error
    np.testing.assert_array_equal(found.neighbours[:60], np.arange(100, 160))
    np.testing.assert_allclose(found.distances[60:120], 1e-3 * np.sqrt(10), rtol=1e-9)


def test_refusals(sets):
    with pytest.raises(ValueError, match="between 0 and 1"):
        memorisation(*sets, level=1.5)
    with pytest.raises(ValueError, match="of one dimension"):
        memorisation(sets[0][:, :3], sets[1], sets[2])
