"""Published score models as data: network, SDE and data range, without weights.

The CIFAR-10 models of score_sde (Song et al. 2020), named as its configurations are: family of the SDE, then
the model. The models of NCSN (Song & Ermon 2019), named `ncsn/` and their data.
"""

from typing import Any

from sdesampling.models import ScoreConfig

_UNET = {"nf": 128, "ch_mult": [1, 2, 2, 2], "attn_resolutions": [16], "dropout": 0.1}

_PLUS_PLUS = {
    **_UNET,
    "resamp_with_conv": True,
    "conditional": True,
    "fir_kernel": [1, 3, 3, 1],
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_combine": "sum",
    "init_scale": 0.0,
}
_DDPM = {"name": "ddpm", **_UNET, "num_res_blocks": 2, "resamp_with_conv": True}
_DDPMPP = {"name": "ncsnpp", **_PLUS_PLUS, "fir": False, "progressive_input": "none"}
_NCSNPP = {"name": "ncsnpp", **_PLUS_PLUS, "fir": True, "progressive_input": "residual"}

_POSITIONAL = {"embedding_type": "positional"}
_FOURIER = {"embedding_type": "fourier", "fourier_scale": 16.0}
_STANDARD, _DEEP = {"num_res_blocks": 4}, {"num_res_blocks": 8}

_SCALES = 1000
_VE = {"family": "ve", "sigma_min": 0.01, "sigma_max": 50.0, "N": _SCALES}
_VP = {"family": "vp", "beta_min": 0.1, "beta_max": 20.0, "N": _SCALES}
_SUBVP = {**_VP, "family": "subvp"}


def _cifar10(sde: dict[str, Any], continuous: bool, *network: dict[str, Any]) -> ScoreConfig:
    ve = sde is _VE
    arguments = {key: value for part in network for key, value in part.items()}
    return ScoreConfig(
        shape=(3, 32, 32),
        centered=not ve,
        network={**arguments, "scale_by_sigma": ve},
        sde=sde,
        continuous=continuous,
        scales=None if continuous else _SCALES,
    )


def _ncsn(shape: tuple[int, int, int], ngf: int) -> ScoreConfig:
    return ScoreConfig(
        shape=shape,
        centered=False,
        network={"name": "ncsn", "ngf": ngf, "num_scales": 10},
        sde={"family": "ve", "sigma_min": 0.01, "sigma_max": 1.0, "N": 10},
        continuous=False,
        scales=10,
    )


PUBLISHED: dict[str, ScoreConfig] = {
    "ve/cifar10_ncsnpp": _cifar10(_VE, False, _NCSNPP, _STANDARD, _POSITIONAL),
    "ve/cifar10_ncsnpp_continuous": _cifar10(_VE, True, _NCSNPP, _STANDARD, _FOURIER),
    "ve/cifar10_ncsnpp_deep_continuous": _cifar10(_VE, True, _NCSNPP, _DEEP, _FOURIER),
    "ve/cifar10_ddpm": _cifar10(_VE, False, _DDPM),  # weights were never released
    "vp/cifar10_ddpm": _cifar10(_VP, False, _DDPM),
    "vp/cifar10_ddpm_continuous": _cifar10(_VP, True, _DDPM),
    "vp/cifar10_ddpmpp": _cifar10(_VP, False, _DDPMPP, _STANDARD, _POSITIONAL),
    "vp/cifar10_ddpmpp_continuous": _cifar10(_VP, True, _DDPMPP, _STANDARD, _POSITIONAL),
    "vp/cifar10_ddpmpp_deep_continuous": _cifar10(_VP, True, _DDPMPP, _DEEP, _POSITIONAL),
    "vp/cifar10_ncsnpp_continuous": _cifar10(_VP, True, _NCSNPP, _STANDARD, _POSITIONAL),
    "vp/cifar10_ncsnpp_deep_continuous": _cifar10(_VP, True, _NCSNPP, _DEEP, _POSITIONAL),
    "subvp/cifar10_ddpm_continuous": _cifar10(_SUBVP, True, _DDPM),
    "subvp/cifar10_ddpmpp_continuous": _cifar10(_SUBVP, True, _DDPMPP, _STANDARD, _POSITIONAL),
    "subvp/cifar10_ddpmpp_deep_continuous": _cifar10(_SUBVP, True, _DDPMPP, _DEEP, _POSITIONAL),
    "subvp/cifar10_ncsnpp_continuous": _cifar10(_SUBVP, True, _NCSNPP, _STANDARD, _POSITIONAL),
    "subvp/cifar10_ncsnpp_deep_continuous": _cifar10(_SUBVP, True, _NCSNPP, _DEEP, _POSITIONAL),
    "ncsn/cifar10": _ncsn((3, 32, 32), 128),
    "ncsn/celeba": _ncsn((3, 32, 32), 128),
    "ncsn/mnist": _ncsn((1, 28, 28), 64),
}
