"""When work may be done: a window of the day in a time zone, nights, and a last moment.

All arithmetic is on UTC; wall clocks are only read and written at the edges, so days on which the clocks
change come out right. This module must not know drivers, nor how long a drain takes.
"""

from __future__ import annotations

import difflib
import functools
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jobs.specs.sections import Section, listed

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
SHORTEST = 5  # minutes that a window lasts at least; starting workers alone takes some of them


def _clock(value: object) -> object:
    """Minutes would be a trap: a YAML 1.1 reader makes 1320 of 22:00."""
    if not isinstance(value, str) or minutes_of(value) is None:
        raise PydanticCustomError("spec", 'is no time of day; write "22:00"')
    return value


def _zone(name: str) -> str:
    if name not in _zones():
        near = ", ".join(map(repr, difflib.get_close_matches(name, _zones(), n=3)))
        hint = f"; did you mean {near}?" if near else ""
        message = "is no time zone, which are names of places (Europe/Stockholm) and UTC{hint}"
        raise PydanticCustomError("spec", message, {"hint": hint})
    return name


class Window(Section):
    """The hours of the day in which work may be done; `until` at or before `from` means the next day."""

    model_config = ConfigDict(serialize_by_alias=True)

    opens: Annotated[str, BeforeValidator(_clock), Field(alias="from")]
    closes: Annotated[str, BeforeValidator(_clock), Field(alias="until")]
    timezone: Annotated[str, AfterValidator(_zone)]
    days: Annotated[tuple[Day, ...], BeforeValidator(listed), Field(min_length=1)] = DAYS

    @model_validator(mode="after")
    def _long_enough(self) -> Window:
        if self._minutes() < SHORTEST:
            raise PydanticCustomError(
                "sentence",
                "from {opens} until {closes} is shorter than {shortest} minutes; for whole days write "
                'from "00:00" until "24:00", or leave the window out',
                {"opens": self.opens, "closes": self.closes, "shortest": SHORTEST},
            )
        return self

    def _minutes(self) -> int:
        """Length on a day of 24 hours; 0 where both ends are the same."""
        opens, closes = minutes_of(self.opens) or 0, minutes_of(self.closes) or 0
        return closes - opens if closes >= opens else closes - opens + 24 * 60

    @property
    def zone(self) -> tzinfo:
        return zoneinfo.ZoneInfo(self.timezone)

    def nights(self, now: datetime) -> Iterator[Night]:
        """The night of this moment, if it is one, and all later ones, in order. `now` is aware."""
        opens = timedelta(minutes=minutes_of(self.opens) or 0)
        length = timedelta(minutes=self._minutes())
        day = now.astimezone(self.zone).date() - timedelta(days=2)
        while True:
            day += timedelta(days=1)
            if DAYS[day.weekday()] not in self.days:
                continue
            begins = datetime.combine(day, datetime.min.time()) + opens
            night = Night(first_moment(begins, self.zone), first_moment(begins + length, self.zone))
            # A window inside an hour that the clocks skip is no night.
            if night.opens < night.closes and night.closes > now:
                yield night

    def __str__(self) -> str:
        days = "" if self.days == DAYS else f", {', '.join(self.days)}"
        return f"{self.opens} to {self.closes} {self.timezone}{days}"


@dataclass(frozen=True)
class Night:
    """One time of work, in UTC. `closes` is exclusive."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True)
class Hours:
    """When a run may work: in the window, where there is one, and before `until`, where that is given."""

    window: Window | None = None
    until: datetime | None = None  # UTC

    @property
    def zone(self) -> tzinfo | None:
        """What people's times are told in; None: the zone of this machine."""
        return self.window.zone if self.window else None

    def times(self, now: datetime) -> Iterator[tuple[datetime, datetime | None]]:
        """(opens, closes) of this and all later times of work; None: never. The first may have begun."""
        if self.window is None:
            if self.until is None or now < self.until:
                yield now, self.until
            return
        for night in self.window.nights(now):
            if self.until is not None and self.until <= max(night.opens, now):
                return
            yield night.opens, min(night.closes, self.until) if self.until else night.closes


def minutes_of(text: str) -> int | None:
    """Minutes since midnight of HH:MM, 00:00 to 24:00; None when it is something else."""
    hours, colon, minutes = text.partition(":")
    if not (colon and len(hours) in (1, 2) and len(minutes) == 2 and (hours + minutes).isascii()):
        return None
    if not (hours + minutes).isdigit():
        return None
    total = int(hours) * 60 + int(minutes)
    return total if int(minutes) < 60 and total <= 24 * 60 else None


def first_moment(wall: datetime, zone: tzinfo) -> datetime:
    """The first moment, in UTC, at which clocks in `zone` show the naive time `wall` or a later one.

    A time that comes twice counts the first time; one that is skipped counts when the clocks are put forward.
    """
    before = wall.replace(tzinfo=zone, fold=0)
    found = before.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall:
        return found
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)  # the offsets after and before the change
    late, offset = found, before.utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=int((late - early).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late


def moment(text: str, zone: tzinfo | None, now: datetime) -> datetime:
    """The moment, in UTC, that a user's `HH:MM`, date, or date and time means in `zone`.

    A time of day is the next one; a date is the midnight it begins with; an offset in the text wins.
    zone: None for that of this machine. Raises ValueError when it is none of these, or is over.
    """
    here = zone or now.astimezone().tzinfo
    minutes = minutes_of(text)
    if minutes is not None:
        today = now.astimezone(here).date()
        times = (_wall(today + timedelta(days=ahead), minutes, zone) for ahead in range(3))
        return next(time for time in times if time > now)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 07:00, 2026-11-23, '2026-11-23 07:00', or with an offset "
            "2026-11-23T07:00+01:00"
        ) from None
    found = parsed.astimezone(UTC) if parsed.tzinfo else _moment_here(parsed, zone)
    if found <= now:
        raise ValueError(f"{text!r} is over: it was {spoken(found, zone)}")
    return found


def spoken(when: datetime, zone: tzinfo | None) -> str:
    """A moment as people read it: `Mon 23 Nov 2026 07:00 CET`."""
    return f"{when.astimezone(zone):%a %d %b %Y %H:%M %Z}"


def _wall(day: date, minutes: int, zone: tzinfo | None) -> datetime:
    return _moment_here(datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes), zone)


def _moment_here(wall: datetime, zone: tzinfo | None) -> datetime:
    """As `first_moment`; in the machine's own zone, which Python knows only by its offsets, as it says."""
    return first_moment(wall, zone) if zone else wall.astimezone(UTC)


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
