"""Sweeps of one queue, each in its own hours: whose work is given out when, and when the run ends."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from driven import Notebook
from fake_pool import FakePool
from local_pool import Lines, LocalPool, NoPool
from wall_clock import Clock

from cluster.account import Account, Outcome, Tally
from cluster.driver import DRAIN_GRACE, Driver
from cluster.joint_queue import JointQueue
from cluster.nights import JointNights, Nights, run_nights
from cluster.own_hours import OwnHours
from cluster.queue import ConfigurationWork, WorkQueue
from cluster.run import run_sweeps
from jobs.compute.assignment import Assignment
from jobs.paths import SweepPaths
from jobs.specs.window import Hours, Window
from jobs.storage import runrecord

NIGHT = Window.model_validate({"from": "22:00", "until": "02:00", "timezone": "Europe/Stockholm"})
EARLY = Window.model_validate({"from": "20:00", "until": "06:00", "timezone": "America/New_York"})


class TwoSweeps:
    """Sweeps `one` and `two` on four workers in simulated time; `one` is shut from 100 s to 300 s."""

    def __init__(
        self, one: int, two: int, seconds: float = 9.0, snapshot: Callable[[int], float] = lambda worker: 0.1
    ) -> None:
        """one, two: shards, each of so many seconds. snapshot: seconds that a worker needs to give up."""
        self.given: list[tuple[float, Assignment]] = []
        self._shard = seconds
        self.pool = FakePool(4, seconds=self._seconds, snapshot=snapshot)
        works = {
            name: ConfigurationWork("a", "m", 0, 1.0, deque(range(8 * i, 8 * i + 8) for i in range(count)))
            for name, count in (("one", one), ("two", two))
        }
        self.account = Account(
            {f"{name}/a": Tally(None, unfinished=len(work.pending)) for name, work in works.items()}
        )
        queue = JointQueue({name: WorkQueue(name, [work]) for name, work in works.items()})
        self.notebook = Notebook()
        self.hours = OwnHours(self.shut, queue, self.account, self.notebook.happened)
        closing = partial(self.hours.closing, self.pool)
        self.driver = Driver(self.pool, queue, self.account, self.notebook, self.pool.clock, closing=closing)

    def _seconds(self, worker: int, assignment: Assignment) -> float:
        self.given.append((self.pool.now, assignment))
        return self._shard

    def shut(self) -> dict[str, str]:
        return {"one": "its window is closed"} if 100 <= self.pool.now < 300 else {}

    def begun(self, sweep: str) -> list[float]:
        return [time for time, assignment in self.given if assignment.sweep == sweep]


def test_a_sweep_outside_its_hours_leaves_the_workers_to_the_others_and_comes_back():
    both = TwoSweeps(one=80, two=200)
    assert both.driver.run().complete
    assert [time for time in both.begun("one") if 101 <= time < 300] == []
    assert min(time for time in both.begun("one") if time >= 300) < 311  # it is the first in the order
    assert min(both.begun("two")) < 103
    ends = [attempt.how for attempt in both.notebook.attempts]
    assert ends.count("given_up") == 4  # what was under way at 100 s, once
    assert set(both.pool.done.values()) == {1}
    (text,) = (each.text for each in both.notebook.incidents if each.kind == "drain")
    assert text == "one: its window is closed: 4 of its workers snapshot, and go on with others"


def test_a_worker_that_cannot_snapshot_in_time_is_ended_and_replaced_while_the_others_go_on():
    both = TwoSweeps(one=8, two=8, seconds=90.0, snapshot=lambda worker: math.inf if worker == 2 else 0.1)
    assert both.driver.run().complete
    (lost,) = (attempt for attempt in both.notebook.attempts if attempt.how == "lost")
    assert (lost.worker, lost.assignment.sweep) == (2, "one")
    assert DRAIN_GRACE <= lost.seconds - 8 < DRAIN_GRACE + 3  # begun at 92 s, asked at 100 s
    assert [attempt.how for attempt in both.notebook.attempts].count("given_up") == 3
    told = [each for each in both.notebook.incidents if each.kind == "drain"]
    assert [each.text for each in told] == [
        "one: its window is closed: 4 of its workers snapshot, and go on with others",
        "one: worker 2 needs more than 60 s and is ended",
    ]
    again = [assignment for assignment in both.pool.by_worker[2] if assignment.sweep == "two"]
    assert again  # the worker that replaced it, on the sweep that is open
    assert set(both.pool.done.values()) == {1}


def test_the_run_ends_when_only_sweeps_outside_their_hours_have_work():
    both = TwoSweeps(one=80, two=20)
    outcome = both.driver.run()
    assert (outcome.complete, outcome.closed, outcome.exit_code) == (False, True, 75)
    assert outcome.reason == "its window is closed"
    assert both.hours.waiting() == ("one",)
    assert 140 < both.pool.now < 200
    assert both.account.tallies["two/a"].unfinished == 0


def at(hour: int, day: int = 22) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_the_next_hours_are_those_of_the_sweep_that_opens_first_and_has_work():
    clock = Clock(at(16))
    nights = JointNights({"night": Nights(Hours(NIGHT), clock), "early": Nights(Hours(EARLY), clock)})
    assert nights.shut().keys() == {"night", "early"}
    assert nights.shut()["early"].endswith("which opens Sun 22 Nov 2026 20:00 EST")
    opens, first = nights.next_opening(["night", "early"])
    assert (opens, first.spoken(opens)) == (at(21), "Sun 22 Nov 2026 22:00 CET")
    assert nights.next_opening(["early"])[0] == at(1, 23)
    assert nights.next_opening([]) is None
    clock.now = at(22)
    assert nights.shut().keys() == {"early"}


def test_waiting_wakes_for_work_and_not_for_what_is_done():
    """`night` is done, so its hours are slept through."""
    clock = Clock(at(16))
    nights = JointNights({"night": Nights(Hours(NIGHT), clock), "early": Nights(Hours(EARLY), clock)})
    began: list[datetime] = []

    def attempt() -> Outcome:
        began.append(clock.now)
        return Outcome(complete=len(began) == 2, reason="closed", closed=True, waiting=("early",))

    assert run_nights(attempt, nights, print, clock.sleep).complete
    assert began == [at(16), at(1, 23)]


def test_one_that_is_open_is_done_and_the_other_waits_for_its_hours(store, make_sweep):
    sweeps = [make_sweep(name=name) for name in ("one", "two")]
    shut, lines = {"one": "outside the window"}, Lines()
    outcome = run_sweeps(store, sweeps, LocalPool(store).open, lines, ["run"], "one", lambda: shut)
    assert (outcome.closed, outcome.waiting, outcome.reason) == (True, ("one",), "outside the window")
    ends = {name: runrecord.runs(store, SweepPaths(name))[0].outcome for name in ("one", "two")}
    assert ends == {"one": "incomplete", "two": "done"}
    assert not [entry for entry in store.list("one") if "/images/" in entry.name]
    assert "one waits: outside the window" in lines.notes
    again = run_sweeps(store, sweeps, NoPool().open, Lines(), ["run"], "one", lambda: shut)
    assert (again.closed, again.waiting) == (True, ("one",))
    assert run_sweeps(store, sweeps, LocalPool(store).open, Lines(), ["run"], "one").complete


def test_nothing_is_waited_for_that_never_opens_again():
    clock = Clock(at(16))
    over = Nights(Hours(None, at(16) - timedelta(hours=1)), clock)
    closed = Outcome(complete=False, reason="over", closed=True, waiting=("a",))
    assert run_nights(lambda: closed, JointNights({"a": over}), print, clock.sleep) is closed
