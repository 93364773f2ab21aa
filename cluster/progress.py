"""How far a run is: shards, images, network evaluations, their rates and the time left.

Reads the account of a run and never changes it. It must not know how readings are shown, nor storage.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.account import Account, Tally
from cluster.prepare import Goal

WINDOW = 60.0  # seconds that rates are averaged over


@dataclass(frozen=True)
class Reading:
    """One configuration, or all of them, at a moment."""

    name: str
    shards: int
    shards_done: int
    shards_failed: int
    workers: int  # at work on it
    samples: int
    images: int  # done, those in the making counted by their evaluations
    evaluations: int  # network evaluations x images of this run
    images_per_second: float
    evaluations_per_second: float
    seconds_left: float | None  # None: nothing to go by

    @property
    def finished(self) -> bool:
        return self.shards_done + self.shards_failed >= self.shards


class Meter:
    """Turns accounts into readings."""

    def __init__(self, goals: Mapping[str, Goal], clock: Callable[[], float] = time.monotonic) -> None:
        self._goals = goals
        self._clock = clock
        self._rates: dict[str, _Rates] = {}  # of the configurations at work
        self._total = _Rates()

    def read(self, account: Account) -> tuple[Reading, list[Reading]]:
        """The whole run, and the configurations that are not finished, in the order of the table."""
        now = self._clock()
        at_work: dict[str, list[tuple[int, int]]] = {}
        for run in account.running.values():
            if run.assignment.kind == "sample":
                at_work.setdefault(run.assignment.configuration, []).append((run.images, run.evaluations))
        for configuration in self._rates.keys() - at_work.keys():
            del self._rates[configuration]
        readings, work_done, work_left = [], 0.0, 0.0
        for configuration, goal in self._goals.items():
            made, evaluations = _made(goal, account.tallies[configuration], at_work.get(configuration, []))
            rates: tuple[float, ...] = (0.0, 0.0)
            if configuration in at_work:
                rates = self._rates.setdefault(configuration, _Rates()).add(now, made, evaluations)
            left = goal.samples - goal.done - made
            work_done += made * goal.cost
            work_left += left * goal.cost
            tally = account.tallies[configuration]
            readings.append(
                _reading(goal, tally, len(at_work.get(configuration, [])), made, evaluations, rates)
            )
        images, evaluations = sum(r.images for r in readings), sum(r.evaluations for r in readings)
        work_rate, images_rate, evaluations_rate = self._total.add(now, work_done, images, evaluations)
        total = Reading(
            name="all",
            shards=sum(reading.shards for reading in readings),
            shards_done=sum(reading.shards_done for reading in readings),
            shards_failed=sum(reading.shards_failed for reading in readings),
            workers=sum(reading.workers for reading in readings),
            samples=sum(reading.samples for reading in readings),
            images=images,
            evaluations=evaluations,
            images_per_second=images_rate,
            evaluations_per_second=evaluations_rate,
            seconds_left=work_left / work_rate if work_rate else None,
        )
        return total, [reading for reading in readings if not reading.finished]


def _made(goal: Goal, tally: Tally, at_work: list[tuple[int, int]]) -> tuple[float, int]:
    """Images (a fraction of those in the making) and evaluations of this run."""
    evaluations = tally.evaluations + sum(evaluations for _, evaluations in at_work)
    images = tally.images + sum(images for images, _ in at_work)
    made = max(tally.images, evaluations / goal.evaluations) if goal.evaluations else images
    return min(made, goal.samples - goal.done), evaluations


def _reading(
    goal: Goal, tally: Tally, workers: int, made: float, evaluations: int, rates: tuple[float, ...]
) -> Reading:
    left = goal.samples - goal.done - made
    return Reading(
        name=goal.name,
        shards=goal.shards,
        shards_done=goal.shards_done + tally.done,
        shards_failed=tally.failed,
        workers=workers,
        samples=goal.samples,
        images=goal.done + int(made),
        evaluations=evaluations,
        images_per_second=rates[0],
        evaluations_per_second=rates[1],
        seconds_left=left / rates[0] if rates[0] else None,
    )


class _Rates:
    """Growth per second of some counters over the last `WINDOW` seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, tuple[float, ...]]] = deque()

    def add(self, now: float, *counters: float) -> tuple[float, ...]:
        """Take the counters now; return their rates, 0 at first."""
        self._points.append((now, counters))
        while len(self._points) > 2 and now - self._points[1][0] >= WINDOW:
            self._points.popleft()
        then, before = self._points[0]
        passed = now - then
        if passed <= 0:
            return (0.0,) * len(counters)
        return tuple(max(0.0, (new - old) / passed) for new, old in zip(counters, before, strict=True))
