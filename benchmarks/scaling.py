"""What a large sweep costs the driver: shards a second, memory, time to scan the ledger and to resume.

`driver` runs the real loop, queue and account against a pool whose workers are done at once. `ledger` scans
the markers of one configuration, `resume` prepares a run of a sweep of which 99 % is done, `status` tells how
far it is. Markers come from files on disk, or are made as they are read, where the files of a million shards
would be a burden: then only the project's own code is timed. Every measurement is a process of its own, so
peak memory is its own.

    python benchmarks/scaling.py                      # all of them, 10,000 to 1,000,000 shards
    python benchmarks/scaling.py driver --shards 1000000 --workers 1000
    python benchmarks/scaling.py resume --shards 100000 --files
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

from cluster.account import Account, Attempted, Incident, Tally
from cluster.driver import Driver
from cluster.pool import Event, Finished, Ready
from cluster.prepare import prepare
from cluster.queue import ConfigurationWork, WorkQueue
from cluster.status import status_of
from jobs.compute.assignment import Assignment, Receipt
from jobs.paths import RangeFolder, SweepPaths
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.specs.configuration import Configuration
from jobs.storage.commit import Content, Execution, GroupRecord, Marker
from jobs.storage.ledger import scan
from jobs.store import Entry, LocalStore

CONFIGURATIONS = 100  # that the driver's shards are of
SHARD = 16  # samples
SIZE = 16  # bytes of the file that stands for images
EVENTS = 64  # that the pool tells at most at once
SPEC = """
name: scaling
model: digits-heldout
sampler: {{kind: noise}}
samples: {samples}
group_size: 16
shard_size: 16
metrics: []
"""


class InstantPool:
    """Workers that are done as soon as they are asked; told in turn, so many at once."""

    def __init__(self, workers: int) -> None:
        self._events: deque[Event] = deque(Ready(worker, f"worker {worker}") for worker in range(workers))

    def wait(self, timeout: float) -> list[Event]:
        return [self._events.popleft() for _ in range(min(EVENTS, len(self._events)))]

    def submit(self, worker: int, assignment: Assignment) -> None:
        images = assignment.last - assignment.first
        self._events.append(Finished(worker, Receipt(assignment, images, 10 * images)))

    def drain(self) -> None:
        raise AssertionError("nobody stops this")

    def release(self, worker: int) -> None:
        pass

    def release_waiting(self) -> None:
        pass

    def close(self) -> None:
        pass


class Uninterested:
    """An observer that only counts."""

    def __init__(self) -> None:
        self.receipts = 0

    def name(self, assignment: Assignment) -> str:
        return assignment.name

    def note(self, text: str) -> None:
        pass

    def happened(self, incident: Incident) -> None:
        pass

    def attempted(self, attempt: Attempted) -> None:
        pass

    def tick(self, account: Account) -> None:
        pass

    def finished(self, receipt: Receipt) -> None:
        self.receipts += 1

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        raise AssertionError("nothing fails here")

    def replan(self, assignment: Assignment) -> list[range]:
        raise AssertionError("nothing overlaps here")


class MarkersOnDemand(LocalStore):
    """A configuration with shards that are done: their files are listed, and markers made when read."""

    def __init__(self, root: Path, folder: RangeFolder, done: range) -> None:
        """done: numbers of the shards."""
        super().__init__(root)
        self._folder = folder
        self._done = done
        self._first = marker(0, folder)

    def list(self, folder: str) -> Iterator[Entry]:
        if not self._folder.root.startswith(folder):
            yield from super().list(folder)
            return
        for number in self._done:
            samples = shard(number)
            yield Entry(self._folder.marker(samples), 700)
            yield Entry(self._folder.attempt(samples, f"{number:032x}", "parquet"), SIZE)

    def get(self, name: str) -> bytes:
        if not (name.startswith(self._folder.root) and name.endswith(".json")):
            return super().get(name)
        samples = shard(int(name[-30:-18]) // SHARD)
        return (
            self._first.replace(
                b'"first":0,"last":16', b'"first":%d,"last":%d' % (samples.start, samples.stop)
            )
            .replace(b"000000000000-000000000016", name[-30:-5].encode())
            .replace(b"0" * 32, b"%032x" % (samples.start // SHARD))
        )


def shard(number: int) -> range:
    return range(number * SHARD, (number + 1) * SHARD)


def marker(number: int, folder: RangeFolder) -> bytes:
    """As a worker writes it."""
    samples = shard(number)
    content = Content(
        kind="images",
        fingerprint="f" * 64,
        first=samples.start,
        last=samples.stop,
        rows=SHARD,
        digests={1000: f"{number:064x}"},
        inputs={"model": "a" * 64},
        execution=Execution(
            device="cpu AVX2",
            torch="2.13.0",
            threads=1,
            micro_batch=SHARD,
            precision="float32",
            sampler_version="1",
        ),
        groups=(GroupRecord(first=samples.start, last=samples.stop, evaluations=2000),),
        evaluations=2000 * SHARD,
        seconds={"sample": 10.0},
    )
    attempt = f"{number:032x}"
    file = folder.attempt(samples, attempt, "parquet").rpartition("/")[2]
    whole = Marker(
        **dict(content), file=file, size=SIZE, attempt=attempt, host="host", committed="2026-01-01T00:00:00Z"
    )
    return whole.model_dump_json().encode()


def write_files(root: Path, folder: RangeFolder, done: range) -> None:
    """Markers and their files, without the syncs of a commit."""
    for number in done:
        samples = shard(number)
        path = root / folder.marker(samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(marker(number, folder))
        (root / folder.attempt(samples, f"{number:032x}", "parquet")).write_bytes(b"x" * SIZE)


class Stopwatch:
    """Seconds by the clock and of the processor; other work on the machine makes the first ones more."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def read(self, shards: int) -> dict[str, float]:
        seconds, used = time.perf_counter() - self._began, time.process_time() - self._used
        return {"seconds": seconds, "cpu_seconds": used, "shards_per_cpu_second": shards / used}


