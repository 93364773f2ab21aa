"""Golden numbers of the score_sde code for samplers, with their provenance in samplers_manifest.json."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def manifest() -> dict:
    """Configurations of the cases: {"steps": {case: ...}, "runs": {case: ...}}."""
    return json.loads((GOLDEN / "samplers_manifest.json").read_text())


def steps_case(name: str) -> dict[str, Tensor]:
    """Arrays of a case of single steps, by name."""
    return _case("samplers_steps.npz", name)


def runs_case(name: str) -> dict[str, Tensor]:
    """Arrays of a case of whole runs, by name."""
    return _case("samplers_runs.npz", name)


@cache
def _arrays(file: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / file) as arrays:
        return dict(arrays)


def _case(file: str, name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    found = {
        key.removeprefix(prefix): array for key, array in _arrays(file).items() if key.startswith(prefix)
    }
    return {key: torch.from_numpy(array.copy()) for key, array in found.items() if "/" not in key}
