"""`sdesweep queue`: the order of sweeps that are run together, changed while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from cluster.cli.common import RequestError, command, emit, open_store, store_option

if TYPE_CHECKING:
    from jobs.storage.queue_state import QueueState
    from jobs.store import Store


@click.group()
def queue() -> None:
    """Show, reorder and pause the sweeps of a queue; a driver at work on it sees that within seconds.

    What is being computed goes on to its end: a pause only begins nothing new. To give the workers back, stop
    the run.
    """


@queue.command()
@click.argument("name", required=False)
@store_option
@command
def show(name: str | None, store: str, as_json: bool) -> None:
    """Show the queue NAME, or all queues of the store.

    \b
    Example:
      sdesweep queue show --store runs
    """
    from jobs.storage.queue_state import queue_names

    opened = open_store(store)
    found = [_read(opened, each) for each in ([name] if name else queue_names(opened))]
    if as_json:
        emit({"queues": [each.model_dump(mode="json") for each in found]})
        return
    for each in found:
        _print(each)
    if not found:
        click.echo(f"no queue in {opened.url}")


@queue.command()
@click.argument("name")
@click.argument("sweeps", nargs=-1, required=True)
@store_option
@command
def first(name: str, sweeps: tuple[str, ...], store: str, as_json: bool) -> None:
    """Serve SWEEPS before the others of the queue NAME, in the order given.

    \b
    Example:
      sdesweep queue first night urgent --store runs
    """
    _change(store, name, lambda state: state.first(sweeps), as_json)


@queue.command()
@click.argument("name")
@click.argument("sweeps", nargs=-1)
@store_option
@command
def pause(name: str, sweeps: tuple[str, ...], store: str, as_json: bool) -> None:
    """Begin nothing new of SWEEPS, or of the whole queue NAME.

    \b
    Example:
      sdesweep queue pause night large --store runs
    """
    _change(store, name, lambda state: state.pause(sweeps), as_json)


@queue.command("continue")
@click.argument("name")
@click.argument("sweeps", nargs=-1)
@store_option
@command
def unpause(name: str, sweeps: tuple[str, ...], store: str, as_json: bool) -> None:
    """Serve SWEEPS again, or all of the queue NAME.

    \b
    Example:
      sdesweep queue continue night --store runs
    """
    _change(store, name, lambda state: state.unpause(sweeps), as_json)


def _change(store: str, name: str, change: Callable[[QueueState], QueueState], as_json: bool) -> None:
    from jobs.storage.queue_state import UnknownSweepError, write_queue

    opened = open_store(store)
    try:
        state = change(_read(opened, name))
    except UnknownSweepError as error:
        raise RequestError(str(error)) from None
    write_queue(opened, state)
    if as_json:
        emit(state.model_dump(mode="json"))
    else:
        _print(state)


def _read(store: Store, name: str) -> QueueState:
    from jobs.storage.queue_state import queue_names, read_queue

    state = read_queue(store, name)
    if state is None:
        known: Sequence[str] = queue_names(store)
        raise RequestError(f"no queue {name!r} in {store.url}; there are: {', '.join(known) or 'none'}")
    return state


def _print(state: QueueState) -> None:
    click.echo(f"{state.name}:")
    for place, sweep in enumerate(state.sweeps, 1):
        click.echo(f"  {place}. {sweep}{' (paused)' if sweep in state.paused else ''}")
