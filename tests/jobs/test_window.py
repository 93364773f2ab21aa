"""Windows and moments: across midnight, on the days the clocks change, in odd zones, and refused ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from spec_files import problems_of, sweep_of

from jobs.planning.sweep import Sweep
from jobs.specs.window import Hours, Window, first_moment, minutes_of, moment, spoken

STOCKHOLM = ZoneInfo("Europe/Stockholm")


def window(opens="22:00", closes="07:00", timezone="Europe/Stockholm", days=None) -> Window:
    keys = {"from": opens, "until": closes, "timezone": timezone}
    return Window.model_validate(keys if days is None else keys | {"days": days})


def at(text: str, zone: str = "Europe/Stockholm", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def nights(found: Window, now: datetime, count: int) -> list[tuple[datetime, datetime]]:
    return [(night.opens, night.closes) for night in islice(found.nights(now), count)]


def test_a_window_across_midnight_belongs_to_the_day_it_begins():
    friday = window(days=["fri"])
    saturday_morning = at("2026-11-21T03:00")
    assert nights(friday, saturday_morning, 2) == [
        (at("2026-11-20T22:00"), at("2026-11-21T07:00")),
        (at("2026-11-27T22:00"), at("2026-11-28T07:00")),
    ]
    friday_morning = at("2026-11-20T03:00")  # Thursday's night
    assert nights(friday, friday_morning, 1) == [(at("2026-11-20T22:00"), at("2026-11-21T07:00"))]


def test_a_window_within_a_day_and_a_whole_day():
    lunch = window("12:00", "13:30", days="sun")
    assert nights(lunch, at("2026-11-22T13:30"), 1) == [(at("2026-11-29T12:00"), at("2026-11-29T13:30"))]
    weekend = window("00:00", "24:00", days=["sat", "sun"])
    (saturday, sunday) = nights(weekend, at("2026-11-21T05:00"), 2)
    assert saturday == (at("2026-11-21T00:00"), at("2026-11-22T00:00"))
    assert sunday[0] == saturday[1]


def test_a_closed_moment_is_closed_and_an_open_one_open():
    found = window()
    closing = at("2026-11-21T07:00")
    assert nights(found, closing - timedelta(seconds=1), 1)[0][0] < closing
    assert nights(found, closing, 1)[0][0] == at("2026-11-21T22:00")


def test_the_night_the_clocks_go_forward_is_an_hour_shorter():
    ((opens, closes),) = nights(window(), at("2026-03-28T21:00"), 1)
    assert (opens, closes) == (datetime(2026, 3, 28, 21, tzinfo=UTC), datetime(2026, 3, 29, 5, tzinfo=UTC))
    assert closes - opens == timedelta(hours=8)


def test_the_night_the_clocks_go_back_is_an_hour_longer():
    ((opens, closes),) = nights(window(), at("2026-10-24T21:00"), 1)
    assert (opens, closes) == (datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC))
    assert closes - opens == timedelta(hours=10)


def test_ends_in_the_hour_that_is_skipped_are_the_moment_of_the_change():
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)  # 02:00 becomes 03:00
    assert nights(window("02:30", "05:00"), at("2026-03-29T00:00"), 1)[0] == (change, at("2026-03-29T05:00"))
    assert nights(window("22:00", "02:30"), at("2026-03-28T23:00"), 1)[0][1] == change


def test_a_window_inside_the_hour_that_is_skipped_is_no_night():
    found = window("02:10", "02:50")
    assert nights(found, at("2026-03-28T12:00"), 1) == [(at("2026-03-30T02:10"), at("2026-03-30T02:50"))]


def test_times_that_come_twice_count_the_first_time():
    ((opens, closes),) = nights(window("02:15", "02:45"), at("2026-10-25T00:00"), 1)
    assert (opens, closes) == (at("2026-10-25T02:15", fold=0), at("2026-10-25T02:45", fold=0))
    assert closes - opens == timedelta(minutes=30)
    second_time = at("2026-10-25T02:20", fold=1)
    assert nights(window("02:15", "02:45"), second_time, 1)[0][0] == at("2026-10-26T02:15")
    assert nights(window("22:00", "02:30"), at("2026-10-24T23:00"), 1)[0][1] == at("2026-10-25T02:30", fold=0)


@pytest.mark.parametrize(
    ("zone", "wall", "expected"),
    [
        ("America/Havana", "2026-03-08T00:00", "2026-03-08T05:00+00:00"),  # midnight is skipped
        ("Africa/Cairo", "2026-04-24T00:30", "2026-04-23T22:00+00:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30+00:00"),  # by half an hour
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00+00:00"),  # a whole day is skipped
        ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30+00:00"),
        ("UTC", "2026-03-29T02:30", "2026-03-29T02:30+00:00"),
    ],
)
def test_the_first_moment_in_zones_with_changes_of_their_own(zone, wall, expected):
    found = first_moment(datetime.fromisoformat(wall), ZoneInfo(zone))
    assert found == datetime.fromisoformat(expected)


def test_nights_of_ten_years_never_overlap_and_show_the_hours_asked_for():
    for zone in ("Europe/Stockholm", "America/New_York", "Australia/Lord_Howe"):
        found = nights(window(timezone=zone), at("2020-01-01T12:00"), 3653)
        assert all(a[1] <= b[0] for a, b in pairwise(found))
        here = ZoneInfo(zone)
        assert {f"{opens.astimezone(here):%H:%M}" for opens, _ in found} == {"22:00"}
        assert {f"{closes.astimezone(here):%H:%M}" for _, closes in found} == {"07:00"}
        assert {closes - opens for opens, closes in found} > {timedelta(hours=9)}


def test_until_cuts_the_windows():
    hours = Hours(window(), until=at("2026-11-23T01:00"))
    assert list(hours.times(at("2026-11-21T12:00"))) == [
        (at("2026-11-21T22:00"), at("2026-11-22T07:00")),
        (at("2026-11-22T22:00"), at("2026-11-23T01:00")),
    ]
    assert list(hours.times(at("2026-11-23T01:00"))) == []
    assert list(Hours().times(at("2026-11-21T12:00"))) == [(at("2026-11-21T12:00"), None)]
    assert list(Hours(until=at("2026-11-21T12:00")).times(at("2026-11-21T12:00"))) == []


def test_moments_that_users_write():
    now = at("2026-11-21T23:00")
    assert moment("07:00", STOCKHOLM, now) == at("2026-11-22T07:00")
    assert moment("23:30", STOCKHOLM, now) == at("2026-11-21T23:30")
    assert moment("23:00", STOCKHOLM, now) == at("2026-11-22T23:00")
    assert moment("24:00", STOCKHOLM, now) == at("2026-11-22T00:00")
    assert moment("2026-11-24", STOCKHOLM, now) == at("2026-11-24T00:00")
    assert moment("2026-11-24 06:30", STOCKHOLM, now) == at("2026-11-24T06:30")
    assert moment("2026-11-24T06:30-05:00", STOCKHOLM, now) == at("2026-11-24T12:30")
    assert moment("2026-11-24T06:30Z", None, now) == at("2026-11-24T07:30")
    assert moment("02:30", STOCKHOLM, at("2026-03-28T22:00")) == at("2026-03-29T03:00")  # skipped
    assert moment("02:30", STOCKHOLM, at("2026-10-25T02:40", fold=0)) == at("2026-10-26T02:30")


@pytest.mark.parametrize(
    "text", ["", "7", "25:00", "7:5", "tomorrow", "2026-13-01", "12:60", "٠٧:٠٠", "-1:00"]
)
def test_what_is_no_moment_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="is no time: write 07:00"):
        moment(text, STOCKHOLM, at("2026-11-21T23:00"))


def test_a_moment_that_is_over_is_refused():
    with pytest.raises(ValueError, match="is over: it was Sat 21 Nov 2026 00:00 CET"):
        moment("2026-11-21", STOCKHOLM, at("2026-11-21T23:00"))


def test_moments_are_told_in_their_zone():
    assert spoken(at("2026-07-01T07:00"), STOCKHOLM) == "Wed 01 Jul 2026 07:00 CEST"


def test_minutes():
    assert [minutes_of(text) for text in ("00:00", "7:05", "22:00", "24:00", "24:01")] == [
        0,
        425,
        1320,
        1440,
        None,
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{from: 1320, until: 07:00, timezone: UTC}", 'window.from: 1320 is no time of day; write "22:00"'),
        ("{from: 22:00, until: 24:30, timezone: UTC}", "window.until: '24:30' is no time of day"),
        ("{from: 22:00, until: 07:00, timezone: Europe/Stokholm}", "did you mean 'Europe/Stockholm'"),
        ("{from: 22:00, until: 07:00, timezone: Europe}", "window.timezone: 'Europe' is no time zone"),
        ("{from: 22:00, until: 07:00, timezone: ../../etc/passwd}", "is no time zone"),
        ("{from: 22:00, until: 07:00}", "window.timezone: missing"),
        ("{from: 22:00, until: 07:00, timezone: UTC, days: [mon, Freitag]}", "'Freitag' is not one of mon,"),
        ("{from: 22:00, until: 22:00, timezone: UTC}", "shorter than 5 minutes"),
        ("{from: 22:00, until: 07:00, timezone: UTC, day: mon}", "did you mean 'days'?"),
        ("{from: 22:00, until: 07:00, timezone: UTC, opens: mon}", "the keys here are from, until, timezone"),
    ],
)
def test_wrong_windows_are_refused_by_key_value_and_remedy(tmp_path, value, message):
    text = f"name: tiny\nsamples: 8\nmodel: digits\nsampler: {{kind: noise}}\nmetrics: []\nwindow: {value}\n"
    assert message in "\n".join(problems_of(tmp_path, text))


def test_a_window_travels_with_the_stored_sweep_and_changes_no_fingerprint(tmp_path):
    text = "name: tiny\nsamples: 8\nmodel: digits\nsampler: {kind: noise}\nmetrics: []\n"
    without = sweep_of(tmp_path, text)
    sweep = sweep_of(tmp_path, f"{text}window: {{from: 22:00, until: 07:00, timezone: UTC, days: fri}}\n")
    assert Sweep.from_json(sweep.to_json()).window == sweep.window == window(timezone="UTC", days=["fri"])
    assert sweep.configurations == without.configurations
    assert sweep_of(tmp_path, sweep.written, window=None).window is None


def test_a_window_without_days_is_refused():
    with pytest.raises(ValidationError):
        window(days=[])
