"""Sweeps as a job of a Ray cluster: its id, its command, what it may use, and how it ended.

Code is uploaded; weights and the sweeps themselves go through the store, from which the job's driver reads
them. It must not know how commands are typed.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cluster
import fid
import jobs
import sdesampling
from cluster.access import Token, find_token
from cluster.checks import (
    Check,
    cluster_checks,
    driver_check,
    gpus_check,
    resource_check,
    store_checks,
    token_checks,
)
from cluster.demand import GIB, Demand
from cluster.head import Cluster
from cluster.jobs_api import Job, Jobs, JobsError
from cluster.prepare import write_down
from cluster.settling import recorded_hardware, settled_by
from jobs.models.plugins import EXTRACTORS, EXTRAS, NETWORKS, Code, Plugin, PluginError, code_of
from jobs.paths import SweepPaths
from jobs.planning.hardware import Hardware
from jobs.planning.submission import with_gpus
from jobs.planning.sweep import Sweep
from jobs.references.sending import send_data
from jobs.storage import runrecord
from jobs.storage.lease import LeaseHeldError, inspect, refusal
from jobs.storage.queue_state import begin_queue
from jobs.storage.runrecord import RunRecord
from jobs.store import Store

MARK = "sdesweep"  # key of the metadata of this project's jobs: the sweeps, separated by spaces
STORE = "sdesweep_store"


@dataclass(frozen=True)
class Ending:
    """How a job ended, judged from the job and from the run records of its sweeps."""

    exit_code: int
    text: str


@dataclass(frozen=True)
class Before:
    """What was found before a submission; `cluster` is None where the head does not tell."""

    token: Token | None
    cluster: Cluster | None
    checks: list[Check]
    plugins: Sequence[Code] = ()  # that go with the job


def look_before(
    store: Store, sweeps: Sequence[Sweep], address: str, workers: int | None, allow_unauthenticated: bool
) -> Before:
    """Check store, token, head, and whether workers and driver can ever fit; begins nothing.

    A head that asks nobody for a token is refused unless its dashboard listens on loopback alone and is
    reached there, or that is allowed.
    """
    plugins, lacking = plugin_checks(sweeps)
    checks = [*store_checks(store.url), *lacking]
    token, found = token_checks(find_token)
    cluster, told = cluster_checks(address, token, tolerate_open=allow_unauthenticated, tolerate_here=True)
    checks += found + told
    if cluster is not None:
        driver = sweeps[0].resources.driver
        demand = Demand(driver.cpus, 0.0, round((driver.memory or 0) * GIB), driver.labels[:1])
        resources = sweeps[0].resources
        hardware = recorded_hardware(store, sweeps[0].name)
        if hardware is None:
            checks += gpus_check(cluster, resources, Demand.of(resources, workers))
            hardware = Hardware(gpus=_gpus(sweeps[0], cluster))
        checks.append(resource_check(cluster, Demand.of(with_gpus(resources, hardware), workers)))
        checks.append(driver_check(cluster, demand))
    return Before(token, cluster, checks, plugins)


def _gpus(sweep: Sweep, cluster: Cluster) -> int:
    """GPUs of the machine that will decide what `auto` means."""
    machine = Demand.of(sweep.resources).preferred(cluster.machines)
    return 0 if machine is None else math.floor(machine.resources.get("GPU", 0))


def plugin_checks(sweeps: Sequence[Sweep]) -> tuple[list[Code], list[Check]]:
    """Plug-ins whose code can travel with the job, and what must be on the cluster's machines."""
    configurations = [each for sweep in sweeps for each in sweep.configurations]
    names = {(NETWORKS, name) for each in configurations for name in each.model.plugins}
    names |= {(EXTRACTORS, extractor.name) for each in configurations for extractor in each.extractors}
    found: dict[Plugin, Code] = {}
    checks = []
    for group, name in sorted(names):
        try:
            code = code_of(group, name)
        except PluginError as error:
            remedy = "the driver refuses to begin where it is missing"
            checks.append(Check("plug-ins", "warning", str(error), remedy))
            continue
        if code is not None:
            found[code.plugin] = code
        needs = code.needs if code is not None else (EXTRAS[name],) if name in EXTRAS else ()
        if needs:
            text = f"{name} needs {', '.join(needs)}, and other packages are not sent"
            remedy = "install them on every machine; the driver refuses to begin where they are missing"
            checks.append(Check("plug-ins", "warning", text, remedy))
    return list(found.values()), checks


@contextmanager
def carried(codes: Iterable[Code]) -> Iterator[list[Path]]:
    """While the block lasts: folders by which another machine knows plug-ins as if they were installed."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[Path, None] = {}
        for code in codes:
            plugin = code.plugin
            information = Path(folder) / f"{plugin.package.replace('-', '_')}-{plugin.version}.dist-info"
            information.mkdir(exist_ok=True)
            metadata = f"Metadata-Version: 2.1\nName: {plugin.package}\nVersion: {plugin.version}\n"
            (information / "METADATA").write_text(metadata, encoding="utf-8")
            (information / "entry_points.txt").write_text(code.entry_points, encoding="utf-8")
            found[information] = None
            for module in code.modules:
                if module.is_file():  # Ray uploads folders: a module becomes a package of the same name
                    package = Path(folder) / module.stem
                    package.mkdir(exist_ok=True)
                    module = shutil.copyfile(module, package / "__init__.py").parent
                found[module] = None
        yield list(found)


def company_checks(server: Jobs) -> Iterator[Check]:
    """Jobs of this project that are at work there: they and a new one share machines, and no queue."""
    others = [job.id for job in server.all() if MARK in job.metadata and not job.over]
    if others:
        found = f"{', '.join(others)} at work there: workers of this job begin where those leave room"
        remedy = "for one queue on the same workers, stop them and submit or resume all together"
        yield Check("company", "warning", found, remedy)


def packages() -> list[Path]:
    """The folders of this project's code."""
    return [Path(str(package.__file__)).parent for package in (cluster, fid, jobs, sdesampling)]


