"""Runs one assignment where it is called: images and features of a shard, references, or a reduction.

What storage has already is skipped, what is damaged there is made again, and everything made is committed, so
an assignment may be stopped at any moment and given to anybody. This module must not know where it runs.
"""

from __future__ import annotations

import time

from jobs.compute.assignment import Assignment, Context, Drained, Receipt
from jobs.compute.worker import WorkerState
from jobs.paths import range_root
from jobs.references.reference import build_reference
from jobs.specs.configuration import Configuration
from jobs.storage.commit import DamageError, quarantine
from jobs.store import Store
from jobs.work.evaluation import read_request
from jobs.work.reduce import IncompleteError, reduce_configuration
from jobs.work.shard import Shard


def perform(assignment: Assignment, store: Store, worker: WorkerState, context: Context) -> Receipt:
    """Do an assignment and say what was done.

    Raises Drained when the context asked to stop (snapshots are on storage then), BadImagesError when a
    sampler diverges, OverlapError when the shard was planned on an outdated ledger, and OSError when storage
    cannot be reached.
    """
    configuration = worker.configuration(store, assignment.sweep, assignment.fingerprint)
    if assignment.request:
        configuration = read_request(store, assignment.sweep, assignment.request).applied(configuration)
    if assignment.kind == "sample":
        return Shard(assignment, configuration, store, worker, context).perform()
    began = time.perf_counter()
    if assignment.kind == "reference":
        _build_references(assignment, configuration, store, worker, context)
    else:
        _reduce(assignment, configuration, store)
    seconds: dict[str, float] = {assignment.kind: time.perf_counter() - began}
    return Receipt(assignment, images=0, evaluations=0, seconds=seconds)


def _reduce(assignment: Assignment, configuration: Configuration, store: Store) -> None:
    """Reduce; what turns out to be damaged is moved away.

    Raises DamageError when files are damaged or missing: to be made again before the next try.
    """
    try:
        reduce_configuration(store, assignment.sweep, configuration)
    except DamageError as error:
        if not error.names:
            raise
        incident = quarantine(store, range_root(error.names[0]), error.names, str(error))
        raise DamageError(f"{error}; quarantined as {incident}", error.names) from error
    except (IncompleteError, FileNotFoundError) as error:  # somebody else moved what was damaged
        raise DamageError(str(error)) from error


def _build_references(
    assignment: Assignment, configuration: Configuration, store: Store, worker: WorkerState, context: Context
) -> None:
    def give_up() -> None:
        if context.should_stop():
            raise Drained(f"{assignment.name}: stopped between two batches as asked")

    for extractor in configuration.extractors:
        for data_set in configuration.references:
            build_reference(store, data_set, extractor, worker, give_up)
