"""Weights of the FID Inception that need no download: made by a formula that the golden numbers used too."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


def formula_made(name: str, shape: list[int]) -> torch.Tensor:
    """Normal numbers seeded by the tensor's name, scaled by its kind."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        values = 1 + 0.2 * generator.random(shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * generator.standard_normal(shape)
    elif len(shape) == 1:
        values = 1 + 0.1 * generator.standard_normal(shape)
    else:
        values = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values)).float()


def write_formula_made(path: Path) -> None:
    """A weight file in the layout of the published ports."""
    recipe = json.loads((GOLDEN / "fid_inception.json").read_text())
    tensors = {name: formula_made(name, shape) for name, shape in recipe["tensors"].items()}
    torch.save(tensors, path)
