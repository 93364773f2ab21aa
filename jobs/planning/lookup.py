"""What people call things in a store: `SWEEP/FINGERPRINT`, as much of the fingerprint as is needed.

Apart from the commands because several take such names. It must not read images or features.
"""

from __future__ import annotations

from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.specs.configuration import Configuration
from jobs.store import Store


class NotFoundError(LookupError):
    """The store has nothing of that name, or several things; the message lists what there is."""


def find_sweep(store: Store, name: str) -> Sweep:
    """A sweep from the store's own record of it. Raises NotFoundError."""
    record = SweepPaths(name).resolved
    try:
        return Sweep.from_json(store.get(record))
    except FileNotFoundError:
        raise NotFoundError(
            f"no sweep {name!r} in the store {store.url}; `sdesweep run SPEC --store DIR` begins one"
        ) from None
    except ValueError:  # of pydantic, which lists every key
        raise NotFoundError(
            f"{record} is no record of a sweep that this version knows: `sdesweep run SPEC` writes it anew"
        ) from None


def find_configurations(store: Store, text: str) -> list[Configuration]:
    """What `SWEEP` or `SWEEP/PREFIX` names, each fingerprint once. Raises NotFoundError."""
    name, _, prefix = text.partition("/")
    sweep = find_sweep(store, name)
    configurations = {found.fingerprint: found for found in sweep.configurations}
    matching = [found for mark, found in configurations.items() if mark.startswith(prefix)]
    if not matching:
        raise NotFoundError(
            f"no configuration {text}; there are {_listed(name, list(configurations.values()))}"
        )
    return matching


def find_configuration(store: Store, text: str) -> Configuration:
    """The one configuration that `SWEEP/PREFIX` names. Raises NotFoundError when there are several."""
    matching = find_configurations(store, text)
    if len(matching) > 1:
        listed = _listed(text.partition("/")[0], matching)
        raise NotFoundError(f"{text} is {len(matching)} configurations; take one of {listed}")
    return matching[0]


def _listed(sweep: str, configurations: list[Configuration]) -> str:
    shown = [f"{sweep}/{found.fingerprint[:8]} ({found.name})" for found in configurations[:20]]
    more = f" and {len(configurations) - 20} more" if len(configurations) > 20 else ""
    return ", ".join(shown) + more
