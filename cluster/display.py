"""How a run looks while it runs: a live table on a terminal, plain lines elsewhere, or nothing.

A display is told of the goals, of every change, and of notes that should stay in sight. It must not know
where the account that it reads comes from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import IO, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.account import Account, counted
from cluster.prepare import Goal
from cluster.progress import Meter, Reading

PLAIN_INTERVAL = 10.0  # seconds between plain lines
REFRESH = 0.5  # seconds between looks at the account, at least
MAX_ROWS = 16  # configurations in the live table
#: Kinds of events that are for logs, not for a screen.
QUIET = frozenset({"began", "joined", "node_joined", "scored", "ended"})
NOTHING: Mapping[str, object] = MappingProxyType({})


class Display(Protocol):
    """What a run tells."""

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        """Show a line or a few that stay. about: what a log says beside the text, as the kind of event."""

    def begin(self, goals: Mapping[str, Goal]) -> None:
        """The work is planned; ticks follow."""

    def tick(self, account: Account) -> None:
        """The account may have changed."""


class Silence:
    """Shows nothing."""

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        pass

    def begin(self, goals: Mapping[str, Goal]) -> None:
        pass

    def tick(self, account: Account) -> None:
        pass


class PlainLines:
    """A line every ten seconds."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._meter = Meter({}, clock)
        self._shown_at = self._read_at = clock()

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        if about.get("kind") not in QUIET:
            self._write(f"{datetime.now():%H:%M:%S} {text}")

    def begin(self, goals: Mapping[str, Goal]) -> None:
        self._meter = Meter(goals, self._clock)
        self._shown_at = self._read_at = self._clock()

    def tick(self, account: Account) -> None:
        now = self._clock()
        if now - self._read_at < REFRESH:
            return
        self._read_at = now
        total, unfinished = self._meter.read(account)
        if now - self._shown_at < PLAIN_INTERVAL:
            return
        self._shown_at = now
        at_work = [f"{r.name} {r.shards_done}/{r.shards}" for r in unfinished if r.workers]
        more = f" and {len(at_work) - 4} more" if len(at_work) > 4 else ""
        busy = f"; at work: {', '.join(at_work[:4])}{more}" if at_work else ""
        self.note(f"{summary(total, len(account.workers))}{busy}")


class LiveTable:
    """A table that is drawn anew; notes scroll by above it. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._meter = Meter({})
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._read_at = 0.0

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        if about.get("kind") not in QUIET:
            self._live.console.print(Text(text), highlight=False)

    def begin(self, goals: Mapping[str, Goal]) -> None:
        self._meter = Meter(goals)

    def tick(self, account: Account) -> None:
        now = time.monotonic()
        if now - self._read_at < REFRESH:
            return
        self._read_at = now
        total, unfinished = self._meter.read(account)
        shown = sorted(unfinished, key=lambda reading: not reading.workers)[:MAX_ROWS]
        title = summary(total, len(account.workers))
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for header in ("configuration", "shards", "images", "images/s", "evaluations/s", "left"):
            table.add_column(header, justify="left" if header == "configuration" else "right")
        for reading in shown:
            name, *numbers = _row(reading)
            table.add_row(Text(name), *numbers)
        if len(unfinished) > len(shown):
            table.add_row(f"... {len(unfinished) - len(shown)} more")
        self._live.update(table, refresh=True)


class Several:
    """Tells several displays the same."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        for display in self._displays:
            display.note(text, about)

    def begin(self, goals: Mapping[str, Goal]) -> None:
        for display in self._displays:
            display.begin(goals)

    def tick(self, account: Account) -> None:
        for display in self._displays:
            display.tick(account)


@contextmanager
def open_display(console: Console, *, quiet: bool) -> Iterator[Display]:
    """The display that fits: silent if `quiet`, live on a terminal, else plain lines."""
    if quiet:
        yield Silence()
    elif console.is_terminal:
        with LiveTable(console) as live:
            yield live
    else:
        yield PlainLines(printing(console.file))


def printing(file: IO[str]) -> Callable[[str], None]:
    """Print lines at once."""

    def write(line: str) -> None:
        try:
            print(line, file=file, flush=True)
        except OSError:
            return  # nobody reads them any more, or their disk is full: a run goes on without being watched

    return write


def summary(total: Reading, workers: int) -> str:
    """One line for the whole run."""
    failed = f", {total.shards_failed} failed" if total.shards_failed else ""
    left = f", about {duration(total.seconds_left)} left" if total.seconds_left is not None else ""
    return (
        f"{total.shards_done:,}/{total.shards:,} shards{failed}, {total.images:,}/{total.samples:,} images, "
        f"{number(total.images_per_second)} images/s, {number(total.evaluations_per_second)} evaluations/s, "
        f"{counted(workers, 'worker')}{left}"
    )


def _row(reading: Reading) -> tuple[str, ...]:
    failed = f" ({reading.shards_failed} failed)" if reading.shards_failed else ""
    rates = ("", "", "")
    if reading.workers:
        left = duration(reading.seconds_left) if reading.seconds_left is not None else ""
        rates = (number(reading.images_per_second), number(reading.evaluations_per_second), left)
    shards = f"{reading.shards_done:,}/{reading.shards:,}{failed}"
    return reading.name, shards, f"{reading.images:,}/{reading.samples:,}", *rates


def number(value: float) -> str:
    """Three digits that matter: 0.123, 4.56, 78.9, 12,345."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min, 2 h 05 min, 3 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
