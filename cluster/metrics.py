"""Prometheus metrics of a run, through Ray: every node's exporter serves them beside Ray's own.

A `Display` of its own, so that nobody else need know of it; it reads the account of the run and changes
nothing. Labels are bounded: the sweep, and fixed words. Names are those of `METRICS` with `ray_` in front.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cluster.account import Account, Tally
from cluster.display import NOTHING
from cluster.pool import Cause
from cluster.prepare import Goal

INTERVAL = 5.0  # seconds between two looks at the account
STATES = ("pending", "running", "done", "failed")
PHASES = ("load", "sample", "write", "extract", "reference", "reduce")
CAUSES = (*get_args(Cause), "machine")


@dataclass(frozen=True)
class Kind:
    """One metric."""

    type: Literal["counter", "gauge"]
    about: str
    label: str = ""  # beside `sweep`
    values: tuple[str, ...] = ()  # of the label; anything else counts as `other`


METRICS = {
    "sdesweep_images_total": Kind("counter", "Images committed by this run"),
    "sdesweep_network_evaluations_total": Kind("counter", "Network evaluations times images, of this run"),
    "sdesweep_shards": Kind("gauge", "Shards of the sweep by state", "state", STATES),
    "sdesweep_phase_seconds_total": Kind("counter", "Seconds of workers by phase", "phase", PHASES),
    "sdesweep_retries_total": Kind("counter", "Attempts that failed or were lost", "cause", CAUSES),
    "sdesweep_lost_seconds_total": Kind("counter", "Seconds of work lost with them"),
    "sdesweep_at_risk_seconds": Kind("gauge", "Seconds of work under way that no snapshot holds"),
    "sdesweep_workers": Kind("gauge", "Workers at work on the sweep"),
}
#: Makes an instrument: name, what it measures, names of labels.
Make = Callable[[str, Kind, tuple[str, ...]], Any]


class Metrics:
    """Measures a run. The instruments are made when the work begins: only then is Ray there."""

    def __init__(self, make: Make, clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._goals: Mapping[str, Goal] = {}
        self._instruments: dict[str, Any] = {}
        self._counted: dict[tuple[str, str, str], float] = {}  # (name, sweep, label) -> passed on so far
        self._read_at = -INTERVAL

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        pass

    def begin(self, goals: Mapping[str, Goal]) -> None:
        self._goals = goals
        self._instruments, self._counted = {}, {}
        self._read_at = -INTERVAL

    def tick(self, account: Account) -> None:
        now = self._clock()
        if now - self._read_at < INTERVAL and account.running:
            return  # when nothing runs, this may be the last look
        self._read_at = now
        if not self._instruments:
            for name, kind in METRICS.items():
                labels = ("sweep", kind.label) if kind.label else ("sweep",)
                self._instruments[name] = self._make(name, kind, labels)
        by_sweep: dict[str, list[str]] = {}
        for configuration in account.tallies:
            by_sweep.setdefault(configuration.partition("/")[0], []).append(configuration)
        for sweep, configurations in by_sweep.items():
            self._read(sweep, configurations, account)

    def _read(self, sweep: str, configurations: list[str], account: Account) -> None:
        tallies = [account.tallies[each] for each in configurations]
        running = [run for run in account.running.values() if run.assignment.sweep == sweep]
        self._pass_on("sdesweep_images_total", sweep, sum(tally.images for tally in tallies))
        self._pass_on(
            "sdesweep_network_evaluations_total", sweep, sum(tally.evaluations for tally in tallies)
        )
        self._pass_on("sdesweep_lost_seconds_total", sweep, sum(tally.seconds_lost for tally in tallies))
        self._pass_on("sdesweep_at_risk_seconds", sweep, sum(run.at_risk(account.now) for run in running))
        self._pass_on("sdesweep_workers", sweep, len(running))
        shards = {run.assignment for run in running if run.assignment.kind == "sample"}
        done = sum(self._goals[each].shards_done for each in configurations)
        states = {
            "pending": max(0, sum(tally.unfinished for tally in tallies) - len(shards)),
            "running": len(shards),
            "done": done + sum(tally.done for tally in tallies),
            "failed": sum(tally.failed for tally in tallies),
        }
        self._pass_on_each("sdesweep_shards", sweep, states)
        self._pass_on_each("sdesweep_phase_seconds_total", sweep, _sum(tallies, lambda tally: tally.seconds))
        self._pass_on_each("sdesweep_retries_total", sweep, _sum(tallies, lambda tally: tally.retries))

    def _pass_on_each(self, name: str, sweep: str, values: Mapping[str, float]) -> None:
        bounded: dict[str, float] = {}
        for label, value in values.items():
            known = label if label in METRICS[name].values else "other"
            bounded[known] = bounded.get(known, 0.0) + value
        for label, value in bounded.items():
            self._pass_on(name, sweep, value, label)

    def _pass_on(self, name: str, sweep: str, value: float, label: str = "") -> None:
        kind = METRICS[name]
        tags = {"sweep": sweep} | ({kind.label: label} if kind.label else {})
        if kind.type == "gauge":
            self._instruments[name].set(value, tags)
            return
        key = (name, sweep, label)
        more = value - self._counted.get(key, 0.0)
        if more > 0:
            self._counted[key] = value
            self._instruments[name].inc(more, tags)


def _sum(tallies: Iterable[Tally], what: Callable[[Tally], Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(what(tally))
    return total


def ray_instrument(name: str, kind: Kind, labels: tuple[str, ...]) -> Any:
    """One of Ray's, which its nodes export as `ray_<name>`."""
    from ray.util import metrics

    make = metrics.Counter if kind.type == "counter" else metrics.Gauge
    return make(name, kind.about, labels)
