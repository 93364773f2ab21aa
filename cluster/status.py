"""How far a sweep is, from storage alone: no cluster, no driver, nothing in memory.

It must not change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jobs.paths import SweepPaths
from jobs.planning.plan import plan
from jobs.planning.sweep import Sweep
from jobs.specs.configuration import Configuration
from jobs.storage import lease, runrecord
from jobs.storage.ledger import failures, scan
from jobs.storage.runrecord import RunRecord
from jobs.store import Store


@dataclass(frozen=True)
class SetAside:
    """A shard that failed for good in the last run."""

    first: int
    last: int  # exclusive
    attempts: int
    error: str  # last line of the traceback


@dataclass(frozen=True)
class ConfigurationStatus:
    """One configuration."""

    name: str
    fingerprint: str
    samples: int
    samples_done: int  # with images
    shards: int
    shards_done: int  # with images and features
    snapshots: int  # of unfinished groups
    damaged: int  # ranges that storage wrongly calls done; the next run makes them again
    reduced: bool
    failed: tuple[SetAside, ...]


@dataclass(frozen=True)
class Driver:
    """Who holds the sweep, or did."""

    state: Literal["running", "dead", "ended", "none"]
    host: str = ""
    pid: int = 0
    last_seen: float | None = None  # seconds ago


@dataclass(frozen=True)
class SweepStatus:
    """A sweep. Rates are means over the last run, which may still be going on."""

    sweep: str
    store: str
    driver: Driver
    configurations: tuple[ConfigurationStatus, ...]
    last_run: RunRecord | None
    runs: int
    images_per_second: float | None
    evaluations_per_second: float | None

    @property
    def complete(self) -> bool:
        return all(item.reduced and item.samples_done >= item.samples for item in self.configurations)


def status_of(store: Store, sweep: Sweep) -> SweepStatus:
    """Read the status of a sweep; linear in the number of its files."""
    paths = SweepPaths(sweep.name)
    records = runrecord.runs(store, paths)
    last = records[-1] if records else None
    seconds = _seconds(last) if last else 0.0
    distinct = {item.fingerprint: item for item in sweep.configurations}
    return SweepStatus(
        sweep=sweep.name,
        store=store.url,
        driver=_driver(store, paths),
        configurations=tuple(_configuration(store, paths, item) for item in distinct.values()),
        last_run=last,
        runs=len(records),
        images_per_second=last.images / seconds if last and seconds else None,
        evaluations_per_second=last.evaluations / seconds if last and seconds else None,
    )


def _driver(store: Store, paths: SweepPaths) -> Driver:
    state = lease.inspect(store, paths)
    if state is None:
        return Driver("none")
    found: Literal["running", "dead", "ended"] = "running"
    if not state.alive:
        found = "ended" if state.heartbeat.released else "dead"
    return Driver(found, state.holder.host, state.holder.pid, state.age)


def _configuration(store: Store, paths: SweepPaths, configuration: Configuration) -> ConfigurationStatus:
    own = paths.configuration(configuration.fingerprint)
    keys = [extractor.key for extractor in configuration.extractors]
    ledger = scan(store, own, keys)
    left = len(plan(configuration, ledger.done))
    there, bare = (
        len(markers.before(configuration.samples)) for markers in (ledger.images, ledger.without_features)
    )
    results = [own.result(key, data_set.name) for key in keys for data_set in configuration.references]
    return ConfigurationStatus(
        name=configuration.name,
        fingerprint=configuration.fingerprint,
        samples=configuration.samples,
        samples_done=min(ledger.count, configuration.samples),
        shards=there + left,
        shards_done=there - bare,
        snapshots=ledger.snapshots,
        damaged=len(ledger.damaged),
        reduced=all(store.size(name) is not None for name in results),
        failed=tuple(
            SetAside(f.samples.start, f.samples.stop, f.attempts, (f.error.strip().splitlines() or [""])[-1])
            for f in failures(store, own)
        ),
    )


def _seconds(record: RunRecord) -> float:
    """From a run's start to its last sign of life."""
    start, end = datetime.fromisoformat(record.started), datetime.fromisoformat(record.updated)
    return (end - start).total_seconds()
