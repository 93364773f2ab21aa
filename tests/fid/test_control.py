"""Real against real: a control measured at some numbers of samples holds at others."""

import numpy as np
import pytest

from fid.control import measure, real_control, subset


def gaussian(count, seed, dimension=6):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, dimension)) * np.linspace(1, 3, dimension)


@pytest.mark.parametrize(("generated", "reference"), [(500, 2000), (2000, 500), (1000, 1000)])
def test_a_control_is_what_independent_draws_give(generated, reference):
    """The mean over 40 pairs of draws has a standard error of about 5 %."""
    found = real_control(gaussian(4000, seed=0), generated, reference, seed=0, repeats=20)
    draws = [
        measure(gaussian(generated, seed=1 + pair), gaussian(reference, seed=1001 + pair)).distance
        for pair in range(40)
    ]
    assert found.mean == pytest.approx(np.mean(draws), rel=0.2)
    assert found.sizes == (min(generated, 2000), 4000 - min(generated, 2000))


def test_the_same_rows_give_the_same_control():
    rows = gaussian(300, seed=2)
    assert real_control(rows, 100, 300, seed=5) == real_control(rows, 100, 300, seed=5)
    assert real_control(rows, 100, 300, seed=5) != real_control(rows, 100, 300, seed=6)


def test_a_subset_is_drawn_without_repetition_in_order():
    numbers = subset(1000, 50, seed=3)
    assert len(numbers) == 50
    assert (np.diff(numbers) > 0).all()
    assert numbers[-1] < 1000
    assert subset(40, 50, seed=3).tolist() == list(range(40))
