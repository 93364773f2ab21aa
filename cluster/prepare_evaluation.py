"""From a sweep and a request to the features and scores that are left to be made of its images.

Apart from the preparation of a run because nothing here plans an image: what has none is said, and left out.
It must not know workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster.account import Account, Tally
from cluster.prepare import Goal, Prepared, extractor_keys, mended_ledger, scored
from cluster.queue import ConfigurationWork, WorkQueue
from jobs.compute.assignment import Assignment
from jobs.fingerprint import canonical_json
from jobs.models.weights import send_weights
from jobs.paths import SweepPaths
from jobs.planning.plan import gaps
from jobs.planning.sweep import Sweep
from jobs.specs.configuration import Configuration
from jobs.storage.ledger import ConfigurationLedger
from jobs.store import Store
from jobs.work.evaluation import EvaluationRequest, write_request


@dataclass
class Evaluation:
    """A request for some configurations of a sweep; `prepare` fills `missing`."""

    request: EvaluationRequest
    files: dict[str, str]  # sha256 -> path of the extractors' weights
    chosen: Sequence[Configuration]
    #: configurations without all their images, and the samples that have none; they get features, no scores
    missing: list[tuple[Configuration, list[range]]] = field(default_factory=list)

    def prepare(self, store: Store, sweep: Sweep, note: Callable[[str], None]) -> Prepared:
        """What is left to be done, as `cluster.prepare.prepare` gives it. The caller holds the lease."""
        send_weights(store, self.files)
        write_request(store, sweep.name, self.request)
        self.missing.clear()
        works: list[ConfigurationWork] = []
        tallies: dict[str, Tally] = {}
        goals: dict[str, Goal] = {}
        references: dict[str, Assignment] = {}
        for own in sweep.configurations:
            tallies.setdefault(_root(sweep, own), Tally(None))  # the observer counts them all
        for own in self.chosen:
            configuration = self.request.applied(own)
            root = _root(sweep, own)
            paths = SweepPaths(sweep.name).configuration(own.fingerprint)
            ledger = mended_ledger(store, paths, configuration, note)
            missing = list(gaps(configuration.samples, ledger.done))
            if missing:
                self.missing.append((configuration, missing))
            bare = ledger.without_features.before(configuration.samples).ranges
            goals[root] = _goal(configuration, ledger, bare)
            works.append(_work(configuration, bare))
            tally = tallies[root] = Tally(None, unfinished=len(bare))
            if not missing and (bare or not scored(store, paths, configuration, ledger)):
                tally.reduction = self._assignment("reduce", configuration)
                built = canonical_json(configuration.model_dump(include={"extractors", "references"}))
                first = self._assignment("reference", configuration)
                tally.reference = references.setdefault(built, first)
        queue = WorkQueue(sweep.name, works, self.request.digest)
        for reference in references.values():
            queue.add(reference)
        return Prepared(queue, Account(tallies), goals)

    def _assignment(self, kind: Literal["reference", "reduce"], configuration: Configuration) -> Assignment:
        place = (configuration.sweep, configuration.fingerprint, 0, configuration.samples)
        return Assignment(kind, *place, self.request.digest)


def _root(sweep: Sweep, configuration: Configuration) -> str:
    return SweepPaths(sweep.name).configuration(configuration.fingerprint).root


def _work(configuration: Configuration, bare: list[range]) -> ConfigurationWork:
    """Workers keep nothing between configurations here: all share the extractors."""
    return ConfigurationWork(
        fingerprint=configuration.fingerprint,
        model=" ".join(extractor_keys(configuration)),
        priority=configuration.priority,
        cost=1.0,
        pending=deque(bare),
    )


def _goal(configuration: Configuration, ledger: ConfigurationLedger, bare: list[range]) -> Goal:
    left = sum(map(len, bare))
    return Goal(
        name=configuration.name,
        samples=min(ledger.count, configuration.samples),
        done=max(0, min(ledger.count, configuration.samples) - left),
        shards=len(ledger.images.before(configuration.samples)),
        shards_done=len(ledger.images.before(configuration.samples)) - len(bare),
        evaluations=0,
    )
