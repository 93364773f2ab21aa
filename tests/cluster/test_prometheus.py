"""Metrics: what is counted, that labels are bounded, and that the dashboard asks for what there is."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from cluster.account import Account, Running, Tally
from cluster.metrics import CAUSES, INTERVAL, METRICS, PHASES, STATES, Metrics
from cluster.prepare import Goal
from jobs.compute.assignment import Assignment

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "sdesweep.json"
GOALS = {
    "s/a": Goal("a", samples=100, done=20, shards=10, shards_done=2, evaluations=10),
    "s/b": Goal("b", samples=50, done=0, shards=5, shards_done=0, evaluations=0),
    "t/a": Goal("a", samples=10, done=0, shards=1, shards_done=0, evaluations=0),
}


class Instrument:
    """Keeps what it was told."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.values: Counter[tuple[str, ...]] = Counter()

    def _key(self, tags: dict[str, str]) -> tuple[str, ...]:
        assert set(tags) == set(self.labels)
        return tuple(tags[label] for label in self.labels)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self.values[self._key(tags)] += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self._key(tags)] = value


class Board:
    """Metrics on instruments that can be read."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made: dict[str, Instrument] = {}
        self.metrics = Metrics(self._make, lambda: self.now)
        self.metrics.begin(GOALS)

    def _make(self, name: str, kind: object, labels: tuple[str, ...]) -> Instrument:
        self.made[name] = Instrument(labels)
        return self.made[name]

    def __call__(self, account: Account) -> dict[str, Counter[tuple[str, ...]]]:
        self.now += INTERVAL
        self.metrics.tick(account)
        return {name.removeprefix("sdesweep_"): made.values for name, made in self.made.items()}


@pytest.fixture
def account() -> Account:
    tallies = {key: Tally(None, unfinished=goal.shards - goal.shards_done) for key, goal in GOALS.items()}
    return Account(tallies)


def test_nothing_is_made_before_the_work_begins():
    assert Board().made == {}


def test_counters_grow_by_what_is_new_and_gauges_show_what_is(account):
    board = Board()
    board(account)
    a = account.tallies["s/a"]
    a.images, a.evaluations, a.done, a.unfinished = 10, 100, 1, 7
    a.retries["machine"] = 2
    a.seconds.update(sample=5.0, write=0.5)
    a.seconds_lost = 41.0
    account.now = 100.0
    account.running[0] = Running(Assignment("sample", "s", "a", 10, 20), started=70.0)
    board(account)
    shown = board(account)  # nothing new: nothing counted twice
    assert shown["images_total"] == {("s",): 10}
    assert shown["network_evaluations_total"] == {("s",): 100}
    assert shown["retries_total"] == {("s", "machine"): 2}
    assert shown["phase_seconds_total"] == {("s", "sample"): 5.0, ("s", "write"): 0.5}
    assert shown["lost_seconds_total"] == {("s",): 41.0}
    assert shown["at_risk_seconds"][("s",)] == 30.0
    assert shown["workers"] == {("s",): 1, ("t",): 0}
    of_s = {state: shown["shards"][("s", state)] for state in STATES}
    assert of_s == {"pending": 11, "running": 1, "done": 3, "failed": 0}
    assert shown["shards"][("t", "pending")] == 1


def test_the_end_is_shown_however_soon_it_comes_after_the_look_before(account):
    board = Board()
    account.running[0] = Running(Assignment("sample", "s", "a", 10, 20), started=0.0)
    board(account)
    account.tallies["s/a"].images = 10
    board.metrics.tick(account)  # at the same moment
    assert not board.made["sdesweep_images_total"].values
    del account.running[0]
    board.metrics.tick(account)
    assert board.made["sdesweep_images_total"].values == {("s",): 10}
    assert board.made["sdesweep_workers"].values == {("s",): 0, ("t",): 0}


def test_labels_are_bounded(account):
    account.tallies["s/a"].retries.update({f"new cause {number}": 1 for number in range(1000)})
    shown = Board()(account)
    assert shown["retries_total"] == {("s", "other"): 1000}
    for kind in METRICS.values():
        assert bool(kind.label) == bool(kind.values)
        assert len(kind.values) <= 10


def test_the_words_of_labels_are_those_in_use():
    assert set(CAUSES) >= {"code", "storage", "overlap", "machine"}
    assert set(PHASES) >= {"load", "sample", "write", "extract", "reference", "reduce"}


def test_a_second_run_of_the_same_command_counts_from_the_start(account):
    board = Board()
    account.tallies["s/a"].images = 10
    board(account)
    first = board.made["sdesweep_images_total"]
    board.metrics.begin(GOALS)
    board(account)
    assert board.made["sdesweep_images_total"] is not first
    assert board.made["sdesweep_images_total"].values == {("s",): 10}


def queries() -> str:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(found) >= len(METRICS)
    return "\n".join(found)


def test_the_dashboard_asks_for_exactly_the_metrics_that_there_are():
    assert set(re.findall(r"\bray_(sdesweep_\w+)", queries())) == set(METRICS)


def test_the_dashboard_asks_for_labels_that_there_are():
    for name, selector in re.findall(r"ray_(sdesweep_\w+)\{([^}]*)\}", queries()):
        used = set(re.findall(r"(\w+)\s*=", selector))
        assert used <= {"sweep", METRICS[name].label}
    for grouped in re.findall(r"by \(([^)]*)\)", queries()):
        known = {"sweep"} | {kind.label for kind in METRICS.values()}
        assert {label.strip() for label in grouped.split(",")} <= known


def test_rates_are_taken_of_counters_only():
    for name in re.findall(r"(?:rate|increase)\(ray_(sdesweep_\w+)", queries()):
        assert METRICS[name].type == "counter"
