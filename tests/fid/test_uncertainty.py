"""Standard errors, bias and extrapolation against repeated draws of Gaussian features."""

import numpy as np
import pytest

from fid.frechet import frechet_distance
from fid.moments import Moments, blocks
from fid.scores import fid_score
from fid.uncertainty import (
    bootstrap_standard_error,
    fid_infinity,
    jackknife_standard_error,
    predicted_bias,
)

D, N = 16, 800
SHIFT, SCALE = 0.1, 1.2


@pytest.fixture(scope="module")
def world():
    """Reference moments, a generator of features, the distance at infinite N, and distances of 150 draws."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(D, D)) / 4
    reference = Moments.of(generator.normal(size=(1500, D)) @ mixing)

    def draw(count: int) -> np.ndarray:
        return generator.normal(SHIFT, SCALE, (count, D)) @ mixing

    covariance = SCALE**2 * mixing.T @ mixing
    truth = Moments.from_covariance(SHIFT * np.ones(D) @ mixing, covariance, 10**9)
    draws = [draw(N) for _ in range(150)]
    distances = np.array([frechet_distance(Moments.of(rows), reference).distance for rows in draws])
    return reference, draw, frechet_distance(truth, reference).distance, draws, distances


def test_standard_error_is_the_spread_of_repeated_draws(world):
    reference, _, _, draws, distances = world
    spread = distances.std(ddof=1)  # known to 6 %
    found = np.mean([fid_score(rows, reference).standard_error.value for rows in draws[:20]])
    assert found == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize(("count", "tails"), [(160, False), (160, True), (1500, True), (12, False)])
def test_standard_error_where_both_sets_are_alike(count, tails):
    """Where the slope vanishes a bootstrap says 1.5 times too much; also with fewer samples than dimensions.

    The mean over 60 draws is known to 5 %, the spread of 400 distances to 4 %; what is left of the bias of
    heavy tails is below a quarter.
    """
    generator = np.random.default_rng(1)

    def draw(rows: int) -> np.ndarray:
        gaussian = generator.normal(size=(rows, D))
        return np.maximum(gaussian, 0) if tails else gaussian

    reference = Moments.of(draw(50_000))
    distances = [frechet_distance(Moments.of(draw(count)), reference).distance for _ in range(400)]
    found = np.mean([fid_score(draw(count), reference).standard_error.value for _ in range(60)])
    assert 0.85 < found / np.std(distances, ddof=1) < 1.25


def test_standard_error_knows_no_blocks_and_names_itself(world):
    reference, _, _, draws, _ = world
    moments = Moments.of(draws[0])
    distance = frechet_distance(moments, reference)
    first, second = (
        jackknife_standard_error(blocks(draws[0], size), moments, reference, distance) for size in (100, 1024)
    )
    assert first.value == pytest.approx(second.value, rel=1e-9)
    assert first.method.startswith("infinitesimal jackknife")


def test_bootstrap_is_near_where_sets_are_far_apart_and_too_much_where_they_are_close():
    """E[jackknife^2] = V1 + V2, E[bootstrap^2] = V1 + 3 V2: sqrt(3) in the limit where V1 vanishes.

    100 resamples know their spread to 7 %, which ten draws bring to 2 %.
    """
    generator = np.random.default_rng(4)
    reference = Moments.of(generator.normal(size=(20_000, D)))
    ratios = {}
    for shift in (0.0, 3.0):
        draws = [generator.normal(shift, 1, (400, D)) for _ in range(10)]
        found = {
            method: np.mean([fid_score(rows, reference, method).standard_error.value for rows in draws])
            for method in ("jackknife", "bootstrap")
        }
        ratios[shift] = found["bootstrap"] / found["jackknife"]
    assert ratios[3.0] == pytest.approx(1, abs=0.1)
    assert 1.4 < ratios[0.0] < 1.9


def test_bootstrap_is_seeded_and_names_itself(world):
    reference, _, _, draws, _ = world
    first, second = (bootstrap_standard_error(draws[0], reference, 20) for _ in range(2))
    assert first == second
    assert first.method == "bootstrap, 20 resamples, seed 0"
    assert bootstrap_standard_error(draws[0], reference, 20, seed=1).value != first.value


def test_predicted_bias_is_the_measured_one(world):
    reference, _, infinite, draws, distances = world
    moments = Moments.of(draws[0])
    bias = predicted_bias(frechet_distance(moments, reference), moments, reference)
    measured = distances.mean() - infinite
    assert bias.generated == pytest.approx(measured, abs=4 * distances.std() / np.sqrt(150), rel=0.1)
    assert bias.total == bias.generated + bias.reference


def test_extrapolation_reaches_the_distance_of_infinitely_many(world):
    reference, draw, infinite, _, _ = world
    rows = draw(6000)
    full = fid_score(rows, reference).standard_error
    result = fid_infinity(rows, reference, full)
    assert abs(result.value - infinite) < 3 * result.standard_error
    assert result.value < result.distances[-1]
    moments = Moments.of(rows)
    bias = predicted_bias(frechet_distance(moments, reference), moments, reference)
    assert result.slope / 6000 == pytest.approx(bias.generated, rel=0.4)
    with pytest.raises(ValueError, match="use more samples or fewer parts"):
        fid_infinity(rows[:150], reference, full)
    with pytest.raises(ValueError, match="parts = 1: a line in 1/N needs at least 2"):
        fid_infinity(rows, reference, full, parts=1)
