"""A tiny sweep that samples within milliseconds: controls need no network evaluations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.specfile import load_spec
from jobs.store import LocalStore
from jobs.sweep import Sweep, expand

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
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")
