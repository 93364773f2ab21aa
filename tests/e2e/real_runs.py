"""Runs of the real command in real processes, and what is compared between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from processes import descendants, name_of

from jobs.paths import SweepPaths, extractor_key
from jobs.planning.sweep import Sweep
from jobs.scores.results import Result
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.store import open_store
from jobs.store_local import LocalStore

SPEC = """
name: tiny
samples: 48
seed: 7
group_size: 8
shard_size: 16
snapshot_every: 0.2
extractor: digits-cnn
sampler: {kind: predictor_corrector}
reference: digits-train
sweep:
  axes:
    model:
      GAN: {model: digits-gan, stages: [50], sampler: {kind: ddls, steps: 300, step_size: 0.01}}
      VE:
        model: digits-ve
        samples: 21  # a ragged last group
        sampler: {predictor: reverse_diffusion, corrector: langevin, snr: 0.05, steps: 20}
      noise: {model: digits-ve, samples: 24, sampler: {kind: noise}}
  rows: model
"""
TIMEOUT = 240.0  # seconds for anything to happen, on a machine that is busy with other things


@dataclass
class Content:
    """What must be the same whatever happened: pixels by configuration, step and index; scores."""

    pixels: dict[tuple[str, int, int], bytes]
    scores: dict[str, list[dict[str, object]]]


@dataclass
class Site:
    """A spec and a store of its own."""

    folder: Path
    extra: dict[str, str] = field(default_factory=dict)  # environment variables of its runs
    url: str = ""  # of its store; a folder of its own by default

    @property
    def spec(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    @property
    def store_url(self) -> str:
        return self.url or str(self.folder / "store")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cluster.cli", *arguments]

    def begin(self, *options: str, command: str = "run") -> subprocess.Popen[str]:
        """Start `run` or `resume` of the spec."""
        subject = str(self.spec) if command == "run" else "tiny"
        arguments = [command, subject, "--store", self.store_url, *options]
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            start_new_session=True,  # a process group of its own, as a shell gives it
        )

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**kept, "HOME": str(self.folder), "OMP_NUM_THREADS": "1", **self.extra}

    def run(self, *options: str, command: str = "run") -> tuple[int, str]:
        """Exit code and output of a whole run."""
        return finish(self.begin(*options, command=command))

    def status(self) -> dict[str, object]:
        arguments = ["status", "tiny", "--store", self.store_url, "--json"]
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, env=self.environment, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def content(self) -> Content:
        """Read everything back, from the files themselves."""
        store, pixels, scores = open_store(self.store_url), {}, {}
        paths = SweepPaths("tiny")
        sweep = Sweep.from_json(store.get(paths.resolved))
        for configuration in sweep.configurations:
            own = paths.configuration(configuration.fingerprint)
            (extractor,) = configuration.extractors
            key = extractor_key(extractor.name, extractor.weights or "")
            ledger = scan(store, own, [key])
            assert not ledger.damaged
            assert not ledger.snapshots, "snapshots were left behind"
            assert sum(len(done) for done in ledger.done) == configuration.samples
            for marker in ledger.images:
                for block in committed_images(store, own.images, marker):
                    for index, image in zip(block.index.tolist(), block.images, strict=True):
                        pixels[configuration.row, block.step, index] = image.tobytes()
            result = Result.model_validate_json(store.get(own.result(key, "digits-train")))
            scores[configuration.row] = [stage.model_dump(mode="json") for stage in result.stages]
        return Content(pixels, scores)

    def files(self, kind: str) -> list[Path]:
        """Files below images/, features/ or snapshots/ of any configuration, in a folder."""
        return sorted(path for path in self.store.root.glob(f"tiny/*/{kind}/**/*") if path.is_file())


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        kill_all(process)
    return process.returncode, output


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something to happen while a run goes on."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, f"the run ended first:\n{process.stdout.read()}"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def worker_processes(process: subprocess.Popen[str]) -> list[int]:
    """Of the run's own actors."""
    return [pid for pid in descendants(process.pid) if name_of(pid).startswith("ray::ShardWorker")]


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a run and everything below it."""
    for pid in [process.pid, *descendants(process.pid)] if process.poll() is None else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it died with its parent
            continue
