"""Standard errors, bias and extrapolation against repeated draws of Gaussian features."""

import numpy as np
import pytest

from fid.frechet import frechet_distance
from fid.moments import Moments, blocks
from fid.uncertainty import Bootstrap, bootstrap_of, fid_infinity, linearised_standard_error, predicted_bias

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


def test_both_standard_errors_agree_with_repeated_draws(world):
    reference, _, _, draws, distances = world
    spread = distances.std(ddof=1)  # known to 6 %
    bootstrap = np.mean([bootstrap_of(rows).standard_error(reference).value for rows in draws[:5]])
    linear = np.mean(
        [linearised_standard_error(blocks(rows), Moments.of(rows), reference).value for rows in draws[:5]]
    )
    assert linear == pytest.approx(spread, rel=0.2)
    assert bootstrap == pytest.approx(spread, rel=0.25)
    assert bootstrap == pytest.approx(linear, rel=0.15)


def test_bootstrap_is_deterministic_and_names_itself(world):
    reference, _, _, draws, _ = world
    first = bootstrap_of(draws[0], resamples=20, seed=1).standard_error(reference)
    assert first == bootstrap_of(draws[0], resamples=20, seed=1).standard_error(reference)
    assert first.value != bootstrap_of(draws[0], resamples=20, seed=2).standard_error(reference).value
    assert first.method == "Poisson bootstrap, 20 resamples, seed 1"
    with pytest.raises(ValueError, match="at least 2 resamples"):
        Bootstrap(4, resamples=1)


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
    full = bootstrap_of(rows).standard_error(reference)
    result = fid_infinity(rows, reference, full)
    assert abs(result.value - infinite) < 3 * result.standard_error
    assert result.value < result.distances[-1]
    moments = Moments.of(rows)
    bias = predicted_bias(frechet_distance(moments, reference), moments, reference)
    assert result.slope / 6000 == pytest.approx(bias.generated, rel=0.4)
    with pytest.raises(ValueError, match="use more samples or fewer parts"):
        fid_infinity(rows[:150], reference, full)
