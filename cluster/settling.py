"""What a spec leaves open is decided before its first run, by the machines that are there then.

The sweep's own record in the store wins over today's machines: a sweep that is run again goes on as it began.
It must not know how workers are started.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.models.catalog import extractor_entry
from jobs.models.plugins import require_networks
from jobs.models.weights import weights_of
from jobs.paths import SweepPaths
from jobs.planning.hardware import Hardware
from jobs.planning.submission import settle
from jobs.planning.sweep import Sweep
from jobs.store import Store


def settled(store: Store, sweep: Sweep, ask: Callable[[], Hardware], note: Callable[[str], None]) -> Sweep:
    """The sweep with every `auto` decided that a result could depend on.

    ask: what the machines are like that will do the work. It is not called where the store or the sweep has
        it on record.
    note: told what was decided where it is no default.
    """
    hardware = sweep.hardware or recorded_hardware(store, sweep.name)
    if hardware is None:
        hardware = ask()
    found = settled_by(store, sweep, hardware)
    for text in sorted({each.arithmetic for each in found.configurations} - {"float32"}):
        note(f"precision: {text}")
    if found.resources.gpus and sweep.resources.gpus is None:
        note(f"one GPU for each worker: {hardware.gpu or 'as the cluster counts them, without CUDA'}")
    return found


def require_code(sweep: Sweep) -> None:
    """Raise UnresolvedError where this machine lacks the code of a network or an extractor of the sweep."""
    for configuration in sweep.configurations:
        require_networks(configuration.model.plugins)
        for extractor in configuration.extractors:
            extractor_entry(extractor.name)


def settled_by(store: Store, sweep: Sweep, hardware: Hardware) -> Sweep:
    """`submission.settle`, with weights from the store where this machine does not have them."""
    with weights_of(store) as stored:

        def find(digest: str) -> Path:
            path = Path(sweep.files.get(digest, ""))
            return path if path.is_file() else stored(digest)

        return settle(sweep, hardware, find)


def recorded_hardware(store: Store, name: str) -> Hardware | None:
    """By which an earlier run of the sweep decided; None where there is no record of it that can be read."""
    try:
        return Sweep.from_json(store.get(SweepPaths(name).resolved)).hardware
    except (FileNotFoundError, ValueError):  # ValueError: of another version, which this run writes anew
        return None
