"""All randomness of sampling: a counter-based stream for every sample.

Noise of sample k is a pure function of (seed, replicate, k, purpose, step), so no image depends on its
batch mates, on the order of work or on how it is cut into shards. Knows nothing of samplers.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

import torch
from torch import Tensor

VERSION = "sdesweep noise 1"  # part of the key: a change of what the streams hold changes it
MASK = 0xFFFFFFFF
LANES = {torch.float32: 4, torch.float64: 2}  # numbers made of one block of four 32-bit words
PIECE = 1 << 15  # blocks worked on at a time: what they need stays in a core's cache
Transform = Callable[
    [Tensor, Tensor], None
]  # (uniforms, out), both (lanes, rows, blocks); uniforms are used up


class Purpose(IntEnum):
    """What a draw is for: draws of different purposes at the same step are independent."""

    PRIOR = 0
    PREDICTOR = 1
    CORRECTOR = 2
    LANGEVIN = 3
    METROPOLIS = 4
    PROBE = 5
    MASKING_CORRECTOR = 6
    MASKING_PREDICTOR = 7
    DEQUANTISATION = 8
    CALIBRATION = 9


class Noise(Protocol):
    """Where samplers take their randomness from."""

    @property
    def batch(self) -> int:
        """Number of samples of the group."""

    @property
    def indices(self) -> range:
        """Their sample indices."""

    def normal(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Standard normal numbers, (batch, *shape)."""

    def uniform(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform numbers in (0, 1], (batch, *shape)."""


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    counter: four int64 tensors of 32-bit words, of shapes that broadcast. Returns four such tensors of one
        shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    shape = torch.broadcast_tensors(*counter)[0].shape  # broadcast_shapes imports sympy: a second and more
    for _ in range(10):
        # 64-bit products wrap; their halves are right all the same. Words that are only xored (c1, c3) may
        # carry rubbish above bit 31, words to be multiplied (c0, c2) are masked. The first rounds work on
        # less than the full shape; later ones in place.
        if c1.shape == c3.shape == shape:
            p0, p1 = c0.mul_(0xD2511F53), c2.mul_(0xCD9E8D57)
            c0 = c1.bitwise_xor_(k0).bitwise_xor_(p1 >> 32).bitwise_and_(MASK)
            c2 = c3.bitwise_xor_(k1).bitwise_xor_(p0 >> 32).bitwise_and_(MASK)
        else:
            p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
            c0 = ((c1 ^ k0) ^ (p1 >> 32)) & MASK
            c2 = ((c3 ^ k1) ^ (p0 >> 32)) & MASK
        c1, c3 = p1, p0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1 & MASK, c2, c3 & MASK]


def box_muller(uniforms: Tensor, out: Tensor) -> None:
    """Write to out as many standard normal numbers as there are uniform ones, whose place is used up.

    Both are (lanes, ...): the first half of the lanes gives radii, the other angles.
    """
    radius, angle = uniforms.chunk(2)
    radius.log_().mul_(-2).sqrt_()
    angle.mul_(2 * math.pi)
    cosines, sines = out.chunk(2)
    torch.mul(angle.cos(), radius, out=cosines)
    torch.mul(angle.sin_(), radius, out=sines)


def as_they_are(uniforms: Tensor, out: Tensor) -> None:
    """Write uniform numbers to out."""
    out.copy_(uniforms)


class NoiseStream:
    """The noise of the samples `indices` of one configuration, made on a device."""

    def __init__(self, seed: int, replicate: int, indices: range, device: torch.device | str = "cpu") -> None:
        if len(indices) == 0:
            raise ValueError(f"indices = {indices}: a group has at least one sample")
        if indices[0] < 0 or indices[-1] < 0 or max(indices[0], indices[-1]) >= 1 << 56:
            raise ValueError(f"indices = {indices}: sample indices are in [0, 2^56)")
        digest = hashlib.sha256(f"{VERSION}|{seed}|{replicate}".encode()).digest()
        self._key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
        self.indices = indices
        self.device = torch.device(device)
        self._index = torch.tensor(list(indices), dtype=torch.int64, device=self.device)
        self._ahead: dict[
            Purpose, tuple[object, Tensor]
        ] = {}  # last draws: what they are, (steps, batch, count)

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def uniform(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform numbers in (0, 1], (batch, *shape)."""
        return self._draw(purpose, step, shape, dtype, as_they_are)

    def normal(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Standard normal numbers, (batch, *shape)."""
        return self._draw(purpose, step, shape, dtype, box_muller)

    def _draw(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype, transform: Transform
    ) -> Tensor:
        """Numbers (batch, *shape) that transform makes of uniform ones.

        Small draws are made for some steps at once, because the next ones will be asked for soon.
        """
        if not 0 <= step <= MASK:
            raise ValueError(f"step = {step}: must be in [0, 2^32)")
        if dtype not in LANES:
            raise ValueError(f"dtype = {dtype}: noise is float32 or float64; convert it afterwards")
        count = math.prod(shape)
        steps = max(1, PIECE * LANES[dtype] // (self.batch * count))
        first = step - step % steps
        key = (first, count, dtype, transform)
        if purpose not in self._ahead or self._ahead[purpose][0] != key:
            drawn = self._draw_steps(purpose, range(first, first + steps), count, dtype, transform)
            self._ahead[purpose] = key, drawn
        return self._ahead[purpose][1][step - first].reshape(self.batch, *shape).clone()

    def _draw_steps(
        self, purpose: Purpose, steps: range, count: int, dtype: torch.dtype, transform: Transform
    ) -> Tensor:
        """Numbers (steps, batch, count): four from a block of four words in float32, two in float64."""
        lanes = LANES[dtype]
        blocks = -(-count // lanes)
        block = torch.arange(blocks, device=self.device)[None]
        step_of_row = torch.arange(steps.start, steps.stop, device=self.device).repeat_interleave(self.batch)
        index_of_row = self._index.repeat(len(steps))
        drawn = torch.empty(len(index_of_row), lanes, blocks, dtype=dtype, device=self.device)
        rows = max(1, PIECE // blocks)
        for step, index, out in zip(
            step_of_row.split(rows), index_of_row.split(rows), drawn.split(rows), strict=True
        ):
            high = (index >> 32) | (int(purpose) << 24)
            words = philox((block, step[:, None], (index & MASK)[:, None], high[:, None]), self._key)
            if lanes == 2:
                words = [(a << 21) | (b >> 11) for a, b in (words[:2], words[2:])]
            uniforms = torch.empty(lanes, len(index), blocks, dtype=dtype, device=self.device)
            for lane, word in zip(uniforms, words, strict=True):
                lane.copy_(word)
            uniforms.add_(1).mul_(2.0**-53 if lanes == 2 else 2.0**-32)
            transform(uniforms, out.transpose(0, 1))
        return drawn.flatten(1)[:, :count].view(len(steps), self.batch, count)


class RecordedNoise:
    """Replays recorded draws in the order of the calls, whatever their purpose and step.

    Raises ValueError where a draw has another shape than asked for, or where none is left.
    """

    def __init__(self, draws: Sequence[Tensor]) -> None:
        if len(draws) == 0:
            raise ValueError("a recording needs at least one draw, which gives the batch its size")
        self._draws = list(draws)
        self._next = 0
        self.indices = range(len(draws[0]))

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.indices)

    @property
    def remaining(self) -> int:
        """Draws not replayed yet."""
        return len(self._draws) - self._next

    def normal(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The next draw, (batch, *shape)."""
        if self.remaining == 0:
            raise ValueError(f"{purpose.name} at step {step}: all {len(self._draws)} recorded draws are used")
        draw = self._draws[self._next]
        if draw.shape != (self.batch, *shape):
            raise ValueError(
                f"{purpose.name} at step {step}: recorded draw {self._next} is {tuple(draw.shape)}, "
                f"but {(self.batch, *shape)} was asked for"
            )
        self._next += 1
        return draw.to(dtype)

    uniform = normal
