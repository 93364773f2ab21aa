"""Configurations of others as this project's: the nested data that score_sde, NCSN and NCSNv2 have.

So that checkpoints of other sizes and variants than the published ones load with the file they were trained
with. Knows mappings, no file formats.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sdesampling.choices import one_of
from sdesampling.configs import ModelConfig, ModelError, ScoreConfig
from sdesampling.networks import NETWORKS

_SDES = {
    "vesde": ("ve", ("sigma_min", "sigma_max")),
    "vpsde": ("vp", ("beta_min", "beta_max")),
    "subvpsde": ("subvp", ("beta_min", "beta_max")),
}
_NCSNV2_DEPTHS = {"ncsnv2_64": "standard", "ncsnv2_128": "deeper", "ncsnv2_256": "deepest"}
#: What networks of others can be told but these are not: the one value that is built in.
_BUILT_IN = {"normalization": "GroupNorm", "attention_type": "ddpm", "conv_size": 3}
_BUILT_IN_NCSN = {
    "normalization": "InstanceNorm++",
    "nonlinearity": "elu",
    "sigma_dist": "geometric",
    "spec_norm": False,
    "batch_norm": False,
}


def model_config(content: Mapping[str, Any]) -> ModelConfig:
    """The configuration that a mapping describes: this project's own, score_sde's, NCSN's or NCSNv2's.

    Raises ModelError, with the key, for anything else.
    """
    if "family" in content:
        return ModelConfig.from_dict(content)
    parts = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    if not {"model", "data"} <= parts.keys():
        keys = ", ".join(map(str, list(content)[:6])) or "none"
        raise ModelError(
            "no configuration of a model: give `family` and its keys (docs/models.md), or the configuration "
            f"of score_sde or NCSN with its sections model, data and training; the keys here are {keys}"
        )
    if "sde" in parts.get("training", {}):
        return _score_sde(parts["model"], parts["data"], parts["training"])
    return _ncsn(parts["model"], parts["data"])


def _score_sde(model: Mapping[str, Any], data: Mapping[str, Any], training: Mapping[str, Any]) -> ScoreConfig:
    try:
        one_of("training.sde", str(training["sde"]).lower(), _SDES)
        one_of("model.name", model.get("name"), ("ncsnpp", "ddpm", "ncsn", *_NCSNV2_DEPTHS))
    except ValueError as error:
        raise ModelError(str(error)) from None
    family, names = _SDES[str(training["sde"]).lower()]
    scales = _given("model", model, "num_scales")
    continuous = family == "subvp" or bool(_given("training", training, "continuous"))
    side = _given("data", data, "image_size")
    return _checked(
        shape=[_given("data", data, "num_channels"), side, side],
        centered=bool(_given("data", data, "centered")),
        network=_score_sde_network(model, scales),
        sde={"family": family, "N": scales, **{name: float(_given("model", model, name)) for name in names}},
        continuous=continuous,
        scales=None if continuous else scales,
    )


def _score_sde_network(model: Mapping[str, Any], scales: int) -> dict[str, Any]:
    name = model["name"]
    if name in ("ncsnpp", "ddpm"):
        _check_built_in(model, _BUILT_IN)
        taken = inspect.signature(NETWORKS[name]).parameters
        arguments = {
            key: value.lower() if isinstance(value, str) else _plain(value)  # score_sde takes either case
            for key, value in model.items()
            if key in taken and key != "name"
        }
        return {"name": name, **arguments}
    _check_built_in(model, _BUILT_IN_NCSN)
    if name == "ncsn":
        return {"name": "ncsn", "ngf": _given("model", model, "nf"), "num_scales": scales}
    return {
        "name": "ncsnv2",
        "ngf": _given("model", model, "nf"),
        "depth": _NCSNV2_DEPTHS[name],
        "num_scales": scales,
        **{key: float(_given("model", model, key)) for key in ("sigma_min", "sigma_max")},
    }


def _ncsn(model: Mapping[str, Any], data: Mapping[str, Any]) -> ScoreConfig:
    """ermongroup/ncsn and ncsnv2, which differ in that the latter names its normalisation."""
    _check_built_in(model, _BUILT_IN_NCSN)
    if data.get("logit_transform"):
        raise ModelError("data.logit_transform = True: only images in [0, 1] are supported")
    scales = _given("model", model, "num_classes")
    largest, smallest = (float(_given("model", model, key)) for key in ("sigma_begin", "sigma_end"))
    side = _given("data", data, "image_size")
    network = {"name": "ncsn", "ngf": _given("model", model, "ngf"), "num_scales": scales}
    if "normalization" in model:
        depth = {"LSUN": "deeper", "FFHQ": "deepest"}.get(str(data.get("dataset")), "standard")
        network |= {"name": "ncsnv2", "depth": depth, "sigma_min": smallest, "sigma_max": largest}
    return _checked(
        shape=[_given("data", data, "channels"), side, side],
        centered=bool(data.get("rescaled", False)),
        network=network,
        sde={"family": "ve", "sigma_min": smallest, "sigma_max": largest, "N": scales},
        continuous=False,
        scales=scales,
    )


def _check_built_in(model: Mapping[str, Any], built_in: Mapping[str, Any]) -> None:
    for key, value in built_in.items():
        if key in model and model[key] != value:
            raise ModelError(f"model.{key} = {model[key]!r}: only {value!r} is supported")


def _checked(**fields: Any) -> ScoreConfig:
    config = ModelConfig.from_dict({"family": "score", **fields})
    assert isinstance(config, ScoreConfig)
    return config


def _given(section: str, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ModelError(f"{section}.{key} is missing from the configuration")
    return content[key]


def _plain(value: Any) -> Any:
    """Tuples as lists, as they are written in files."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
