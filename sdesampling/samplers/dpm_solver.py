"""DPM-Solver and DPM-Solver++: the probability flow in few evaluations, of order 1 to 3."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.exponential_integrator import (
    Algorithm,
    Grid,
    Instant,
    advance,
    at_log_snr,
    differences,
    time_grid,
)
from sdesampling.noise import Noise, Purpose
from sdesampling.samplers.base import SamplerKind, State
from sdesampling.score import ScoreModel
from sdesampling.sde import VP

Method = Literal["singlestep", "singlestep_fixed", "multistep", "adaptive"]
Expansion = Literal["dpmsolver", "taylor"]
TYPICAL_EVALUATIONS = {2: 60, 3: 35}  # of the adaptive method at its default tolerances, by order
FEW_STEPS = 10  # lower_order_final acts below, as in the reference code, whose documentation says 15
FIRST_STEP = 0.05  # of the adaptive method, in half log-SNR
SAFETY = 0.9
CLOSE = 1e-5  # the adaptive method ends when its time is so near to eps


class Leap(NamedTuple):
    """One step of a singlestep solver: predictions at `nodes`, the first its start, lead to `end`."""

    nodes: tuple[Instant, ...]
    end: Instant


class DPMSolver(SamplerKind):
    """The probability flow of a VP model, solved in half log-SNR (Lu et al. 2022, 2206.00927, 2211.01095).

    algorithm: expand the predicted noise (`dpmsolver`) or the predicted data (`dpmsolver++`).
    method: `singlestep` uses all evaluations, with steps of lower order at the end, which with logSNR and
        order 3 is the paper's DPM-Solver-fast; `singlestep_fixed` makes all steps of one order; `multistep`
        reuses earlier predictions; `adaptive` (order 2 or 3) compares orders to choose its steps, the same
        for all samples of a group, until errors stay below atol and rtol.
    steps: network evaluations, one a step(), denoising apart. Between the evaluations of one singlestep
        finish() shows where it started. The adaptive method makes as many as it needs: `steps` then only
        divides the way into stages, and a step() ends at the first time at or beyond its stage.
    grid: times evenly spaced in logSNR, in t (`time_uniform`) or in its root (`time_quadratic`).
    solver_type: how derivatives of the prediction are weighed, `dpmsolver` as in the papers' algorithms, or
        `taylor` by exact integrals; no matter for order 1 and for multistep steps of order 3.
    lower_order_final: multistep with fewer than 10 steps ends with steps of lower order.
    eps: last time; the SDE's sampling_eps unless given. The papers take 1e-4 from 15 evaluations on.
    denoise: end with the data that the network predicts at eps, one evaluation more.

    Multistep steps of order 3 take half the second difference, as the reference code does, so that they
    converge with order 2, though mostly with smaller errors than order 2 has.

    Scores are those of continuous times whatever the network was trained on. Raises ValueError for other
    SDEs than VP, and for numbers of steps that do not fit order and method.
    """

    kind = "dpm_solver"

    def __init__(
        self,
        model: ScoreModel,
        *,
        algorithm: Algorithm = "dpmsolver",
        method: Method = "singlestep",
        order: int = 3,
        steps: int = 20,
        grid: Grid = "logSNR",
        solver_type: Expansion = "dpmsolver",
        lower_order_final: bool = True,
        rtol: float = 0.05,
        atol: float = 0.0078,
        eps: float | None = None,
        denoise: bool = False,
    ) -> None:
        self.planned_evaluations(method=method, order=order, steps=steps)
        one_of("algorithm", algorithm, get_args(Algorithm))
        one_of("grid", grid, get_args(Grid))
        one_of("solver_type", solver_type, get_args(Expansion))
        if not isinstance(model.sde, VP):
            raise ValueError(f"dpm_solver: is defined for the VP SDE, not for {model.sde.family}; try ode")
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not value > 0:
                raise ValueError(f"{name} = {value}: must be positive")
        self.model = model.at_continuous_times()
        self.sde = model.sde
        self.algorithm: Algorithm = algorithm
        self.method = method
        self.order = order
        self.steps = steps
        self.trapezoid = solver_type == "dpmsolver"
        self.lower_order_final = lower_order_final
        self.rtol, self.atol = rtol, atol
        self.eps = model.sde.sampling_eps if eps is None else eps
        if not 0 < self.eps < model.sde.T:
            raise ValueError(f"eps = {self.eps}: the last time must be in (0, 1)")
        self.denoise = denoise
        self.times = time_grid(self.sde, grid, self.sde.T, self.eps, steps)
        self.leaps = self._leaps(grid) if method.startswith("singlestep") else []
        self.places = [(leap, node) for leap in self.leaps for node in range(len(leap.nodes))]  # one a step

    @classmethod
    def planned_evaluations(
        cls,
        *,
        method: str = "singlestep",
        order: int = 3,
        steps: int = 20,
        denoise: bool = False,
        **_: Any,
    ) -> int:
        """Exact but for the adaptive method, for which it is a typical number."""
        one_of("method", method, get_args(Method))
        if order not in (1, 2, 3):
            raise ValueError(f"order = {order}: must be 1, 2 or 3")
        if steps < 1:
            raise ValueError(f"steps = {steps}: must be at least 1")
        if method == "adaptive":
            if order == 1:
                raise ValueError("order = 1: the adaptive method compares with a lower order; take 2 or 3")
            return TYPICAL_EVALUATIONS[order] + denoise
        if method == "multistep" and steps < order:
            raise ValueError(f"steps = {steps}: multistep of order {order} needs at least {order}")
        if method == "singlestep_fixed" and steps % order:
            raise ValueError(
                f"steps = {steps}: each step of order {order} takes {order} evaluations; take a multiple, "
                "or method 'singlestep', which ends with lower orders"
            )
        return steps + denoise

    def init(self, noise: Noise) -> State:
        x = self.sde.prior_sampling(noise.normal(Purpose.PRIOR, 0, self.model.shape, self.model.dtype))
        if self.method != "adaptive":
            return State(0, {"x": x})
        clock = torch.tensor([self.times[0].log_snr, FIRST_STEP], dtype=torch.float64, device=x.device)
        return State(0, {"x": x, "lower": x.clone(), "clock": clock})

    @torch.no_grad()
    def step(self, state: State, noise: Noise) -> State:
        before = self.model.evaluations
        tensors = dict(state.tensors)
        if self.method == "adaptive":
            tensors = self._adaptive(tensors, self.times[state.step + 1])
        elif self.method == "multistep":
            tensors = self._multistep(tensors, state.step)
        else:
            tensors = self._singlestep(tensors, state.step)
        if self.denoise and state.step + 1 == self.steps:
            tensors["denoised"] = self._data(tensors["x"], self._instant(state.step + 1, tensors))
        return State(state.step + 1, tensors, state.evaluations + self.model.evaluations - before)

    @torch.no_grad()
    def finish(self, state: State) -> Tensor:
        x = state.tensors["x"]
        if self.denoise and state.step > 0:
            if state.step == self.steps:
                x = state.tensors["denoised"]
            else:
                x = self._data(x, self._instant(state.step, state.tensors))
        return (x + 1) / 2 if self.model.centered else x.clone()

    def _instant(self, step: int, tensors: dict[str, Tensor]) -> Instant:
        """Where x is after so many steps."""
        if self.method == "adaptive":
            return at_log_snr(self.sde, float(tensors["clock"][0]))
        if self.method == "multistep":
            return self.times[step]
        return self.places[step][0].nodes[0] if step < self.steps else self.leaps[-1].end

    def _leaps(self, grid: Grid) -> list[Leap]:
        """Steps of a singlestep solver, whose orders add up to the evaluations."""
        orders = [self.order] * (self.steps // self.order)
        rest = self.steps % self.order
        if self.order == 3 and rest == 0 and self.method == "singlestep":
            orders[-1:] = [2, 1]
        elif rest:
            orders.append(rest)
        if grid == "logSNR" or self.method == "singlestep_fixed":
            ends = time_grid(self.sde, grid, self.sde.T, self.eps, len(orders))
        else:
            ends = [self.times[sum(orders[:i])] for i in range(len(orders) + 1)]
        return [
            Leap(tuple(time_grid(self.sde, grid, start.t, end.t, order)[:-1]), end)
            for start, end, order in zip(ends[:-1], ends[1:], orders, strict=True)
        ]

    def _singlestep(self, tensors: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """One evaluation, at the next node of the present leap."""
        leap, node = self.places[step]
        predictions = [tensors[f"m{i}"] for i in range(node)]
        predictions.append(self._predict(tensors.get("y", tensors["x"]), leap.nodes[node]))
        if node + 1 == len(leap.nodes):
            return {"x": self._leapt(tensors["x"], leap, predictions)}
        y = self._inner(tensors["x"], leap, predictions)
        return {"x": tensors["x"], "y": y} | {f"m{i}": m for i, m in enumerate(predictions)}

    def _inner(self, x: Tensor, leap: Leap, predictions: Sequence[Tensor]) -> Tensor:
        """x at the node after those whose predictions are known, one or two."""
        start, target = leap.nodes[0], leap.nodes[len(predictions)]
        if len(predictions) == 1:
            return advance(self.algorithm, x, start, target, predictions[0])
        ratio = (target.log_snr - start.log_snr) / (leap.nodes[1].log_snr - start.log_snr)
        change = ratio * (predictions[1] - predictions[0])
        return advance(self.algorithm, x, start, target, predictions[0], change)

    def _leapt(self, x: Tensor, leap: Leap, predictions: Sequence[Tensor]) -> Tensor:
        """x at the end of a leap, of the order that the number of predictions allows."""
        start, h = leap.nodes[0], leap.end.log_snr - leap.nodes[0].log_snr
        m0, *others = predictions
        shares = [(node.log_snr - start.log_snr) / h for node in leap.nodes[1:]]
        if len(others) == 2 and not self.trapezoid:
            first, second = differences(shares[0], shares[1], m0, *others)
            return advance(self.algorithm, x, start, leap.end, m0, first, second)
        if not others:
            return advance(self.algorithm, x, start, leap.end, m0)
        change = (others[-1] - m0) / shares[len(others) - 1]
        trapezoid = self.trapezoid and len(others) == 1
        return advance(self.algorithm, x, start, leap.end, m0, change, trapezoid=trapezoid)

    def _multistep(self, tensors: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """One evaluation and one step, with the predictions of the steps before."""
        x, (start, end) = tensors["x"], self.times[step : step + 2]
        m0 = self._predict(x, start)
        past = [tensors[f"m{i}"] for i in range(1, min(step, self.order - 1) + 1)]  # latest first
        order = min(step + 1, self.order)
        if self.lower_order_final and self.steps < FEW_STEPS and step + 1 >= self.order:
            order = min(order, self.steps - step)
        h = end.log_snr - start.log_snr
        shares = [(self.times[step - i].log_snr - start.log_snr) / h for i in (1, 2) if i < order]
        if order == 1:
            x = advance(self.algorithm, x, start, end, m0)
        elif order == 2:
            change = (past[0] - m0) / shares[0]
            x = advance(self.algorithm, x, start, end, m0, change, trapezoid=self.trapezoid)
        else:
            first, second = differences(shares[0], shares[1], m0, past[0], past[1])
            x = advance(self.algorithm, x, start, end, m0, first, second / 2)
        kept = [m0, *past][: self.order - 1]
        return {"x": x} | {f"m{i}": m for i, m in enumerate(kept, start=1)}

    def _adaptive(self, tensors: dict[str, Tensor], stage: Instant) -> dict[str, Tensor]:
        """Steps of order p and p - 1, taken where they agree (DPM-Solver-12 and -23, appendix C)."""
        x, lower = tensors["x"], tensors["lower"]
        log_snr, h = tensors["clock"].tolist()
        last = self.times[-1]
        now = at_log_snr(self.sde, log_snr)
        while now.t - stage.t > CLOSE:
            shares = [i / self.order for i in range(1, self.order)]
            inner = [at_log_snr(self.sde, log_snr + share * h) for share in shares]
            leap = Leap((now, *inner), at_log_snr(self.sde, log_snr + h))
            predictions = [self._predict(x, now)]
            while len(predictions) < self.order:
                y = self._inner(x, leap, predictions)
                predictions.append(self._predict(y, leap.nodes[len(predictions)]))
            coarse = self._leapt(x, Leap(leap.nodes[:-1], leap.end), predictions[:-1])
            fine = self._leapt(x, leap, predictions)
            scale = (self.rtol * torch.maximum(coarse.abs(), lower.abs())).clamp(min=self.atol)
            error = ((fine - coarse) / scale).flatten(1).square().mean(dim=1).sqrt().max()
            if error <= 1:
                x, lower, now = fine, coarse, leap.end
                log_snr = now.log_snr
            # the reference code rounds this factor to float32
            h = min(
                SAFETY * h * float(torch.float_power(error, -1 / self.order).float()), last.log_snr - log_snr
            )
            if not math.isfinite(h) or h < 1e-12 < last.log_snr - log_snr:
                raise FloatingPointError(
                    f"dpm_solver: the adaptive step fell to {h:g} at t = {now.t:g}; "
                    "the prediction is not smooth or not finite there, or rtol and atol are too small"
                )
        clock = torch.tensor([log_snr, h], dtype=torch.float64, device=x.device)
        return {"x": x, "lower": lower, "clock": clock}

    def _predict(self, x: Tensor, instant: Instant) -> Tensor:
        """The noise or the data in x at an instant, whichever the algorithm expands."""
        if self.algorithm == "dpmsolver++":
            return self._data(x, instant)
        return -instant.sigma * self.model.score(x, self.model.times(instant.t, x))

    def _data(self, x: Tensor, instant: Instant) -> Tensor:
        score = self.model.score(x, self.model.times(instant.t, x))
        return (x + instant.sigma**2 * score) / instant.alpha
