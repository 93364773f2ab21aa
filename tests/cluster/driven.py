"""A run of the driver's loop on a fake pool in simulated time, and what it told its observer."""

from __future__ import annotations

from collections import deque

from fake_pool import FakePool, Fault

from cluster.account import Account, Attempted, Incident, Outcome, Tally
from cluster.display import QUIET
from cluster.driver import Driver
from cluster.queue import ConfigurationWork, WorkQueue
from jobs.compute.assignment import Assignment, Receipt

SHARD = 8


class Notebook:
    """An observer that remembers."""

    def __init__(self, left: list[range] | None = None) -> None:
        self.notes: list[str] = []
        self.incidents: list[Incident] = []
        self.attempts: list[Attempted] = []
        self.receipts: list[Receipt] = []
        self.aside: list[tuple[Assignment, int, str]] = []
        self.ticks = 0
        self._left = left or []

    def name(self, assignment: Assignment) -> str:
        return assignment.name

    def note(self, text: str) -> None:
        self.notes.append(text)

    def happened(self, incident: Incident) -> None:
        self.incidents.append(incident)
        if incident.kind not in QUIET:
            self.notes.append(incident.text)

    def attempted(self, attempt: Attempted) -> None:
        self.attempts.append(attempt)

    def tick(self, account: Account) -> None:
        self.ticks += 1

    def finished(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self.aside.append((assignment, attempts, error))

    def replan(self, assignment: Assignment) -> list[range]:
        return self._left


class Run:
    """A sweep of configurations a, b, ... with so many shards each, on a fake pool."""

    def __init__(self, pool: FakePool, shards: dict[str, int], left: list[range] | None = None) -> None:
        works = [
            ConfigurationWork(name, f"model {name}", 0, 1.0, deque(shard(i) for i in range(count)))
            for name, count in shards.items()
        ]
        self.shards = shards
        self.pool = pool
        self.notebook = Notebook(left)
        self.queue = WorkQueue("sweep", works)
        self.account = Account(
            {f"sweep/{name}": Tally(reduction(name), unfinished=n) for name, n in shards.items()}
        )
        self.driver = Driver(pool, self.queue, self.account, self.notebook, pool.clock)

    def __call__(self) -> Outcome:
        return self.driver.run()

    def done(self, kind: str = "sample") -> dict[str, list[int]]:
        """By configuration, the shards whose end was counted, sorted: each must be there once."""
        found: dict[str, list[int]] = {name: [] for name in self.shards}
        for receipt in self.notebook.receipts:
            if receipt.assignment.kind == kind:
                found[receipt.assignment.fingerprint].append(receipt.assignment.first // SHARD)
        return {name: sorted(numbers) for name, numbers in found.items()}

    @property
    def everything(self) -> dict[str, list[int]]:
        return {name: list(range(count)) for name, count in self.shards.items()}


def reduction(name: str) -> Assignment:
    return Assignment("reduce", "sweep", name, 0, 1000)


def shard(number: int) -> range:
    return range(number * SHARD, (number + 1) * SHARD)


def sample(name: str, number: int) -> Assignment:
    return Assignment("sample", "sweep", name, number * SHARD, (number + 1) * SHARD)


def first_attempts(**faults: Fault):
    """Faults by name of the configuration and number of the shard, as `a3`, at the first attempt."""

    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        key = f"{assignment.fingerprint}{assignment.first // SHARD}"
        return faults.get(key) if attempt == 0 and assignment.kind == "sample" else None

    return fault
