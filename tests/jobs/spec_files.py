"""Small spec and model files for tests of specs; model files hold a description and no tensors."""

import json
import struct
from pathlib import Path
from typing import Any

from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.problems import SpecError

SDES = {
    "ve": {"family": "ve", "sigma_min": 0.01, "sigma_max": 8.0},
    "vp": {"family": "vp", "beta_min": 0.1, "beta_max": 20.0},
    "subvp": {"family": "subvp", "beta_min": 0.1, "beta_max": 20.0},
}


def write_model(folder: Path, name: str, **content: Any) -> Path:
    """A safetensors file that says it holds a model; its tensors are none."""
    described = {"shape": [1, 8, 8], "centered": False, **content}
    header = json.dumps({"__metadata__": {"config": json.dumps(described)}}).encode()
    path = folder / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def write_models(folder: Path) -> None:
    """Models ve, vp, subvp (score) and gan (latent)."""
    for name, sde in SDES.items():
        write_model(folder, name, family="score", sde=sde, continuous=True, scales=None)
    write_model(folder, "gan", family="latent", latent_dim=16)


def sweep_of(folder: Path, text: str, **overrides: Any) -> Sweep:
    """Write a spec into a folder, read and expand it."""
    path = folder / "spec.yaml"
    path.write_text(text)
    return expand(load_spec(path, {key.replace("__", "."): value for key, value in overrides.items()}))


def problems_of(folder: Path, text: str, **overrides: Any) -> list[str]:
    """The problems of a spec that must be refused, a line each."""
    try:
        sweep_of(folder, text, **overrides)
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    raise AssertionError("the spec was accepted")