def submit(
    server: Jobs,
    head: Cluster,
    store: Store,
    sweeps: Sequence[Sweep],
    queue: str,
    options: Sequence[str],
    python: str | None = None,
    plugins: Iterable[Code] = (),
    note: Callable[[str], None] = lambda text: None,
) -> str:
    """Put what a run needs into the store and begin it as a job; returns the job's id.

    queue: names the job, and the order of several sweeps. options: of `sdesweep resume`.
    python: path of the interpreter on the head; None for the one that runs Ray there.
    plugins: uploaded beside this project's code. note: told of what takes a while to send.
    Raises DatasetError when images cannot be read here, LeaseHeldError when a driver is at work on one of
    them, JobsError, also where one of them is in a job that is not over, and what `write_down` does.
    """
    _refuse_twice(server, store, {sweep.name for sweep in sweeps})
    for sweep in sweeps:
        state = inspect(store, SweepPaths(sweep.name))
        if state and state.alive:
            raise LeaseHeldError(refusal(SweepPaths(sweep.name), state))
    for sweep in [send_data(store, sweep, note) for sweep in sweeps]:
        hardware = recorded_hardware(store, sweep.name)  # decided by an earlier run: it stays so
        write_down(store, settled_by(store, sweep, hardware) if hardware else sweep, note)
    names = [sweep.name for sweep in sweeps]
    begin_queue(store, queue, names)
    job = f"{queue}-a{next_attempt(queue, taken_ids(server, store, names))}"
    driver = sweeps[0].resources.driver
    with carried(plugins) as code:
        server.submit(
            job,
            entrypoint(python or head.interpreter or "python3", names, store.url, queue, options),
            packages=[*packages(), *code],
            metadata={MARK: " ".join(names), STORE: store.url},
            cpus=driver.cpus,
            memory=round((driver.memory or 0) * GIB),
            labels=driver.labels[0] if driver.labels else None,
        )
    return job


def _refuse_twice(server: Jobs, store: Store, names: set[str]) -> None:
    """A job whose driver has not begun yet holds no lease."""
    for job in server.all():
        both = names & set(job.metadata.get(MARK, "").split())
        if both and not job.over and job.metadata.get(STORE) == store.url:
            raise JobsError(
                f"{job.id} is not over there ({job.status}) and does {', '.join(sorted(both))}: "
                f"`sdesweep logs {job.id} --follow` shows it, `sdesweep stop {job.id}` ends it"
            )


def entrypoint(python: str, names: Sequence[str], store: str, queue: str, options: Sequence[str]) -> str:
    """The shell command of a job. `exec`: signals reach the driver itself."""
    command = [python, "-m", "cluster.cli", "resume", *names, "--store", store]
    return "exec " + shlex.join([*command, "--address", "auto", "--queue", queue, *options])


def taken_ids(server: Jobs, store: Store, names: Iterable[str]) -> set[str]:
    """Ids of jobs that the cluster or the run records of some sweeps know."""
    records = [record for name in names for record in runrecord.runs(store, SweepPaths(name))]
    return {job.id for job in server.all()} | {record.job for record in records if record.job}


def next_attempt(name: str, taken: Iterable[str]) -> int:
    """One more than the attempts at `name` so far: a used id is never used again."""
    matches = (re.fullmatch(rf"{re.escape(name)}-a(\d+)", job) for job in taken)
    return 1 + max((int(match[1]) for match in matches if match), default=0)


def jobs_of(server: Jobs, name: str) -> list[Job]:
    """Jobs of a sweep or a queue, or the one with this id; the first one first."""
    return [
        job
        for job in server.all()
        if MARK in job.metadata
        and (name in (job.id, job.id.rpartition("-a")[0]) or name in job.metadata[MARK].split())
    ]


def records_of(store: Store, job: Job) -> list[RunRecord]:
    """The run records that the driver of a job has left."""
    names = job.metadata.get(MARK, "").split()
    found = [record for name in names for record in runrecord.runs(store, SweepPaths(name))]
    return [record for record in found if record.job == job.id]


def judge(job: Job, records: Sequence[RunRecord]) -> Ending:
    """How a job that is over ended: its status alone does not tell what was done."""
    if not records:
        last = job.message.strip().splitlines()[-1:] or ["its log says why"]
        return Ending(75, f"{job.id} ended as {job.status} before its driver began: {last[0]}")
    outcomes = {record.sweep: record.outcome for record in records}  # of a job that waited, the last run
    said = ", ".join(f"{sweep} {outcome}" for sweep, outcome in outcomes.items())
    text = f"{job.id} ended as {job.status}: {said}"
    if "running" in outcomes.values():
        return Ending(75, f"{text}; its driver was killed in the middle of it")
    if "incomplete" in outcomes.values():
        return Ending(75, text)
    if "failed" in outcomes.values():
        return Ending(1, text)
    return Ending(0, text)
