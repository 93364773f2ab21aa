"""How long the work that is left will take, and how many nights: from a rate, measured or given.

A rate is in network evaluations times images a second, of all workers together, an image counting as one
more: the same unit as in displays. It must not decide anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from cluster.display import duration
from cluster.nights import LEAD, Nights
from jobs.specs.window import Hours
from jobs.storage.runrecord import RunRecord

STARTUP = timedelta(seconds=60)  # of each night, until workers are at work
MAX_NIGHTS = 10_000


@dataclass(frozen=True)
class Forecast:
    """When the work will be done at a rate, if it goes on in every night."""

    rate: float  # a second
    measured: bool  # in the last run, not given
    seconds: float  # of work
    nights: int | None  # None: there is no window, or it would take more than MAX_NIGHTS
    done: datetime | None  # UTC; None: not before `until`, or not within MAX_NIGHTS


def measured_rate(records: Sequence[RunRecord]) -> float | None:
    """Of the last run that made images; None where none did."""
    for record in reversed(records):
        began, last = datetime.fromisoformat(record.started), datetime.fromisoformat(record.updated)
        seconds = (last - began).total_seconds()
        if record.images and seconds > 0:
            return (record.images + record.evaluations) / seconds
    return None


def forecast(work: float, rate: float, measured: bool, hours: Hours, now: datetime) -> Forecast:
    """work: what is left, in the unit of the rate. Every night loses the time of its begin and its drain."""
    seconds = work / rate
    if seconds > MAX_NIGHTS * 24 * 3600:
        return Forecast(rate, measured, seconds, None, None)
    left = timedelta(seconds=seconds)
    for number, (opens, closes) in enumerate(hours.times(now), start=1):
        begins = max(opens, now) + STARTUP
        usable = left if closes is None else max(timedelta(0), closes - LEAD - begins)
        if left <= usable:
            nights = number if hours.window else None
            return Forecast(rate, measured, seconds, nights, begins + left)
        left -= usable
        if number == MAX_NIGHTS:
            break
    return Forecast(rate, measured, seconds, None, None)


@dataclass(frozen=True)
class Expected:
    """What `plan` says of time, in both forms."""

    nights: Nights
    forecast: Forecast | None

    def to_json(self) -> dict[str, Any]:
        """The window, when the next hours of work begin, and the forecast; None where there is none."""
        window = self.nights.hours.window
        return {
            "window": window.model_dump(mode="json") if window else None,
            "next_opening": self.nights.next_opening(),
            "forecast": asdict(self.forecast) if self.forecast else None,
        }

    def sentences(self) -> Iterator[str]:
        """Lines for people."""
        hours, opens = self.nights.hours, self.nights.next_opening()
        if hours.window or hours.until:
            window = f"window {hours.window}" if hours.window else "--until"
            if opens is None:
                yield f"{window}: no hours of work are left"
            elif self.nights.closing():
                yield f"{window}: opens {self.nights.spoken(opens)}, in {self.nights.left(opens)}"
            else:
                yield f"{window}: open now"
        found = self.forecast
        if found is None:
            return
        nights = f", {found.nights:,} {'night' if found.nights == 1 else 'nights'}" if found.nights else ""
        done = f", done about {self.nights.spoken(found.done)}" if found.done else "; not done in these hours"
        how = "as in the last run" if found.measured else "as given"
        yield (
            f"at {found.rate:,.4g} network evaluations a second ({how}): "
            f"{duration(found.seconds)} of work{nights}{done}"
        )
