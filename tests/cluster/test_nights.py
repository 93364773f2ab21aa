"""Hours of work: drains that begin early enough, nights one after the other, and what the command says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from driven import Run
from fake_pool import FakePool, Fault
from local_pool import LocalPool, NoPool
from wall_clock import Clock

from cluster.account import Outcome
from cluster.cli import main
from cluster.cli.hours import When, nights_of
from cluster.cli.submitting import _passed_on
from cluster.display import Silence
from cluster.driver import DRAIN_GRACE, Driver
from cluster.nights import LEAD, NAP, JointNights, Nights, run_nights
from cluster.run import run_sweep
from jobs.compute.assignment import Assignment
from jobs.paths import SweepPaths
from jobs.specs.window import Hours, Window, moment
from jobs.storage import runrecord
from jobs.store_local import LocalStore

WINDOW = Window.model_validate({"from": "22:00", "until": "07:00", "timezone": "Europe/Stockholm"})
CLOSES = datetime(2026, 11, 22, 6, tzinfo=UTC)  # 07:00 there


def closing_in(run: Run, seconds: float) -> Callable[[], str]:
    """The window's end, so far ahead in the simulated time of a run."""
    begins = CLOSES - timedelta(seconds=seconds)
    return Nights(Hours(WINDOW), lambda: begins + timedelta(seconds=run.pool.now)).closing


def test_work_is_allowed_inside_the_window_and_ends_before_it():
    clock = Clock(CLOSES - LEAD - timedelta(seconds=1))
    nights = Nights(Hours(WINDOW), clock)
    assert nights.closing() == ""
    assert nights.next_opening() == clock.now
    clock.sleep(1)
    assert nights.closing() == (
        "work ends Sun 22 Nov 2026 07:00 CET, by the window 22:00 to 07:00 Europe/Stockholm"
    )
    assert nights.next_opening() == CLOSES + timedelta(hours=15)
    clock.now = CLOSES
    assert "outside the window" in nights.closing()
    assert "which opens Sun 22 Nov 2026 22:00 CET" in nights.closing()


def test_until_ends_the_work_too_and_never_begins_again():
    clock = Clock(CLOSES)
    nights = Nights(Hours(None, CLOSES + timedelta(hours=1)), clock)
    assert nights.closing() == ""
    clock.sleep(3600 - LEAD.total_seconds())
    assert nights.closing().endswith("by --until")
    assert nights.next_opening() is None
    clock.sleep(3600)
    assert nights.closing() == "the time given by --until is over"


def test_the_driver_drains_so_early_that_even_hanging_workers_are_gone_in_time():
    run = Run(FakePool(3, fault=lambda worker, assignment, attempt: Fault("hang")), {"a": 9})
    run.pool.drain = lambda: None  # nobody answers
    run.driver = Driver(
        run.pool, run.queue, run.account, run.notebook, run.pool.clock, closing=closing_in(run, 600)
    )
    outcome = run()
    assert (outcome.complete, outcome.closed, outcome.exit_code) == (False, True, 75)
    assert 600 - LEAD.total_seconds() + DRAIN_GRACE <= run.pool.now < 600 - 10


def test_the_driver_begins_nothing_once_the_drain_has_begun():
    run = Run(FakePool(3, seconds=lambda worker, assignment: 10.0), {"a": 1000})
    run.driver = Driver(
        run.pool, run.queue, run.account, run.notebook, run.pool.clock, closing=closing_in(run, 600)
    )
    outcome = run()
    assert outcome.closed
    assert outcome.reason.startswith("work ends Sun 22 Nov 2026 07:00 CET")
    assert 600 - LEAD.total_seconds() <= run.pool.now < 605 - LEAD.total_seconds()
    assert 0 < run.account.tallies["sweep/a"].done < 1000
    assert not run.account.running


def test_work_that_ends_while_it_drains_is_complete():
    run = Run(FakePool(1, seconds=lambda worker, assignment: 30.0), {"a": 1})
    run.account.tallies["sweep/a"].reduction = None
    run.pool.drain = lambda: None  # the shard's last step is longer
    run.driver = Driver(
        run.pool, run.queue, run.account, run.notebook, run.pool.clock, closing=closing_in(run, 90)
    )
    outcome = run()
    assert (outcome.complete, outcome.exit_code) == (True, 0)


def test_waiting_sleeps_from_night_to_night_in_naps():
    clock = Clock(CLOSES + timedelta(hours=1))
    nights = Nights(Hours(WINDOW), clock)
    began: list[datetime] = []
    notes: list[str] = []

    def attempt() -> Outcome:
        if nights.closing():
            return Outcome(complete=False, reason=nights.closing(), closed=True, waiting=("tiny",))
        began.append(clock.now)
        clock.now += timedelta(hours=9)
        reason = "" if len(began) == 3 else "closed"
        return Outcome(complete=len(began) == 3, reason=reason, closed=True, waiting=("tiny",))

    outcome = run_nights(attempt, JointNights({"tiny": nights}), notes.append, clock.sleep)
    assert outcome.complete
    assert [f"{when:%d %H:%M}" for when in began] == ["22 21:00", "23 21:00", "24 21:00"]
    assert max(clock.naps) <= NAP
    assert "waiting 14 h 00 min, until Sun 22 Nov 2026 22:00 CET" in notes[0]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(complete=True, closed=True, waiting=("tiny",)),
        Outcome(complete=False, reason="asked to stop", waiting=("tiny",)),
        Outcome(complete=True, failed=2),
    ],
)
def test_only_closed_hours_are_waited_for(outcome):
    nights = JointNights({"tiny": Nights(Hours(WINDOW), Clock(CLOSES))})
    assert run_nights(lambda: outcome, nights, print, lambda seconds: pytest.fail("slept")) is outcome


