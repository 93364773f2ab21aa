"""Folders of Hugging Face diffusers: which files of one make a model.

Either a pipeline, with the folders `unet` and `scheduler`, or the network's own folder with the scheduler's
file in it. Nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.inputs.modelfiles import UnresolvedError
from sdesampling.configs import ModelConfig, ModelError
from sdesampling.diffusers_pipelines import pipeline_config

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def read_pipeline(folder: Path) -> tuple[ModelConfig, Path]:
    """Configuration and weight file of a pipeline's folder.

    Raises UnresolvedError when a file is missing or describes nothing that is supported.
    """
    network = folder / "unet" if (folder / "unet").is_dir() else folder
    schedulers = (folder / "scheduler" / "scheduler_config.json", network / "scheduler_config.json")
    unet = _json(network / "config.json", folder)
    scheduler = next((path for path in schedulers if path.is_file()), schedulers[0])
    try:
        config = pipeline_config(unet, _json(scheduler, folder))
    except ModelError as error:
        raise UnresolvedError(f"{folder}: {error}") from None
    weights = [network / name for name in WEIGHTS if (network / name).is_file()]
    if not weights:
        found = ", ".join(sorted(path.name for path in network.iterdir())) or "nothing"
        raise UnresolvedError(f"{network} has no weights ({' or '.join(WEIGHTS)}); it holds {found}")
    return config, weights[0]


def _json(path: Path, folder: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnresolvedError(
            f"{folder} is no folder of a diffusers pipeline: {path.relative_to(folder)} is missing"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnresolvedError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnresolvedError(f"{path} holds no mapping")
    return content
