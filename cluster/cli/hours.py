"""The options that say when a command may work, and what they mean for the sweeps it works on.

A module of its own because every command that begins work takes them. It must not begin any.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.common import RequestError

if TYPE_CHECKING:
    from cluster.nights import Nights
    from jobs.planning.sweep import Sweep

until_option = click.option(
    "--until",
    metavar="TIME",
    help="Work only until then: 07:00, 2026-11-23 or '2026-11-23 07:00', in the time zone of the spec's "
    "window, else of this machine.",
)
ignore_window_option = click.option(
    "--ignore-window", is_flag=True, help="Work at any hour, whatever the spec's window says."
)


@dataclass(frozen=True)
class When:
    """When a command may work, as its options say."""

    until: str | None = None
    ignore_window: bool = False
    wait: bool = False
    batch: bool = False


def with_hours(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say when it may work; it takes them as `when`."""

    @until_option
    @ignore_window_option
    @click.option("--wait", is_flag=True, help="When the hours of work are over, sleep until the next begin.")
    @click.option(
        "--batch",
        is_flag=True,
        help="For schedulers that retry what fails: exit with 0, not 75, when the hours of work are over; "
        "the run record says `incomplete`. Always so in a Ray job.",
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any, until: str | None, ignore_window: bool, wait: bool, batch: bool, **keywords: Any
    ) -> None:
        from jobs.storage.runrecord import RAY_JOB

        in_ray_job = RAY_JOB in os.environ
        function(*args, when=When(until, ignore_window, wait, batch or in_ray_job), **keywords)

    return wrapper


def nights_of(sweeps: Sequence[Sweep], when: When) -> dict[str, Nights]:
    """The hours in which each of some sweeps may be worked on, by its name.

    A time of day given by --until is one of the first sweep's time zone, for all of them.
    Raises RequestError for an --until that is no time.
    """
    from cluster.nights import Nights, now
    from jobs.specs.window import Hours, moment

    windows = {sweep.name: None if when.ignore_window else sweep.window for sweep in sweeps}
    first = windows[sweeps[0].name]
    try:
        until = moment(when.until, first.zone if first else None, now()) if when.until else None
    except ValueError as error:
        raise RequestError(f"--until {error}") from None
    return {name: Nights(Hours(window, until)) for name, window in windows.items()}
