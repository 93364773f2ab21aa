"""Dormand-Prince 5(4): an adaptive integrator whose whole state is a few tensors, so it can stop anywhere.

Knows only a right-hand side f(t, y). Step sizes follow scipy's RK45, which the reference code uses, so
numbers of evaluations are comparable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.sde import per_sample

RightHandSide = Callable[[Tensor, Tensor], Tensor]  # f(t, y) with t (batch,) and y (batch, ...), shaped as y
ErrorNorm = Literal["group", "sample"]

# Dormand & Prince 1980, table 2: nodes, stages, the fifth-order weights, and their difference to fourth order
NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
WEIGHTS = (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERRORS = (-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)

UNASKED = 8  # steps, at most, before the device is asked how far they led
CAUTION = 4  # by how much later steps may be longer than the present one without leading beyond the end


class Progress(NamedTuple):
    """Where an integration is. All float64 but `rejected`."""

    t: Tensor  # (batch,)
    y: Tensor  # (batch, ...)
    slope: Tensor  # f(t, y)
    h: Tensor  # (batch,): size of the next step, positive in both directions
    rejected: Tensor  # bool (batch,): whether the last attempt failed


@dataclass(frozen=True)
class DormandPrince:
    """Steps whose estimated error stays below atol + rtol |y|, as a root mean square.

    error_norm: `group` takes the mean over the whole batch, so that all samples share their steps, as in the
        reference; `sample` gives every sample its own.

    Raises ValueError for tolerances that are not positive.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    error_norm: ErrorNorm = "group"

    def __post_init__(self) -> None:
        one_of("error_norm", self.error_norm, get_args(ErrorNorm))
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not value > 0:
                raise ValueError(f"{name} = {value}: must be positive")

    def start(self, f: RightHandSide, t: Tensor, y: Tensor, end: float) -> Progress:
        """A first step size (Hairer, Norsett & Wanner, section II.4); two evaluations of f."""
        slope, sign = f(t, y), torch.sign(end - t)
        scale = self.atol + self.rtol * y.abs()
        size, speed = self._norm(y / scale), self._norm(slope / scale)
        tiny = (size < 1e-5) | (speed < 1e-5)
        h0 = torch.minimum(torch.where(tiny, 1e-6, 0.01 * size / speed), (end - t).abs())
        ahead = f(t + sign * h0, y + per_sample(sign * h0, y) * slope)
        change = self._norm((ahead - slope) / scale) / h0
        fastest = torch.maximum(speed, change)
        h1 = torch.where(fastest <= 1e-15, (1e-3 * h0).clamp(min=1e-6), (0.01 / fastest) ** 0.2)
        h = torch.minimum(torch.minimum(100 * h0, h1), (end - t).abs())
        return Progress(t, y, slope, h, torch.zeros_like(t, dtype=torch.bool))

    def attempt(self, f: RightHandSide, now: Progress, end: float) -> Progress:
        """One step towards `end`, taken where its error is small enough; six evaluations of f.

        Samples that are there stay. Nothing is asked of the device.
        """
        left = (end - now.t).abs()
        h = torch.minimum(now.h, left)
        step = torch.sign(end - now.t) * h
        slopes = [now.slope]
        for node, row in zip(NODES[1:], STAGES[1:], strict=True):
            slopes.append(f(now.t + node * step, now.y + _combined(step, row, slopes)))
        y = now.y + _combined(step, WEIGHTS, slopes)
        t = torch.where(h == left, end, now.t + step)
        slopes.append(f(t, y))
        scale = self.atol + self.rtol * torch.maximum(now.y.abs(), y.abs())
        error = self._norm(_combined(step, ERRORS, slopes) / scale)
        accepted, moving = error < 1, left > 0
        factor = torch.nan_to_num(0.9 * error**-0.2, nan=0.0).clamp(0.2, 10.0)
        factor = torch.where(~accepted | now.rejected, factor.clamp(max=1.0), factor)
        taken = per_sample(accepted & moving, y)
        return Progress(
            t=torch.where(accepted & moving, t, now.t),
            y=torch.where(taken, y, now.y),
            slope=torch.where(taken, slopes[-1], now.slope),
            h=torch.where(moving, h * factor, now.h),
            rejected=~accepted & moving,
        )

    def advance(self, f: RightHandSide, now: Progress, stage: float, end: float) -> Progress:
        """Steps towards `end` until all samples are at or beyond `stage`, a time on the way.

        The device is asked where they are every few steps, the fewer the nearer `stage` is, so samples may
        come to lie some steps beyond it, but for `end`, where they stay. Raises FloatingPointError where
        steps shrink below what t can resolve.
        """
        while steps := self._steps_ahead(now, stage, end):
            for _ in range(steps):
                now = self.attempt(f, now, end)
        return now

    def integrate(self, f: RightHandSide, start: float, end: float, y: Tensor) -> Tensor:
        """y, (batch, ...), brought from time `start` to time `end`; float64."""
        t = torch.full((len(y),), start, dtype=torch.float64, device=y.device)
        return self.advance(f, self.start(f, t, y.double(), end), end, end).y

    def _norm(self, x: Tensor) -> Tensor:
        """Root mean square of each sample, or of all of them, (batch,)."""
        squares = x.flatten(1).square().mean(dim=1)
        return (squares.mean().expand(len(x)) if self.error_norm == "group" else squares).sqrt()

    @staticmethod
    def _steps_ahead(now: Progress, stage: float, end: float) -> int:
        """Steps to make before asking again, 0 where `stage` is reached; the one question to the device."""
        left = (stage - now.t) * torch.where(now.t == end, 0.0, torch.sign(end - now.t))
        slowest = torch.where(left > 0, left / now.h, 0.0).argmax()  # NaN counts as the largest
        distance, h, t = torch.stack([left[slowest], now.h[slowest], now.t[slowest]]).tolist()
        if distance <= 0:
            return 0
        if not h > 1e-14:
            raise FloatingPointError(
                f"Dormand-Prince: the step size fell to {h:g} at t = {t:g}; "
                "the right-hand side is not smooth or not finite there"
            )
        return min(max(int(distance / h / CAUTION), 1), UNASKED)


def _combined(step: Tensor, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """step times the weighted sum of slopes."""
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            total += weight * slope
    return per_sample(step, total) * total
