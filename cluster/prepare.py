"""From a sweep and what storage says is done to the work that is left.

Writes down what is to be run, sends weights, moves damaged files out of the way, plans the gaps. Linear in
the number of shards. It must not know workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from cluster.account import Account, Tally
from cluster.queue import ConfigurationWork, WorkQueue
from jobs.compute.assignment import Assignment
from jobs.fingerprint import canonical_json
from jobs.models.weights import send_weights
from jobs.paths import ConfigurationPaths, SweepPaths
from jobs.planning.plan import plan
from jobs.planning.sweep import Sweep
from jobs.references.reference import load_reference
from jobs.scores.results import Result
from jobs.specs.configuration import Configuration
from jobs.storage.ledger import ConfigurationLedger, clear_failures, mend, scan
from jobs.storage.snapshots import remove_finished
from jobs.store import Store, StoreError


class NotRunnableError(Exception):
    """The sweep cannot be run as it is; the message says what to do."""


@dataclass(frozen=True)
class Goal:
    """What a display must know of a configuration beforehand."""

    name: str
    samples: int
    done: int  # samples with images at the start
    shards: int  # done before and left now
    shards_done: int
    evaluations: int  # network evaluations of one sample

    @property
    def cost(self) -> float:
        """Of one sample, in evaluations; what takes none is not free."""
        return 1.0 + self.evaluations


@dataclass(frozen=True)
class Prepared:
    """The work of a run."""

    queue: WorkQueue
    account: Account
    goals: dict[str, Goal]  # by `Assignment.configuration`, in the order of the table

    @property
    def shards(self) -> int:
        """Left to be done."""
        return sum(tally.unfinished for tally in self.account.tallies.values())

    @property
    def idle(self) -> bool:
        """True when there is nothing to do: no shard, and every result is there."""
        return all(not tally.unfinished and not tally.reduction for tally in self.account.tallies.values())


def prepare(store: Store, sweep: Sweep, note: Callable[[str], None]) -> Prepared:
    """Ready the store for a run and say what is left. The caller holds the sweep's lease.

    Raises NotRunnableError when weights are missing, WrongWeightsError when they are not the planned ones.
    """
    configurations = write_down(store, sweep, note)
    works, tallies, goals = [], {}, {}
    references: dict[str, Assignment] = {}
    for configuration in configurations:
        paths = SweepPaths(sweep.name).configuration(configuration.fingerprint)
        ledger = mended_ledger(store, paths, configuration, note)
        shards = _shards_left(configuration, ledger)
        goal = goals[paths.root] = _goal(configuration, ledger, shards)
        works.append(_work(configuration, shards, goal.cost))
        tally = tallies[paths.root] = Tally(None, unfinished=len(shards))
        if shards or not scored(store, paths, configuration, ledger):
            tally.reduction = _assignment("reduce", sweep.name, configuration)
            built = canonical_json(configuration.model_dump(include={"extractors", "references"}))
            tally.reference = references.setdefault(
                built, _assignment("reference", sweep.name, configuration)
            )
    queue = WorkQueue(sweep.name, works)
    for reference in references.values():
        queue.add(reference)
    return Prepared(queue, Account(tallies), goals)


def shards_left_within(store: Store, sweep: str, configuration: Configuration, samples: range) -> list[range]:
    """The shards of a range that are left, as storage says now."""
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    ledger = scan(store, paths, extractor_keys(configuration))
    left = _shards_left(configuration, ledger)
    return [shard for shard in left if samples.start <= shard.start and shard.stop <= samples.stop]


def write_down(store: Store, sweep: Sweep, note: Callable[[str], None]) -> list[Configuration]:
    """Put all into the store that a run needs; returns the configurations, those of one experiment once.

    note: told of each large file of weights before it is sent.
    Raises NotRunnableError when weights are missing, WrongWeightsError when they are not the planned ones.
    """
    if sweep.missing:
        raise NotRunnableError("\n".join(sweep.missing))
    send_weights(store, sweep.files, note)
    paths = SweepPaths(sweep.name)
    configurations = list({item.fingerprint: item for item in sweep.configurations}.values())
    contents = {paths.written: sweep.written, paths.resolved: sweep.to_json()}
    for configuration in configurations:
        contents[paths.configuration(configuration.fingerprint).spec] = configuration.to_json()
    for name, text in contents.items():
        if store.size(name) != len(text.encode()) or store.get(name) != text.encode():
            store.put(name, text.encode())
    return configurations


def mended_ledger(
    store: Store, paths: ConfigurationPaths, configuration: Configuration, note: Callable[[str], None]
) -> ConfigurationLedger:
    """What is done of a configuration, after moving what is damaged out of the way."""
    keys = extractor_keys(configuration)
    ledger = scan(store, paths, keys)
    if ledger.failed:
        note(f"{configuration.name}: {len(ledger.failed)} shards that had failed are tried again")
        clear_failures(store, paths)
    if ledger.damaged:
        for line in mend(store, paths.root, ledger.damaged):
            note(f"{configuration.name}: {line}")
        ledger = scan(store, paths, keys)
    if ledger.snapshots:
        remove_finished(store, paths.snapshots, ledger.done)
    return ledger


def _shards_left(configuration: Configuration, ledger: ConfigurationLedger) -> list[range]:
    """Ranges without images, and ranges with images that lack features, ascending."""
    bare = ledger.without_features.before(configuration.samples)
    return sorted(plan(configuration, ledger.done) + bare.ranges, key=lambda samples: samples.start)


def _work(configuration: Configuration, shards: list[range], cost: float) -> ConfigurationWork:
    return ConfigurationWork(
        fingerprint=configuration.fingerprint,
        model=canonical_json(configuration.model.identity),
        priority=configuration.priority,
        cost=cost,
        pending=deque(shards),
    )


def _goal(configuration: Configuration, ledger: ConfigurationLedger, shards: list[range]) -> Goal:
    from sdesampling.samplers import planned_evaluations  # imports torch, which takes seconds

    there, bare = (
        len(markers.before(configuration.samples)) for markers in (ledger.images, ledger.without_features)
    )
    return Goal(
        name=configuration.name,
        samples=configuration.samples,
        done=min(ledger.count, configuration.samples),
        shards=there - bare + len(shards),
        shards_done=there - bare,
        evaluations=planned_evaluations(**configuration.sampler.model_dump()),
    )


def extractor_keys(configuration: Configuration) -> list[str]:
    """Folders of the features that a configuration asks for."""
    return [extractor.key for extractor in configuration.extractors]


def _assignment(kind: Literal["reference", "reduce"], sweep: str, configuration: Configuration) -> Assignment:
    return Assignment(kind, sweep, configuration.fingerprint, 0, configuration.samples)


def scored(
    store: Store, paths: ConfigurationPaths, configuration: Configuration, ledger: ConfigurationLedger
) -> bool:
    """Whether every result is there, made from the images and references that are there now."""
    images = ledger.images.before(configuration.samples).digest
    for extractor, key in zip(configuration.extractors, extractor_keys(configuration), strict=True):
        for data_set in configuration.references:
            try:
                result = Result.model_validate_json(store.get(paths.result(key, data_set.name)))
                reference = load_reference(store, data_set, extractor)
            except (FileNotFoundError, ValidationError, StoreError):  # of another version, or damaged
                return False
            asked = all(result.final.value(metric) is not None for metric in configuration.metrics)
            if "fid" in configuration.metrics and (fid := result.final.fid):
                asked &= configuration.standard_error in fid.standard_error_method
            made = (result.samples, result.images, result.reference.content)
            if not asked or made != (configuration.samples, images, reference.content):
                return False
    return True
