"""Golden outputs of the score_sde and NCSN networks, with their provenance in networks.json."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdesampling.configs import ScoreConfig

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_config(name: str) -> ScoreConfig:
    """Configuration of a golden score model."""
    config = ScoreConfig.from_dict(json.loads((GOLDEN / "networks.json").read_text())["models"][name])
    assert isinstance(config, ScoreConfig)
    return config


@cache
def _arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "networks_io.npz") as arrays:
        return dict(arrays)


def golden_array(name: str) -> Tensor:
    """An array of networks_io.npz."""
    return torch.from_numpy(_arrays()[name].copy())


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((result - expected).abs().max() / expected.abs().max()).item()
