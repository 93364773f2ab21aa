"""Logs as JSON, a line an event: for machines that gather the logs of many runs.

Every line has `time`, `level`, `sweep`, `configuration`, `shard`, `event` and `message`; those that do not
concern a configuration or a shard have null there. It must not know where what it writes comes from.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from cluster.account import Account
from cluster.display import NOTHING, PLAIN_INTERVAL, summary
from cluster.prepare import Goal
from cluster.progress import Meter

WARNINGS = frozenset({"lost", "node_lost", "failed", "storage", "set_aside", "absent"})


class JsonLines(logging.Handler):
    """A `Display` that writes JSON lines, and a handler for the logs of libraries."""

    def __init__(
        self, write: Callable[[str], None], sweep: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """sweep: of the command, for what is said of none in particular."""
        super().__init__()
        self._write = write
        self._sweep = sweep
        self._clock = clock
        self._meter = Meter({}, clock)
        self._shown_at = clock()

    def note(self, text: str, about: Mapping[str, object] = NOTHING) -> None:
        kind = about.get("kind", "note")
        level = "warning" if kind in WARNINGS else "info"
        more = {key: value for key, value in about.items() if key != "kind"}
        self._line(level, str(kind), text, more)

    def begin(self, goals: Mapping[str, Goal]) -> None:
        self._meter = Meter(goals, self._clock)
        self._shown_at = self._clock()

    def tick(self, account: Account) -> None:
        if self._clock() - self._shown_at < PLAIN_INTERVAL:
            return
        self._shown_at = self._clock()
        total, _ = self._meter.read(account)
        numbers = {
            "shards_done": total.shards_done,
            "shards": total.shards,
            "shards_failed": total.shards_failed,
            "images": total.images,
            "samples": total.samples,
            "images_per_second": total.images_per_second,
            "evaluations_per_second": total.evaluations_per_second,
            "seconds_left": total.seconds_left,
            "workers": len(account.workers),
        }
        self._line("info", "progress", summary(total, len(account.workers)), numbers)

    def emit(self, record: logging.LogRecord) -> None:
        more = {"logger": record.name}
        if record.exc_info:
            more["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._line(record.levelname.lower(), "log", record.getMessage(), more)

    def __enter__(self) -> JsonLines:
        """Take over the logs of libraries."""
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)

    def _line(self, level: str, event: str, message: str, more: Mapping[str, object]) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "sweep": self._sweep,
            "configuration": None,
            "shard": None,
            "event": event,
            "message": message,
        }
        self._write(json.dumps(line | dict(more), default=str))
