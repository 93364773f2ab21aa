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
    from jobs.sweep import Sweep

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
        in_ray_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        function(*args, when=When(until, ignore_window, wait, batch or in_ray_job), **keywords)

    return wrapper


def nights_of(sweeps: Sequence[Sweep], when: When) -> Nights:
    """The hours in which some sweeps may be worked on together.

    Raises RequestError for an --until that is no time, and for windows that differ.
    """
    from cluster.nights import Nights, now
    from jobs.window import Hours, moment

    windows = {sweep.name: None if when.ignore_window else sweep.window for sweep in sweeps}
    if len(set(windows.values())) > 1:
        listed = "; ".join(f"{name}: {window or 'none'}" for name, window in windows.items())
        raise RequestError(
            f"sweeps that run together need one window, and these differ ({listed}): "
            "make them the same, run them apart, or give --ignore-window"
        )
    window = next(iter(windows.values()))
    try:
        until = moment(when.until, window.zone if window else None, now()) if when.until else None
    except ValueError as error:
        raise RequestError(f"--until {error}") from None
    return Nights(Hours(window, until))
