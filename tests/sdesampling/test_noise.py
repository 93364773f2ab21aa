"""The noise streams: known answers, independence of batch and order, moments, no collisions."""

import math

import pytest
import torch

from sdesampling.noise import NoiseStream, Purpose, RecordedNoise, philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known-answer vectors of Random123 (kat_vectors, philox4x32 10 rounds)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    words = philox([torch.tensor([word]) for word in counter], key)
    assert tuple(int(word) for word in words) == expected


def test_philox_of_broadcast_counters_is_that_of_full_ones():
    parts = [
        torch.arange(5)[None],
        torch.tensor([[7]]),
        torch.arange(3)[:, None],
        torch.arange(3)[:, None] << 24,
    ]
    whole = [word.expand(3, 5).clone() for word in parts]
    assert all(torch.equal(a, b) for a, b in zip(philox(parts, (1, 2)), philox(whole, (1, 2)), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (64,), (1, 8, 8), (3, 7, 5)])
@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_noise_of_a_sample_does_not_depend_on_its_batch_mates(draw, shape, dtype):
    def numbers(indices):
        return getattr(NoiseStream(3, 1, indices), draw)(Purpose.CORRECTOR, 9, shape, dtype)

    whole = numbers(range(100, 140))
    assert whole.shape == (40, *shape)
    for first, last in ((100, 101), (103, 120), (139, 140)):
        assert torch.equal(numbers(range(first, last)), whole[first - 100 : last - 100])
    assert torch.equal(numbers(range(139, 99, -1)), whole.flip(0))


def test_pieces_of_a_large_draw_are_those_of_small_ones():
    shape = (3, 64, 64)
    whole = NoiseStream(0, 0, range(32)).normal(Purpose.PRIOR, 0, shape)
    assert torch.equal(NoiseStream(0, 0, range(29, 31)).normal(Purpose.PRIOR, 0, shape), whole[29:31])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_moments(dtype):
    x = NoiseStream(0, 0, range(2000)).normal(Purpose.PRIOR, 0, (500,), dtype).double()
    n = x.numel()
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # variance of x^power
        assert abs(float((x**power).mean()) - moment) < 5 * math.sqrt(spread / n)
    beyond = float((x.abs() > 3).double().mean())
    assert abs(beyond - 0.0026998) < 5 * math.sqrt(0.0027 / n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_moments_and_range(dtype):
    u = NoiseStream(0, 0, range(2000)).uniform(Purpose.METROPOLIS, 0, (500,), dtype).double()
    assert float(u.min()) > 0
    assert float(u.max()) <= 1
    n = u.numel()
    assert abs(float(u.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(u.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / n)


def test_neighbours_in_a_draw_are_uncorrelated():
    x = NoiseStream(0, 0, range(3000)).normal(Purpose.PRIOR, 0, (64,))
    correlation = (x.T @ x / len(x)).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5.5 / math.sqrt(len(x))  # largest of 2016 independent ones
    assert float((x[1:] * x[:-1]).mean().abs()) < 5 / math.sqrt(x.numel())


def test_every_part_of_the_key_matters():
    def draw(seed=0, replicate=0, index=5, purpose=Purpose.PRIOR, step=0):
        return NoiseStream(seed, replicate, range(index, index + 1)).uniform(
            purpose, step, (1000,), torch.float64
        )

    draws = [
        draw(),
        draw(seed=1),
        draw(replicate=1),
        draw(index=6),
        draw(index=5 + (1 << 32)),
        draw(index=5 + (1 << 55)),
        draw(step=1),
        draw(step=(1 << 32) - 1),
        *(draw(purpose=purpose) for purpose in list(Purpose)[1:]),
    ]
    values = torch.cat(draws, dim=1).flatten().sort().values
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs(float(torch.corrcoef(torch.cat([a, b]))[0, 1])) < 5 / math.sqrt(1000)
    assert (values.diff() > 0).all()  # 53 bits: chance agreement is out of question


def test_seeds_that_look_alike_joined_differ():
    a, b = NoiseStream(1, 11, range(1)), NoiseStream(11, 1, range(1))
    assert not torch.equal(a.normal(Purpose.PRIOR, 0, (8,)), b.normal(Purpose.PRIOR, 0, (8,)))


def test_draws_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        NoiseStream(0, 0, range(0))
    with pytest.raises(ValueError, match=r"\[0, 2\^56\)"):
        NoiseStream(0, 0, range(-1, 3))
    stream = NoiseStream(0, 0, range(2))
    with pytest.raises(ValueError, match="float16"):
        stream.normal(Purpose.PRIOR, 0, (4,), torch.float16)
    with pytest.raises(ValueError, match="step = -1"):
        stream.normal(Purpose.PRIOR, -1, (4,))


def test_recorded_noise_replays_in_order_and_says_what_is_wrong():
    draws = [torch.full((2, 3), float(i)) for i in range(3)]
    noise = RecordedNoise(draws)
    assert noise.batch == 2
    assert torch.equal(noise.normal(Purpose.PRIOR, 0, (3,)), draws[0])
    assert torch.equal(noise.uniform(Purpose.LANGEVIN, 7, (3,), torch.float64), draws[1].double())
    with pytest.raises(ValueError, match=r"draw 2 is \(2, 3\)"):
        noise.normal(Purpose.PRIOR, 0, (4,))
    assert noise.remaining == 1
    noise.normal(Purpose.PRIOR, 0, (3,))
    with pytest.raises(ValueError, match="all 3 recorded draws are used"):
        noise.normal(Purpose.PRIOR, 1, (3,))


def test_draws_are_the_same_in_any_order():
    asked = [
        (purpose, step, shape)
        for purpose in (0, 1)
        for step in (0, 1, 2, 40, 99)
        for shape in ((4,), (2, 2, 3))
    ]

    def numbers(order):
        stream = NoiseStream(1, 0, range(5))
        return {key: stream.normal(Purpose(key[0]), *key[1:]) for key in order}

    forwards, backwards = numbers(asked), numbers(asked[::-1])
    for key in asked:
        alone = NoiseStream(1, 0, range(5)).normal(Purpose(key[0]), *key[1:])
        assert torch.equal(forwards[key], alone)
        assert torch.equal(backwards[key], alone)


def test_a_draw_is_the_callers_own():
    stream = NoiseStream(1, 0, range(5))
    stream.normal(Purpose.PRIOR, 3, (4,)).zero_()
    assert stream.normal(Purpose.PRIOR, 3, (4,)).all()
