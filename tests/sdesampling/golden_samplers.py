"""Golden numbers of the score_sde code for samplers, with their provenance in samplers_manifest.json."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sdesampling.networks import build_network
from sdesampling.score import ScoreModel
from sdesampling.sde import VE, VP, SubVP

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


@cache
def golden_network(name: str) -> nn.Module:
    """A small network that the golden numbers were computed with: its EMA weights."""
    path = GOLDEN / f"samplers_{name}.safetensors"
    with safe_open(path, "pt") as file:
        network = build_network("ncsnpp", **json.loads(file.metadata()["network"]))
    network.load_state_dict(load_file(path))
    return network.eval()


def golden_model(case: dict[str, Any]) -> ScoreModel:
    """The score model of a case of the manifest."""
    sde = {"vesde": VE, "vpsde": VP, "subvpsde": SubVP}[case["sde"]](N=case["N"])
    return ScoreModel(golden_network(case["model"]), sde, (3, 8, 8), continuous=case["continuous"])


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())