def measure_driver(shards: int, workers: int) -> dict[str, float]:
    each = shards // CONFIGURATIONS
    works = [
        ConfigurationWork(f"{n:064x}", f"model {n % 5}", 0, 1.0, deque(map(shard, range(each))))
        for n in range(CONFIGURATIONS)
    ]
    tallies = {f"sweep/{work.fingerprint}": Tally(None, unfinished=each) for work in works}
    observer = Uninterested()
    driver = Driver(InstantPool(workers), WorkQueue("sweep", works), Account(tallies), observer)
    clock = Stopwatch()
    outcome = driver.run()
    found = clock.read(shards)
    assert outcome.exit_code == 0
    assert observer.receipts == each * CONFIGURATIONS
    return found


def the_sweep(root: Path, shards: int) -> tuple[Sweep, Configuration, RangeFolder]:
    spec = root / "scaling.yaml"
    spec.write_text(SPEC.format(samples=shards * SHARD))
    sweep = expand(load_spec(spec))
    (configuration,) = sweep.configurations
    return sweep, configuration, SweepPaths(sweep.name).configuration(configuration.fingerprint).images


def measure_storage(what: str, shards: int, files: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sweep, configuration, folder = the_sweep(root, shards)
        done = range(shards if what == "ledger" else shards * 99 // 100)
        store = LocalStore(root) if files else MarkersOnDemand(root, folder, done)
        if files:
            write_files(root, folder, done)
        clock = Stopwatch()
        if what == "ledger":
            paths = SweepPaths(sweep.name).configuration(configuration.fingerprint)
            ledger = scan(store, paths, [])
            found = clock.read(shards)
            assert len(ledger.images) == shards
            assert not ledger.damaged
        elif what == "status":
            (status,) = status_of(store, sweep).configurations
            found = clock.read(shards)
            assert (status.shards, status.shards_done) == (shards, len(done))
        else:
            left = prepare(store, sweep, print).shards
            found = clock.read(shards)
            assert left == shards - len(done)
    return found


def measure_all(options: argparse.Namespace) -> None:
    cases = [("driver", shards, False) for shards in (10_000, 100_000, 1_000_000)]
    for what in ("ledger", "resume", "status"):
        cases += [(what, shards, True) for shards in (10_000, 100_000)]
        cases += [(what, shards, False) for shards in (10_000, 100_000, 1_000_000)]
    for what, shards, files in cases:
        command = [sys.executable, __file__, what, "--shards", str(shards), "--workers", str(options.workers)]
        subprocess.run(command + ["--files"] * files, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["driver", "ledger", "resume", "status"])
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--files", action="store_true", help="markers from files, not made as they are read")
    options = parser.parse_args()
    if options.what is None:
        measure_all(options)
        return
    if options.what == "driver":
        found = measure_driver(options.shards, options.workers)
    else:
        found = measure_storage(options.what, options.shards, options.files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked = {"what": options.what, "shards": options.shards}
    asked |= {"workers": options.workers} if options.what == "driver" else {"files": options.files}
    print(
        json.dumps(
            {**asked, **{key: round(value, 2) for key, value in found.items()}, "peak_MiB": round(peak)}
        )
    )


if __name__ == "__main__":
    main()
