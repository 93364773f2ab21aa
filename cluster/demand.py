"""What workers need of machines, and where that fits: numbers only, the same before a run and in it.

The rules are Ray's: a worker lives on one machine, which must have all that it takes and match a label
selector. It must not know how machines are found, nor import Ray.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.specs.sections import Resources

GIB = 2**30
UNDECIDED = (
    "no machine is there yet to decide `resources.gpus: auto` by: write into the spec how many GPUs "
    "each worker takes"
)
_IN = re.compile(r"in\((.*)\)")


@dataclass(frozen=True)
class Machine:
    """A machine of a cluster: all that it has, taken or not."""

    resources: Mapping[str, float]  # CPU, GPU, memory (bytes)
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Demand:
    """What each worker takes, and how many there are to be."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0  # bytes; 0: not reserved
    selectors: tuple[Mapping[str, str], ...] = ()  # of labels, the best first; none: any machine will do
    least: int | None = None  # waited for where there is no room; None: one, if there is room for it
    most: int | None = None  # asked for whatever room there is; None: as many as there is room for

    @staticmethod
    def of(resources: Resources, workers: int | None = None) -> Demand:
        """From a spec; `workers` replaces its number of them."""
        return Demand(
            cpus=resources.cpus,
            gpus=resources.gpus or 0.0,
            memory=round((resources.memory or 0) * GIB),
            selectors=resources.labels,
            least=workers or resources.workers.min,
            most=workers or resources.workers.max,
        )

    @property
    def needs(self) -> dict[str, float]:
        """By Ray's names of resources, without what is not needed."""
        needs = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {name: amount for name, amount in needs.items() if amount}

    def room_on(self, machine: Machine) -> int:
        """Workers that fit on a machine which does nothing else."""
        if self.selectors and not any(matches(machine.labels, each) for each in self.selectors):
            return 0
        # Ray counts in ten-thousandths, which floats do not divide exactly.
        rooms = (
            math.floor(machine.resources.get(name, 0.0) / amount + 1e-9)
            for name, amount in self.needs.items()
        )
        return min(rooms, default=1)

    def room(self, machines: Iterable[Machine]) -> int:
        """Workers that fit on all machines."""
        return sum(map(self.room_on, machines))

    def preferred(self, machines: Iterable[Machine]) -> Machine | None:
        """A machine that workers would live on first, by GPUs and then by selectors; None when none can."""

        def rank(machine: Machine) -> tuple[bool, int]:
            choices = (number for number, each in enumerate(self.selectors) if matches(machine.labels, each))
            return not machine.resources.get("GPU"), next(choices, 0)

        return min((each for each in machines if self.room_on(each)), key=rank, default=None)

    def wanted(self, room: int, work: int) -> int:
        """Workers to ask for, where so many fit and so many have something to do."""
        return min(work, self.most or max(self.least or 1, room))

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs"]
        if self.gpus:
            parts.append(f"{self.gpus:g} GPUs")
        if self.memory:
            parts.append(f"{self.memory / GIB:g} GiB of memory")
        if self.selectors:
            parts.append("the labels " + " or ".join(map(_selector_text, self.selectors)))
        return ", ".join(parts)


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether labels satisfy every condition of a selector; a negated one holds where the label is absent."""
    return all(_holds(labels.get(key), condition) for key, condition in selector.items())


def _holds(value: str | None, condition: str) -> bool:
    positive = condition.removeprefix("!")
    found = _IN.fullmatch(positive)
    wanted = [each.strip() for each in found[1].split(",")] if found else [positive]
    return (value in wanted) is (positive == condition)


def describe_machines(machines: Iterable[Machine]) -> str:
    """What the machines have, alike ones together: `2 with 8 CPUs, 1 GPUs`."""
    counts: dict[str, int] = {}
    for machine in machines:
        text = ", ".join(
            [f"{machine.resources.get('CPU', 0):g} CPUs", f"{machine.resources.get('GPU', 0):g} GPUs"]
            + [f"{machine.resources.get('memory', 0) / GIB:.1f} GiB"]
            + [f"{key}={value}" for key, value in sorted(machine.labels.items()) if _worth_saying(key)]
        )
        counts[text] = counts.get(text, 0) + 1
    return "; ".join(f"{count} with {text}" for text, count in counts.items()) or "no machine"


def _worth_saying(label: str) -> bool:
    """Labels by which users choose machines; Ray gives every node an id beside."""
    return label not in ("ray.io/node-id", "ray.io/node-group")


def _selector_text(selector: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {condition}" for key, condition in selector.items()) + "}"
