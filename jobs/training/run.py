"""`sdesweep train`: runs a training in one process, saves its state, writes the weights and their record.

Must not know Ray or the store: a training writes into one folder, from which its weights are taken by hand.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from jobs.fingerprint import file_sha256, fingerprint
from jobs.inputs.datasets import read_given
from jobs.inputs.sources import Dataset
from jobs.training.loops import Loop, prepare
from jobs.training.spec import load_training_spec

Progress = Callable[[int, int, Mapping[str, float]], None]  # completed steps, all steps, present losses
CURVE_POINTS = 50  # of the losses in a record


class OtherTrainingError(RuntimeError):
    """The folder holds a training of the same name by another spec or on other data."""


@dataclass(frozen=True)
class TrainingRecord:
    """What was trained, from what, how, and what came out: written as JSON beside the weights."""

    name: str
    identity: str  # fingerprint of spec and data
    spec: dict[str, Any]
    data: dict[str, Any]  # name, number of images, content hash
    held_out: dict[str, Any]
    steps: int
    losses: list[dict[str, float]]  # means over equal stretches of the training; `step` is the end of each
    evaluation: dict[str, float]
    seconds: float  # in the loop, over all of its runs
    parameters: int
    weights: dict[str, Any]  # file, bytes, sha256
    versions: dict[str, str]


def train(spec_path: Path, out: Path, progress: Progress | None = None) -> TrainingRecord:
    """Train what a spec describes and write `NAME.safetensors` and its record `NAME.json` into a folder.

    An unfinished training leaves `NAME.state.pt` there; the same call goes on from it, to the same bits as
    without the break. A finished training is returned as it is.

    Args:
        spec_path: a training spec.
        out: folder, made where it is missing.
        progress: called about once a second, and at the end.

    Raises:
        SpecError: the spec is wrong.
        DatasetError: a data set cannot be read.
        OtherTrainingError: the folder holds another training of this name.
    """
    spec = load_training_spec(spec_path)
    data, held_out = read_given(spec.data), read_given(spec.held_out)
    settings = spec.model_dump(mode="json", exclude={"description", "data", "held_out", "save_every"})
    described = {"data": _described(data), "held_out": _described(held_out)}
    folder = _Folder(out, spec.name, fingerprint({"spec": settings, **described}))
    finished = folder.read_record()
    if finished is not None:
        return finished
    prepared = prepare(spec, data, held_out)
    curve, seconds = _run(prepared.loop, folder, spec.save_every, progress)
    prepared.save(folder.weights)
    record = TrainingRecord(
        name=spec.name,
        identity=folder.identity,
        spec=settings,
        **described,
        steps=prepared.loop.steps,
        losses=curve,
        evaluation={name: round(value, 5) for name, value in prepared.evaluate().items()},
        seconds=round(seconds, 1),
        parameters=sum(p.numel() for network in prepared.networks for p in network.parameters()),
        weights={
            "file": folder.weights.name,
            "bytes": folder.weights.stat().st_size,
            "sha256": file_sha256(folder.weights),
        },
        versions={name: version(name) for name in ("torch", "numpy", "safetensors", "sdesweep")}
        | {"python": platform.python_version()},
    )
    folder.finish(record)
    return record


def _described(data: Dataset) -> dict[str, Any]:
    return {"name": data.name, "images": len(data), "sha256": data.content_hash}


def _run(
    loop: Loop, folder: _Folder, save_every: float, progress: Progress | None
) -> tuple[list[dict[str, float]], float]:
    """Advance a loop to its end; returns the curve of its losses and the seconds of all its runs."""
    curve: list[dict[str, float]] = []
    window: list[dict[str, float]] = []  # losses since the last point of the curve
    earlier = 0.0
    state = folder.read_state()
    if state is not None:
        loop.load_state_dict(state["loop"])
        curve, window, earlier = state["curve"], state["window"], state["seconds"]
    start = saved = told = time.monotonic()
    while loop.completed < loop.steps:
        losses = loop.advance()
        window.append(losses)
        if len(window) * CURVE_POINTS >= loop.steps or loop.completed == loop.steps:
            curve.append({"step": loop.completed, **_means(window)})
            window = []
        now = time.monotonic()
        if progress is not None and (now - told >= 1 or loop.completed == loop.steps):
            progress(loop.completed, loop.steps, losses)
            told = now
        if now - saved >= save_every:
            seconds = earlier + now - start
            folder.write_state(
                {"loop": loop.state_dict(), "curve": curve, "window": window, "seconds": seconds}
            )
            saved = now
    return curve, earlier + time.monotonic() - start


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each loss over the steps that gave it."""
    names = {name: None for losses in window for name in losses}
    values = {name: [losses[name] for losses in window if name in losses] for name in names}
    return {name: round(sum(given) / len(given), 6) for name, given in values.items()}


@dataclass(frozen=True)
class _Folder:
    """The files of one training. What belongs to another training is refused, never overwritten."""

    path: Path
    name: str
    identity: str

    @property
    def weights(self) -> Path:
        return self.path / f"{self.name}.safetensors"

    @property
    def _record(self) -> Path:
        return self.path / f"{self.name}.json"

    @property
    def _state(self) -> Path:
        return self.path / f"{self.name}.state.pt"

    def read_record(self) -> TrainingRecord | None:
        """The record of a finished training, if its weights are there and unchanged."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._record.exists():
            return None
        record = TrainingRecord(**json.loads(self._record.read_text(encoding="utf-8")))
        self._check(record.identity, self._record)
        intact = self.weights.exists() and file_sha256(self.weights) == record.weights["sha256"]
        return record if intact else None

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` was given, if the training was stopped unfinished."""
        if not self._state.exists():
            return None
        state: dict[str, Any] = torch.load(self._state, weights_only=True)
        self._check(state.pop("identity"), self._state)
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Keep the state of an unfinished training in place of the one before."""
        fresh = self._state.with_suffix(".new")
        torch.save({"identity": self.identity, **state}, fresh)
        os.replace(fresh, self._state)

    def finish(self, record: TrainingRecord) -> None:
        """Write the record; the state is no longer needed."""
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        os.replace(fresh, self._record)
        self._state.unlink(missing_ok=True)

    def _check(self, identity: str, found: Path) -> None:
        if identity != self.identity:
            raise OtherTrainingError(
                f"{found} belongs to a training of {self.name!r} by another spec or on other data; "
                "choose another folder, or remove that file"
            )
