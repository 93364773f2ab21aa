"""A clock on the wall for tests of hours and nights."""

from __future__ import annotations

from datetime import datetime, timedelta


class Clock:
    """A wall clock that sleeping moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.naps: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += timedelta(seconds=seconds)
