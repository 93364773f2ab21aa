"""Readings of a run, and how they are shown."""

from __future__ import annotations

import errno
import io

import pytest
from rich.console import Console

from cluster.account import Account, Running, Tally
from cluster.display import LiveTable, PlainLines, Silence, duration, number, open_display
from cluster.pool import Ready
from cluster.prepare import Goal
from cluster.progress import WINDOW, Meter
from jobs.compute.assignment import Assignment

GOALS = {
    "s/a": Goal("VE / PC100", samples=100, done=20, shards=10, shards_done=2, evaluations=10),
    "s/b": Goal("noise", samples=50, done=0, shards=5, shards_done=0, evaluations=0),
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account() -> Account:
    return Account(
        {"s/a": Tally(None, unfinished=8), "s/b": Tally(None, unfinished=5)}, workers={0: Ready(0, "here")}
    )


def at_work(fingerprint: str, evaluations: int, images: int = 0) -> Running:
    return Running(Assignment("sample", "s", fingerprint, 0, 10), 0.0, images, evaluations)


def test_images_in_the_making_count_by_their_evaluations(clock, account):
    meter = Meter(GOALS, clock)
    account.running[0] = at_work("a", evaluations=0)
    meter.read(account)
    clock.now += 10
    account.tallies["s/a"].images, account.tallies["s/a"].evaluations, account.tallies["s/a"].done = (
        10,
        100,
        1,
    )
    account.running[0] = at_work("a", evaluations=50)
    total, (a, b) = meter.read(account)
    assert (a.images, a.shards_done, a.shards, a.workers) == (35, 3, 10, 1)
    assert a.images_per_second == pytest.approx(1.5)
    assert a.evaluations_per_second == pytest.approx(15.0)
    assert a.seconds_left == pytest.approx(65 / 1.5)
    assert (b.images, b.workers, b.seconds_left) == (0, 0, None)
    assert (total.images, total.samples, total.shards_done) == (35, 150, 3)
    work_left = 65 * 11 + 50 * 1
    assert total.seconds_left == pytest.approx(work_left / (15 * 11 / 10))


def test_rates_are_of_the_last_minute(clock, account):
    meter = Meter(GOALS, clock)
    for second in range(200):
        clock.now += 1
        fast = second > 100
        account.running[0] = at_work("a", evaluations=second + (3 * (second - 100) if fast else 0))
        _, (a, _) = meter.read(account)
        if second == 50:
            assert a.evaluations_per_second == pytest.approx(1.0)
    assert a.evaluations_per_second == pytest.approx(4.0)
    assert WINDOW < 99


def test_images_without_evaluations_count_when_they_are_there(clock, account):
    meter = Meter(GOALS, clock)
    account.running[0] = at_work("b", evaluations=0)
    meter.read(account)
    clock.now += 2
    account.running[0] = at_work("b", evaluations=0, images=10)
    _, (_, b) = meter.read(account)
    assert b.images == 10
    assert b.seconds_left == pytest.approx(40 / 5)


def test_work_done_twice_never_counts_beyond_what_is_asked(clock, account):
    account.tallies["s/a"].evaluations = 10_000
    _, (a, _) = Meter(GOALS, clock).read(account)
    assert a.images == a.samples


def test_finished_configurations_are_not_listed(clock, account):
    account.tallies["s/b"].done, account.tallies["s/b"].failed = 4, 1
    total, unfinished = Meter(GOALS, clock).read(account)
    assert [reading.name for reading in unfinished] == ["VE / PC100"]
    assert total.shards_failed == 1


def test_plain_lines_come_every_ten_seconds(clock, account):
    lines: list[str] = []
    plain = PlainLines(lines.append, clock)
    plain.begin(GOALS)
    account.running[0] = at_work("a", 0)
    for second in range(61):
        clock.now += 1
        account.running[0] = at_work("a", evaluations=second)
        plain.tick(account)
    assert len(lines) == 6
    assert "2/15 shards, 25/150 images" in lines[-1]
    assert "1 evaluations/s, 1 worker, about" in lines[-1]
    assert lines[-1].endswith("at work: VE / PC100 2/10")


def test_the_live_table_names_configurations_and_keeps_notes(account):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with LiveTable(console) as live:
        live.begin(GOALS)
        live.note("worker lost during [VE / PC100]")
        account.running[0] = at_work("a", 0)
        live.tick(account)
    text = output.getvalue()
    assert "worker lost during [VE / PC100]" in text
    assert "VE / PC100" in text
    assert "2/10" in text


class Closed(io.StringIO):
    """A file that takes nothing."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_run_goes_on_when_its_lines_cannot_be_written(error):
    with open_display(Console(file=Closed(error)), quiet=False) as display:
        display.note("first")
        display.note("second")


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [(True, False, LiveTable), (False, False, PlainLines), (True, True, Silence)],
)
def test_the_display_fits_where_it_is_shown(terminal, quiet, kind):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with open_display(console, quiet=quiet) as display:
        assert isinstance(display, kind)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (95, "2 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (300_000, "3 d 11 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (4.5678, "4.57"), (12345.6, "12,346"), (0, "0")]
)
def test_numbers_have_three_digits_that_matter(value, text):
    assert number(value) == text
