"""All randomness of sampling: a counter-based stream for every sample.

Noise of sample k is a pure function of (seed, replicate, k, purpose, step), so no image depends on its
batch mates, on the order of work or on how it is cut into shards. Knows nothing of samplers.
"""

import hashlib
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

import torch
from torch import Tensor

VERSION = "sdesweep noise 1"  # part of the key: a change of what the streams hold changes it
MASK = 0xFFFFFFFF


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

    counter: four int64 tensors of one shape that hold 32-bit words. Returns four such tensors.
    """
    c0, c1, c2, c3 = (word.clone() for word in counter)
    k0, k1 = key
    for _ in range(10):
        # 64-bit products wrap; their halves are right all the same. Words that are only xored (c1, c3)
        # may carry rubbish above bit 31, words to be multiplied (c0, c2) are masked.
        p0 = c0.mul_(0xD2511F53)
        p1 = c2.mul_(0xCD9E8D57)
        c0 = c1.bitwise_xor_(p1 >> 32).bitwise_xor_(k0).bitwise_and_(MASK)
        c2 = c3.bitwise_xor_(p0 >> 32).bitwise_xor_(k1).bitwise_and_(MASK)
        c1, c3 = p1, p0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1.bitwise_and_(MASK), c2, c3.bitwise_and_(MASK)]


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

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def _words(self, purpose: Purpose, step: int, blocks: int) -> list[Tensor]:
        """Four tensors (batch, blocks) of 32-bit words."""
        if not 0 <= step <= MASK:
            raise ValueError(f"step = {step}: must be in [0, 2^32)")
        shape = (self.batch, blocks)
        index = self._index[:, None]
        counter = (
            torch.arange(blocks, device=self.device)[None].expand(shape),
            torch.full(shape, step, device=self.device),
            (index & MASK).expand(shape),
            ((index >> 32) | (int(purpose) << 24)).expand(shape),
        )
        return philox(counter, self._key)

    def _uniforms(self, purpose: Purpose, step: int, count: int, dtype: torch.dtype) -> list[Tensor]:
        """At least `count` uniform numbers in (0, 1] a sample, as a list of tensors (batch, blocks)."""
        if dtype == torch.float32:
            words = self._words(purpose, step, -(-count // 4))
            return [(word + 1).to(dtype).mul_(2.0**-32) for word in words]
        if dtype == torch.float64:
            w0, w1, w2, w3 = self._words(purpose, step, -(-count // 2))
            return [((a << 21) + (b >> 11) + 1).to(dtype).mul_(2.0**-53) for a, b in ((w0, w1), (w2, w3))]
        raise ValueError(f"dtype = {dtype}: noise is float32 or float64; convert afterwards")

    def uniform(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform numbers in (0, 1], (batch, *shape)."""
        count = math.prod(shape)
        values = torch.cat(self._uniforms(purpose, step, count, dtype), dim=1)
        return values[:, :count].reshape(self.batch, *shape)

    def normal(
        self, purpose: Purpose, step: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Standard normal numbers by the transform of Box and Muller, (batch, *shape)."""
        count = math.prod(shape)
        uniforms = self._uniforms(purpose, step, count, dtype)
        values = []
        for radius, angle in zip(uniforms[::2], uniforms[1::2], strict=True):
            radius.log_().mul_(-2).sqrt_()
            angle.mul_(2 * math.pi)
            values += [radius * angle.cos(), radius.mul_(angle.sin_())]
        return torch.cat(values, dim=1)[:, :count].reshape(self.batch, *shape)


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
