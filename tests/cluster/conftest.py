"""A tiny sweep that samples within milliseconds: controls need no network evaluations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import invoke
from local_pool import LocalPool

from cluster.display import Silence
from cluster.run import run_sweep
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.store_local import LocalStore

os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it when it is first imported, by whichever test

SPEC = """
name: tiny
samples: 40
seed: 3
group_size: 8
shard_size: 16
extractor: digits-cnn
reference: digits-train
sweep:
  axes:
    control:
      real: {model: digits-heldout, sampler: {kind: real}}
      noise: {model: digits-heldout, sampler: {kind: noise}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def make_sweep(spec: Path) -> Callable[..., Sweep]:
    """The tiny sweep, with settings laid over it."""

    def make(**overrides: Any) -> Sweep:
        return expand(load_spec(spec, overrides))

    return make


@pytest.fixture
def call():
    """Call the command; return exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        result = invoke(*arguments)
        return result.exit_code, result.stdout, result.stderr

    return call


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """The tiny sweep, finished; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(SPEC)
    store = LocalStore(folder / "store")
    sweep = expand(load_spec(folder / "tiny.yaml"))
    outcome = run_sweep(store, sweep, LocalPool(store).open, Silence(), ["sdesweep", "run"])
    assert outcome.exit_code == 0
    return store


@pytest.fixture
def filled(store: LocalStore, finished_store: LocalStore) -> LocalStore:
    """A copy of the finished store."""
    shutil.copytree(finished_store.root, store.root)
    return store