def test_a_signal_while_waiting_ends_incomplete():
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    closed = Outcome(complete=False, reason="closed", closed=True, waiting=("tiny",))
    nights = JointNights({"tiny": Nights(Hours(WINDOW), Clock(CLOSES))})
    outcome = run_nights(lambda: closed, nights, print, interrupt)
    assert (outcome.exit_code, outcome.reason) == (75, "stopped while waiting for the window")
    assert not outcome.closed


def test_outside_the_window_no_pool_is_opened_and_the_record_says_incomplete(store, make_sweep):
    outcome = run_sweep(store, make_sweep(), NoPool().open, Silence(), ["run"], lambda: "closed")
    assert (outcome.exit_code, outcome.closed, outcome.reason) == (75, True, "closed")
    (record,) = runrecord.runs(store, SweepPaths("tiny"))
    assert (record.outcome, record.exit_code) == ("incomplete", 75)


def test_what_is_finished_is_finished_at_any_hour(filled, make_sweep):
    assert run_sweep(filled, make_sweep(), NoPool().open, Silence(), ["run"], lambda: "closed").complete


def test_a_closed_window_in_the_middle_resumes_in_the_next_to_the_same_bits(store, filled_bits, make_sweep):
    performed: list[Assignment] = []
    first = run_sweep(
        store,
        make_sweep(),
        LocalPool(store, performed.append).open,
        Silence(),
        ["run"],
        lambda: "closed" if len(performed) >= 3 else "",
    )
    assert first.closed
    assert run_sweep(store, make_sweep(), LocalPool(store).open, Silence(), ["run"]).complete
    assert bits(store) == filled_bits


def bits(store) -> dict[str, str]:
    """Digests of all images, by marker."""
    return {
        str(path.relative_to(store.root)): json.loads(path.read_text())["digests"]
        for path in store.root.glob("tiny/*/images/**/*.json")
    }


@pytest.fixture
def filled_bits(finished_store) -> dict[str, str]:
    found = bits(finished_store)
    assert len(found) == 6
    return found


@pytest.fixture
def closed_window() -> str:
    """A window that opens in two hours, as --set wants it."""
    opens = datetime.now(UTC) + timedelta(hours=2)
    closes = opens + timedelta(hours=1)
    return f"window={{from: {opens:%H:%M}, until: {closes:%H:%M}, timezone: UTC}}"


def test_the_command_starts_nothing_outside_the_window(spec, tmp_path, closed_window):
    command = ["run", str(spec), "--store", str(tmp_path / "store"), "--set", closed_window]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 75
    assert "incomplete: outside the window" in result.output
    assert "next hours of work: " in result.output
    result = CliRunner().invoke(main, ["resume", "tiny", "--store", str(tmp_path / "store"), "--json"])
    assert result.exit_code == 75
    found = json.loads(result.output)
    opens = datetime.fromisoformat(found["next_opening"])
    assert timedelta(hours=1, minutes=55) < opens - datetime.now(UTC) <= timedelta(hours=2)
    assert (found["outcome"], found["exit_code"]) == ("incomplete", 75)


def test_a_closed_window_is_no_failure_to_a_scheduler(spec, tmp_path, closed_window):
    store = str(tmp_path / "store")
    command = ["run", str(spec), "--store", store, "--set", closed_window, "--json"]
    for arguments, variables in (
        (["--batch"], {}),
        ([], {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"metadata": {"job_submission_id": "tiny-a1"}}'}),
    ):
        result = CliRunner().invoke(main, command + arguments, env=variables)
        assert result.exit_code == 0
        assert json.loads(result.output)["outcome"] == "incomplete"
    records = runrecord.runs(LocalStore(store), SweepPaths("tiny"))
    assert [(record.outcome, record.exit_code) for record in records] == [("incomplete", 75)] * 2


def test_until_must_be_a_time_to_come(spec, tmp_path):
    for text, message in (("yesterday", "is no time: write 07:00"), ("2020-01-01", "is over")):
        command = ["run", str(spec), "--store", str(tmp_path / "store"), "--until", text]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert f"--until '{text}' {message}" in result.stderr


def test_sweeps_that_run_together_keep_their_own_windows(make_sweep):
    night = {"from": "22:00", "until": "07:00", "timezone": "America/New_York"}
    sweeps = [make_sweep(name="a", window=night), make_sweep(name="b")]
    found = nights_of(sweeps, When(until="2999-01-01 00:00"))
    assert [str(found[name].hours.window or "none") for name in ("a", "b")] == [
        "22:00 to 07:00 America/New_York",
        "none",
    ]
    assert {nights.hours.until for nights in found.values()} == {datetime(2999, 1, 1, 5, tzinfo=UTC)}
    assert nights_of(sweeps, When(ignore_window=True))["a"].closing() == ""


def test_a_job_is_told_the_moment_and_not_the_time_of_day():
    """The head's clock may be in another zone than that of the machine that submits."""
    until = datetime(2026, 11, 22, 6, tzinfo=UTC)
    options = _passed_on(3, When(until="07:00", wait=True), until, "plain")
    assert options == ["--workers", "3", "--until", "2026-11-22T06:00:00+00:00", "--wait"]
    told = moment(options[3], None, until - timedelta(hours=1))
    assert told == until
    assert _passed_on(None, When(), None, "plain") == []


def test_an_until_that_is_no_time_is_refused_before_anything_is_submitted(spec, tmp_path):
    command = ["submit", str(spec), "--store", str(tmp_path / "store"), "--until", "soon"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "--until 'soon' is no time: write 07:00" in result.stderr
