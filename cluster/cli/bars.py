"""Progress of work in this process: a bar on a terminal, a line now and then elsewhere, on standard error.

Apart from the display of runs because there is no account to read: the work says how far it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

INTERVAL = 10.0  # seconds between plain lines


@contextmanager
def bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """While the block lasts: a function that is told how many more of `total` are done.

    what: is done, for example `features of cifar10-train`.
    """
    if quiet or total == 0:
        yield lambda more: None
    elif sys.stderr.isatty():
        with _rich_bar(what, total) as advance:
            yield advance
    else:
        yield _Lines(what, total).advance


@contextmanager
def _rich_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(escape(what), total=total)
        yield lambda more: progress.advance(task, more)


@contextmanager
def byte_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """While the block lasts: a function that is told how many bytes are done, and of how many where known."""
    if quiet:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        yield _ByteLines(what).tell
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(escape(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _ByteLines:
    """A line every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what, self._shown = what, time.monotonic()

    def tell(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._shown >= INTERVAL:
            self._shown = time.monotonic()
            whole = "" if total is None else f" of {total / 1e6:,.0f}"
            click.echo(f"{self._what}: {done / 1e6:,.0f}{whole} MB", err=True)


class _Lines:
    """A line every ten seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._shown = time.monotonic()

    def advance(self, more: int) -> None:
        self._done = min(self._done + more, self._total)  # the last batch may be shorter than it is told
        now = time.monotonic()
        if now - self._shown < INTERVAL:
            return
        self._shown = now
        left = (now - self._began) / self._done * (self._total - self._done)
        click.echo(
            f"{self._what}: {self._done:,} of {self._total:,}, about {left / 60:.0f} min left", err=True
        )
