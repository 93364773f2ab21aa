"""How many nights the work takes: from a rate, in windows, over changes of the clocks."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cluster.cli import main
from cluster.forecast import STARTUP, forecast, measured_rate
from cluster.nights import LEAD
from jobs.paths import SweepPaths
from jobs.specs.window import Hours, Window
from jobs.storage import runrecord

NOON = datetime(2026, 11, 21, 11, tzinfo=UTC)
NIGHT = Window.model_validate({"from": "22:00", "until": "07:00", "timezone": "Europe/Stockholm"})
USABLE = (timedelta(hours=9) - LEAD - STARTUP).total_seconds()


def test_without_a_window_it_is_arithmetic():
    found = forecast(7200.0, 2.0, True, Hours(), NOON)
    assert (found.seconds, found.nights, found.measured) == (3600.0, None, True)
    assert found.done == NOON + STARTUP + timedelta(hours=1)


@pytest.mark.parametrize(("seconds", "nights"), [(1.0, 1), (USABLE, 1), (USABLE + 1, 2), (3.5 * USABLE, 4)])
def test_nights_are_counted_without_their_begin_and_drain(seconds, nights):
    found = forecast(10 * seconds, 10.0, False, Hours(NIGHT), NOON)
    assert found.nights == nights
    last = datetime(2026, 11, 20 + nights, 21, tzinfo=UTC)
    in_last = timedelta(seconds=seconds - (nights - 1) * USABLE)
    assert abs(found.done - (last + STARTUP + in_last)) < timedelta(milliseconds=1)


def test_a_night_that_has_begun_counts_with_what_is_left_of_it():
    late = datetime(2026, 11, 22, 5, tzinfo=UTC)  # 06:00, an hour before the end
    found = forecast(3600.0 * 2, 1.0, False, Hours(NIGHT), late)
    assert found.nights == 2


def test_the_longer_night_of_the_year_does_more():
    eve = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert forecast(USABLE + 3600, 1.0, False, Hours(NIGHT), eve).nights == 1


def test_work_that_the_hours_do_not_hold_is_said_so():
    hours = Hours(NIGHT, until=datetime(2026, 11, 23, tzinfo=UTC))
    assert forecast(1e6, 1.0, False, hours, NOON).done is None
    assert forecast(1e30, 1.0, False, Hours(NIGHT), NOON).nights is None


def test_the_rate_is_that_of_the_last_run_that_made_images(store):
    assert measured_rate([]) is None
    record = runrecord.begin(store, SweepPaths("tiny"), ["run"])
    began = datetime.fromisoformat(record.started)
    record.images, record.evaluations = 100, 900
    record.updated = (began + timedelta(seconds=50)).isoformat()
    idle = record.model_copy(update={"images": 0})
    assert measured_rate([record, idle]) == pytest.approx(20.0)
    assert measured_rate([idle]) is None


def test_plan_tells_the_window_and_the_nights(spec, tmp_path):
    opens = datetime.now(UTC) + timedelta(hours=2, minutes=30)
    window = f"window={{from: {opens:%H:%M}, until: {opens + timedelta(minutes=12):%H:%M}, timezone: UTC}}"
    command = ["plan", str(spec), "--store", str(tmp_path / "store"), "--set", window, "--rate", "0.1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0
    assert re.search(r"window .* UTC: opens .* UTC, in (150 min|2 h \d\d min)", result.output)
    # 80 images at 0.1 a second: 800 s, of which a night of 12 minutes does 585
    assert "at 0.1 network evaluations a second (as given): 13 min of work, 2 nights, done" in result.output
    found = json.loads(CliRunner().invoke(main, [*command, "--json"]).output)
    assert found["forecast"]["nights"] == 2
    assert found["window"]["timezone"] == "UTC"
    assert found["next_opening"]


def test_plan_measures_the_rate_and_is_silent_about_what_is_done(filled, spec):
    result = CliRunner().invoke(main, ["plan", str(spec), "--store", filled.url])
    assert "of work" not in result.output
    command = ["plan", str(spec), "--store", filled.url, "--set", "samples=400", "--json"]
    found = json.loads(CliRunner().invoke(main, command).output)
    assert found["forecast"]["measured"]
    assert found["forecast"]["seconds"] == pytest.approx(720 / found["forecast"]["rate"])


@pytest.mark.parametrize("rate", ["0", "-3", "fast"])
def test_rates_that_are_none_are_refused(spec, rate):
    assert CliRunner().invoke(main, ["plan", str(spec), "--rate", rate]).exit_code == 2
