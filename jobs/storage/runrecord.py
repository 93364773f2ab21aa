"""What every attempt of a driver did: one JSON file a run, written at its start and updated as it goes.

For people and for `status`; nothing is decided by it, since storage alone says what is done.
This module must not know the driver's loop.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.paths import SweepPaths
from jobs.storage.records import read_record
from jobs.store import Store

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in the drivers of submitted jobs
Outcome = Literal["running", "done", "incomplete", "failed"]


class NodeUse(BaseModel):
    """What one machine did in a run."""

    model_config = ConfigDict(extra="forbid")

    device: str  # `cpu`, or what kind of GPU
    workers: int = 0  # that became ready, each time
    workers_lost: int = 0
    attempts: int = 0
    seconds: float = 0.0  # of all its workers at work
    images: int = 0  # committed
    evaluations: int = 0


class RunRecord(BaseModel):
    """One run. Times are UTC in ISO 8601; `outcome` stays `running` when the driver was killed."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    version: Literal[1] = 1
    run_id: str
    sweep: str
    command: list[str]
    job: str | None = None  # id of the Ray job that the driver ran in
    host: str
    pid: int
    started: str
    updated: str
    ended: str | None = None
    outcome: Outcome = "running"
    exit_code: int | None = None
    workers: int = 0
    shards: int = 0  # planned by this run
    shards_done: int = 0
    shards_failed: int = 0
    images: int = 0  # committed by this run
    evaluations: int = 0  # network evaluations x images
    retries: dict[str, int] = Field(default_factory=dict)  # by cause
    seconds: dict[str, float] = Field(default_factory=dict)  # by phase
    attempts: dict[str, int] = Field(default_factory=dict)  # of shards, references and scores, by their end
    seconds_lost: float = 0.0  # of work, with failed attempts and lost workers
    under_way: int = 0  # attempts, when this was written
    seconds_at_risk: float = 0.0  # of their work that no snapshot held then
    nodes: dict[str, NodeUse] = Field(default_factory=dict)  # by the machine's name
    notes: list[str] = Field(default_factory=list)


def begin(store: Store, paths: SweepPaths, command: list[str]) -> RunRecord:
    """Write the record of a run that starts now."""
    now = datetime.now(UTC)
    record = RunRecord(
        run_id=f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
        sweep=paths.sweep,
        command=command,
        job=_ray_job(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_now(),
        updated=_now(),
    )
    save(store, paths, record)
    return record


def save(store: Store, paths: SweepPaths, record: RunRecord) -> None:
    """Write the record as it is now."""
    record.updated = _now()
    store.put(paths.run(record.run_id), record.model_dump_json(indent=1).encode())


def end(store: Store, paths: SweepPaths, record: RunRecord, outcome: Outcome, exit_code: int) -> None:
    """Write how the run ended."""
    record.outcome = outcome
    record.exit_code = exit_code
    record.ended = _now()
    save(store, paths, record)


def runs(store: Store, paths: SweepPaths) -> list[RunRecord]:
    """All runs of a sweep, the first one first. Raises StoreError for a file that is no record."""
    names = sorted(entry.name for entry in store.list(paths.runs_folder))
    remedy = "remove it, no result depends on it"
    return [read_record(store, name, RunRecord, "record of a run", remedy) for name in names]


def _ray_job() -> str | None:
    """The submission id of the Ray job that this process is the driver of, as Ray tells it."""
    metadata = json.loads(os.environ.get(RAY_JOB, "{}")).get("metadata", {})
    job = metadata.get("job_submission_id")
    return str(job) if job is not None else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
