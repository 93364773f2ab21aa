"""Pipelines of Hugging Face diffusers as configurations: a UNet2DModel and the scheduler it was trained with.

Knows the mappings that diffusers writes as JSON, no files and nothing of the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdesampling.configs import ModelConfig, ModelError, ScoreConfig

#: Schedulers that sample from DDPM's discretely trained noise prediction, in whatever way.
DDPM_SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)


def pipeline_config(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> ScoreConfig:
    """The configuration of a pipeline: VE, VP, or noise prediction on DDPM's linear betas.

    unet, scheduler: what their config files hold.
    Raises ModelError, with the key, for pipelines that are none of these.
    """
    if unet.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ModelError(f"the network is a {unet['_class_name']}: only UNet2DModel is supported")
    if unet.get("class_embed_type") is not None or unet.get("num_class_embeds") is not None:
        raise ModelError("the network is conditioned on classes, which is not supported")
    side, channels = unet.get("sample_size"), unet.get("in_channels", 3)
    if isinstance(side, list) and len(set(side)) == 1:
        side = side[0]
    if not isinstance(side, int):
        raise ModelError(f"sample_size = {side!r} of the network: must be one whole number")
    kind = scheduler.get("_class_name")
    if kind == "ScoreSdeVeScheduler":
        sde, continuous = _ve(unet, scheduler), True
    elif kind == "ScoreSdeVpScheduler":
        sde, continuous = _vp(scheduler), True
    elif kind in DDPM_SCHEDULERS:
        sde, continuous = _ddpm(scheduler), False
    else:
        raise ModelError(
            f"scheduler {kind!r}: the SDE is known for ScoreSdeVeScheduler, ScoreSdeVpScheduler, "
            + ", ".join(DDPM_SCHEDULERS)
        )
    config = ModelConfig.from_dict(
        {
            "family": "score",
            "shape": [channels, side, side],
            "centered": sde["family"] != "ve",
            "network": {"name": "diffusers_unet", "unet": _plain(unet)},
            "sde": sde,
            "continuous": continuous,
            "scales": None if continuous else sde["N"],
        }
    )
    assert isinstance(config, ScoreConfig)
    return config


def _ve(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> dict[str, Any]:
    if unet.get("time_embedding_type", "positional") != "fourier":
        raise ModelError("a VE network that is not told sigmas (time_embedding_type fourier)")
    return {
        "family": "ve",
        "sigma_min": float(scheduler.get("sigma_min", 0.01)),
        "sigma_max": float(scheduler.get("sigma_max", 1348.0)),
        "N": int(scheduler.get("num_train_timesteps", 2000)),
    }


def _vp(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    steps = int(scheduler.get("num_train_timesteps", 2000))
    if steps != 1000:
        raise ModelError(
            f"num_train_timesteps = {steps} of ScoreSdeVpScheduler: the network's labels would be "
            f"{steps - 1} t, and are 999 t here: only 1000 is supported"
        )
    betas = {
        "beta_min": float(scheduler.get("beta_min", 0.1)),
        "beta_max": float(scheduler.get("beta_max", 20)),
    }
    return {"family": "vp", **betas, "N": steps}


def _ddpm(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    for key, usual in (("prediction_type", "epsilon"), ("beta_schedule", "linear"), ("trained_betas", None)):
        if scheduler.get(key, usual) != usual:
            raise ModelError(f"{key} = {scheduler[key]!r} of the scheduler: only {usual!r} is supported")
    steps = int(scheduler.get("num_train_timesteps", 1000))
    first, last = float(scheduler.get("beta_start", 1e-4)), float(scheduler.get("beta_end", 0.02))
    return {"family": "vp", "beta_min": first * steps, "beta_max": last * steps, "N": steps}


def _plain(unet: Mapping[str, Any]) -> dict[str, Any]:
    """What describes the network, without the library's own notes."""
    return {key: value for key, value in unet.items() if not key.startswith("_")}
