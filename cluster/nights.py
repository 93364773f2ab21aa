"""Working at certain hours: why a run must end now, when the next one may begin, waiting for it.

The hours are those of the sweep's window and of `--until`. A drain begins early enough that every worker is
released before they end. It must not know what is being run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

from cluster.account import Outcome
from cluster.display import duration
from cluster.driver import DRAIN_GRACE
from jobs.specs.window import Hours, spoken

RELEASE = 15.0  # seconds for ending workers and leaving Ray, after the drain
LEAD = timedelta(seconds=DRAIN_GRACE + RELEASE)  # between the begin of the drain and the end of the hours
NAP = 20.0  # seconds between looks at the clock while waiting: machines sleep, clocks are set


def now() -> datetime:
    return datetime.now(UTC)


class Nights:
    """The hours of work as the clock stands."""

    def __init__(self, hours: Hours, clock: Callable[[], datetime] = now) -> None:
        self.hours = hours
        self._clock = clock

    def closing(self) -> str:
        """Why no work may be done now; empty while it may."""
        moment = self._clock()
        for opens, closes in self.hours.times(moment):
            if moment < opens:
                return f"outside the window {self.hours.window}, which opens {self.spoken(opens)}"
            if closes is None or moment < closes - LEAD:
                return ""
            by = "--until" if closes == self.hours.until else f"the window {self.hours.window}"
            return f"work ends {self.spoken(closes)}, by {by}"
        return "the time given by --until is over"

    def next_opening(self) -> datetime | None:
        """When work may begin or go on, in UTC: now, later, or never (None)."""
        moment = self._clock()
        for opens, closes in self.hours.times(moment):
            begins = max(opens, moment)
            if closes is None or begins < closes - LEAD:
                return begins
        return None

    def wait(self, opens: datetime, sleep: Callable[[float], None] = time.sleep) -> None:
        """Sleep until a moment, by the clock on the wall."""
        while (left := (opens - self._clock()).total_seconds()) > 0:
            sleep(min(left, NAP))

    def spoken(self, moment: datetime) -> str:
        """A moment as people read it, in the time zone of the window."""
        return spoken(moment, self.hours.zone)

    def left(self, moment: datetime) -> str:
        """How long it is until then, as people say it."""
        return duration((moment - self._clock()).total_seconds())


class JointNights:
    """The hours of several sweeps, each its own."""

    def __init__(self, nights: Mapping[str, Nights]) -> None:
        """nights: by the sweep's name."""
        self._nights = nights

    def shut(self) -> dict[str, str]:
        """Sweeps that may not be worked on now, and why."""
        return {sweep: reason for sweep, nights in self._nights.items() if (reason := nights.closing())}

    def next_opening(self, sweeps: Collection[str]) -> tuple[datetime, Nights] | None:
        """When work may begin or go on at the first of these sweeps, and its hours; None: never."""
        found = [
            (opens, nights)
            for sweep, nights in self._nights.items()
            if sweep in sweeps and (opens := nights.next_opening()) is not None
        ]
        return min(found, key=lambda each: each[0], default=None)


def run_nights(
    run: Callable[[], Outcome],
    nights: JointNights,
    note: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Run in every time of work until all is done, it fails, or no time of work is left; sleep between them.

    run: one attempt; its outcome is `closed` when the hours ended it, or had not begun.
    """
    while True:
        outcome = run()
        found = nights.next_opening(outcome.waiting)
        if outcome.complete or not outcome.closed or found is None:
            return outcome
        opens, first = found
        note(f"{outcome.reason}; waiting {first.left(opens)}, until {first.spoken(opens)}")
        try:
            first.wait(opens, sleep)
        except KeyboardInterrupt:
            return Outcome(complete=False, reason="stopped while waiting for the window")
