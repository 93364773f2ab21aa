"""Re-hashes everything that a sweep has in the store, and moves what is bad out of the way.

A run compares sizes only, because that is cheap; this reads every file and compares rows, indices and digests
with the markers, and weights with their names. What is quarantined is made again by the next run.
It must not know how anything was made.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import torch
from pydantic import ValidationError

from jobs.fingerprint import file_sha256
from jobs.paths import RangeFolder, StorePaths, SweepPaths
from jobs.planning.sweep import Sweep
from jobs.references.reference import reference_folder
from jobs.specs.configuration import Configuration
from jobs.storage.commit import DamageError, Marker, load_marker, quarantine
from jobs.storage.features import committed_features
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.storage.markers import Committed, Damage, Markers
from jobs.store import Store

SHARE = 64  # files for which it is worth starting another process
CHUNK = 8  # files that a process is given at once

Read = Callable[[Store, RangeFolder, Marker], object]  # raises DamageError


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    file: str  # the first one concerned
    reason: str
    incident: str | None  # its folder in the quarantine; None when nothing was moved


@dataclass
class VerifyReport:
    """What was found; `dataclasses.asdict` makes it JSON."""

    sweep: str
    files: int = 0  # read and compared
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)  # data files that no marker names, of no use to any run

    @property
    def intact(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Check:
    """One file to be read and compared, in this process or another."""

    root: str  # in whose quarantine it would go
    compare: Callable[[], int]  # gives its bytes, or raises DamageError

    def __call__(self) -> tuple[int, DamageError | None]:
        """Bytes, and what is wrong."""
        try:
            return self.compare(), None
        except DamageError as error:
            return 0, error


def verify(
    store: Store,
    sweep: str,
    *,
    repair: bool = True,
    processes: int = 1,
    reading: Callable[[int], Callable[[int], None]] = lambda total: lambda more: None,
) -> VerifyReport:
    """Read and compare all images, features, references, weights and configurations of a sweep.

    repair: move what is bad to quarantine; otherwise only report it. A run may go on meanwhile: what it is
        just writing can show up as an orphan.
    processes: that read and hash, at most: one for every `SHARE` files.
    reading: told how many files there are; the function that it gives is told of each that was read.

    Raises FileNotFoundError when there is no such sweep.
    """
    report = VerifyReport(sweep)
    resolved = Sweep.from_json(store.get(SweepPaths(sweep).resolved))
    configurations = list({found.fingerprint: found for found in resolved.configurations}.values())
    checks = list(_checks(store, sweep, configurations, report.orphans))
    processes = min(processes, 1 + len(checks) // SHARE)
    advance = reading(len(checks))
    for check, (size, error) in zip(checks, _performed(checks, processes), strict=True):
        report.files += 1
        report.bytes += size
        if error is not None:
            incident = quarantine(store, check.root, error.names, str(error)) if repair else None
            report.problems.append(Problem(error.names[0], str(error), incident))
        advance(1)
    return report


def _performed(checks: Sequence[_Check], processes: int) -> Iterator[tuple[int, DamageError | None]]:
    """Each check's outcome, in their order."""
    if processes == 1:
        yield from (check() for check in checks)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _one_thread) as pool:
        yield from pool.map(_Check.__call__, checks, chunksize=CHUNK)


def _one_thread() -> None:
    """A process to a core: PyTorch, which quantising images needs, would take them all."""
    torch.set_num_threads(1)


def _checks(
    store: Store, sweep: str, configurations: Sequence[Configuration], orphans: list[str]
) -> Iterator[_Check]:
    """Everything once, also what configurations share; orphans are collected on the way."""
    for configuration in configurations:
        yield from _configuration_checks(store, sweep, configuration, orphans)
    for root, folder in _references(store, configurations):
        found = Committed.of(store, folder)
        yield from _damage(root, found.damaged)
        yield from _range_checks(store, root, folder, found.markers, committed_features)
    for name in sorted(map(StorePaths().weights, _weights(configurations))):
        if store.size(name) is not None:
            yield _Check(name.rpartition("/")[0], partial(_compare_weights, store, name))


def _configuration_checks(
    store: Store, sweep: str, configuration: Configuration, orphans: list[str]
) -> Iterator[_Check]:
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    if store.size(paths.spec) is not None:
        yield _Check(paths.root, partial(_compare_spec, store, paths.spec, configuration))
    ledger = scan(store, paths)  # also the features that `evaluate` made
    yield from _damage(paths.root, ledger.damaged)
    yield from _range_checks(store, paths.root, paths.images, ledger.images, committed_images)
    for key, markers in ledger.features.items():
        yield from _range_checks(store, paths.root, paths.features(key), markers, committed_features)
    orphans += ledger.orphans


def _damage(root: str, damaged: Iterable[Damage]) -> Iterator[_Check]:
    """What the ledger calls damaged already."""
    for damage in damaged:
        yield _Check(root, partial(_report, damage))


def _range_checks(
    store: Store, root: str, folder: RangeFolder, markers: Markers, read: Read
) -> Iterator[_Check]:
    """What the ledger calls whole."""
    for samples in markers.ranges:
        yield _Check(root, partial(_compare_range, store, folder, samples, read))


def _compare_range(store: Store, folder: RangeFolder, samples: range, read: Read) -> int:
    name = folder.marker(samples)
    try:
        marker = load_marker(store, name, samples)
    except FileNotFoundError as error:
        raise DamageError(f"{name} is not there any more", [name]) from error
    read(store, folder, marker)
    return marker.size


def _references(store: Store, configurations: Sequence[Configuration]) -> set[tuple[str, RangeFolder]]:
    """Folders of all data sets and, in them, of the features by each extractor."""
    found = {
        reference_folder(store, data_set, extractor)
        for configuration in configurations
        for extractor in configuration.extractors
        for data_set in configuration.references
    }
    return {folders for folders in found if folders is not None}


def _weights(configurations: Sequence[Configuration]) -> set[str]:
    """sha256 of the weights of all models and extractors."""
    digests = {digest for found in configurations for digest in found.model.weights.values()}
    digests |= {extractor.weights for found in configurations for extractor in found.extractors}
    return {digest for digest in digests if digest is not None}


def _report(damage: Damage) -> NoReturn:
    raise DamageError(damage.reason, damage.names)


def _compare_spec(store: Store, name: str, configuration: Configuration) -> int:
    content = store.get(name)
    try:
        found = Configuration.from_json(content).fingerprint
    except ValidationError as error:
        raise DamageError(f"{name} is no configuration: {error.errors()[0]['msg']}", [name]) from error
    if found != configuration.fingerprint:
        raise DamageError(f"{name} has the fingerprint {found}", [name])
    return len(content)


def _compare_weights(store: Store, name: str) -> int:
    with store.local(name) as path:
        found, size = file_sha256(path), path.stat().st_size
    if found != name.rpartition("/")[2]:
        raise DamageError(f"{name} has the sha256 {found}", [name])
    return size
