"""Sweeps that a command line names, one or several to be served by the same workers.

What several must agree on is checked here, before anything begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.cli.common import RequestError, expand_spec, load_sweep

if TYPE_CHECKING:
    from jobs.planning.sweep import Sweep
    from jobs.store import Store


def expand_specs(sources: Sequence[str], settings: tuple[str, ...], store: str | None = None) -> list[Sweep]:
    """The sweeps of specs, the highest priority first, else as they are named.

    Raises SpecError, and RequestError when they cannot be run together.
    """
    sweeps = [expand_spec(source, settings, store) for source in sources]
    agree(sweeps)
    if len({sweep.store for sweep in sweeps}) > 1:
        raise RequestError("sweeps that run together need one store: give --store")
    return sorted(sweeps, key=lambda sweep: -max(item.priority for item in sweep.configurations))


def load_sweeps(store: Store, names: Sequence[str]) -> list[Sweep]:
    """Sweeps, or all of a queue, from the store's own record. Raises RequestError for what is not there."""
    from jobs.storage.queue_state import read_queue

    if len(names) == 1 and (queue := read_queue(store, names[0])) is not None:
        names = queue.sweeps
    sweeps = [load_sweep(store, name) for name in names]
    agree(sweeps)
    return sweeps


def agree(sweeps: Sequence[Sweep]) -> None:
    """Raise RequestError unless these sweeps can be served by the same workers."""
    names = [sweep.name for sweep in sweeps]
    if len(set(names)) < len(names):
        raise RequestError(f"two specs have one name, and it is that of their folder: {', '.join(names)}")
    first = sweeps[0].resources
    for sweep in sweeps[1:]:
        for key in type(first).model_fields:
            if key != "micro_batch" and getattr(sweep.resources, key) != getattr(first, key):
                raise RequestError(
                    f"sweeps that run together share their workers, and resources.{key} differs between "
                    f"{names[0]} and {sweep.name}: make it the same (--set does), or run them apart"
                )
