"""What a large sweep costs the driver: shards a second, memory, time to scan the ledger and to resume.

`driver` runs the real loop, queue and account against a pool whose workers are done at once. `ledger` scans
the markers of one configuration, `resume` prepares a run of a sweep of which 99 % is done, `status` tells how
far it is, `gc` looks for garbage. Markers come from files, from the S3 server of the tests, or are made as
they are read, where the files of a million shards would be a burden: then only the project's own code is
timed. Every measurement is a process of its own, so peak memory is its own.

    python benchmarks/scaling.py                      # all of them, 10,000 to 1,000,000 shards
    python benchmarks/scaling.py driver --shards 1000000 --workers 1000
    python benchmarks/scaling.py resume --shards 100000 --files --folder /dev/shm
    python benchmarks/scaling.py ledger --shards 10000 --s3
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
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

from cluster.account import Account, Attempted, Incident, Tally
from cluster.driver import Driver
from cluster.pool import Event, Finished, Ready
from cluster.prepare import prepare
from cluster.queue import ConfigurationWork, WorkQueue
from cluster.status import status_of
from jobs.compute.assignment import Assignment, Receipt
from jobs.paths import SPAN, RangeFolder, SweepPaths, range_name
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.specs.configuration import Configuration
from jobs.storage.commit import Content, Execution, GroupRecord, Marker
from jobs.storage.gc import collect_garbage
from jobs.storage.ledger import scan
from jobs.store import Entry, Store, open_store
from jobs.store_local import LocalStore

STORAGE = ("ledger", "resume", "status", "gc")
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

    def drain(self, workers: Collection[int] | None = None) -> None:
        raise AssertionError("nobody stops this")

    def end(self, worker: int) -> None:
        raise AssertionError("nothing outlives its hours here")

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
        return renumbered(self._first, int(name[-30:-18]) // SHARD)


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


def renumbered(first: bytes, number: int) -> bytes:
    """The marker of a shard, from that of the first one."""
    samples = shard(number)
    return (
        first.replace(b'"first":0,"last":16', b'"first":%d,"last":%d' % (samples.start, samples.stop))
        .replace(b"000000000000-000000000016", range_name(samples).encode())
        .replace(b"0" * 32, b"%032x" % number)
    )


def files_of(folder: RangeFolder, done: range) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what shards leave behind."""
    first = marker(0, folder)
    for number in done:
        yield folder.marker(shard(number)), renumbered(first, number)
        yield folder.attempt(shard(number), f"{number:032x}", "parquet"), b"x" * SIZE


def write_files(root: Path, folder: RangeFolder, done: range) -> None:
    """Without the syncs of a commit."""
    for samples in map(shard, done[:: SPAN // SHARD]):
        (root / folder.marker(samples)).parent.mkdir(parents=True)
    for name, content in files_of(folder, done):
        (root / name).write_bytes(content)


@contextmanager
def s3_store() -> Iterator[Store]:
    """An empty store on the server of the tests, which answers one request at a time."""
    script = Path(__file__).parents[1] / "tests" / "s3_server.py"
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        server = subprocess.Popen([sys.executable, str(script), str(port)], stderr=subprocess.DEVNULL)
        try:
            while not (port.exists() and port.read_text()):
                assert server.poll() is None, "the S3 server did not start"
                time.sleep(0.05)
            endpoint = f"http://127.0.0.1:{port.read_text()}"
            os.environ.update(
                AWS_ENDPOINT_URL=endpoint,
                AWS_ACCESS_KEY_ID="x",
                AWS_SECRET_ACCESS_KEY="x",
                AWS_DEFAULT_REGION="us-east-1",
                NO_PROXY="127.0.0.1",
            )
            build_opener(ProxyHandler({})).open(Request(f"{endpoint}/bench", method="PUT")).close()
            yield open_store("s3://bench/store")
        finally:
            server.kill()
            server.wait()


@contextmanager
def filled_store(
    options: argparse.Namespace, root: Path, folder: RangeFolder, done: range
) -> Iterator[Store]:
    """Of the kind that is asked for, with these shards of a configuration."""
    if options.s3:
        with s3_store() as store:
            with ThreadPoolExecutor(8) as threads:
                for _ in threads.map(lambda item: store.put(*item), files_of(folder, done)):
                    pass
            yield store
    elif options.files:
        write_files(root, folder, done)
        yield LocalStore(root)
    else:
        yield MarkersOnDemand(root, folder, done)


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


def measure_storage(options: argparse.Namespace) -> dict[str, float]:
    what, shards = options.what, options.shards
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        sweep, configuration, folder = the_sweep(root, shards)
        done = range(shards * 99 // 100 if what in ("resume", "status") else shards)
        with filled_store(options, root, folder, done) as store:
            clock = Stopwatch()
            if what == "ledger":
                paths = SweepPaths(sweep.name).configuration(configuration.fingerprint)
                ledger = scan(store, paths, [])
                assert len(ledger.images) == shards
                assert not ledger.damaged
            elif what == "status":
                (status,) = status_of(store, sweep).configurations
                assert (status.shards, status.shards_done) == (shards, len(done))
            elif what == "gc":
                assert not collect_garbage(store).found
            else:
                assert prepare(store, sweep, print).shards == shards - len(done)
            return clock.read(shards)


def measure_all(options: argparse.Namespace) -> None:
    def measure(what: str, shards: int, *more: str) -> None:
        workers, folder = ["--workers", str(options.workers)], ["--folder", options.folder]
        command = [sys.executable, __file__, what, "--shards", str(shards), *workers, *folder, *more]
        subprocess.run(command, check=True)

    for shards in (10_000, 100_000, 1_000_000):
        measure("driver", shards)
    measure("ledger", 10_000, "--s3")
    measure("resume", 10_000, "--s3")
    for what in STORAGE:
        for shards in (10_000, 100_000):
            measure(what, shards, "--files")
        for shards in (10_000, 100_000, 1_000_000):
            measure(what, shards)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["driver", *STORAGE])
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--files", action="store_true", help="markers from files, not made as they are read")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where these files lie for a while")
    parser.add_argument("--s3", action="store_true", help="markers from the S3 server of the tests")
    options = parser.parse_args()
    if options.what is None:
        measure_all(options)
        return
    if options.what == "driver":
        found = measure_driver(options.shards, options.workers)
    else:
        found = measure_storage(options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked = {"what": options.what, "shards": options.shards}
    if options.what == "driver":
        asked["workers"] = options.workers
    else:
        asked["markers"] = (
            "s3" if options.s3 else options.folder if options.files else "made as they are read"
        )
    numbers = {key: round(value, 2) for key, value in found.items()}
    print(json.dumps({**asked, **numbers, "peak_MiB": round(peak)}), flush=True)


if __name__ == "__main__":
    main()
