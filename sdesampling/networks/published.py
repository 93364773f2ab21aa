"""Published models as data: networks, SDE and data range, without weights.

The CIFAR-10 models of score_sde (Song et al. 2020), named as its configurations are: family of the SDE, then
the model. The models of NCSN (Song & Ermon 2019) and NCSNv2 (2020), named by their code and their data. GANs
and a VAE of csinva/gan-vae-pretrained-pytorch, and torch_mimicry's SN-GAN, named by their data.
"""

from typing import Any

from sdesampling.configs import DecoderConfig, LatentConfig, Loss, ModelConfig, ScoreConfig

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


def _ncsnv2(size: int, ngf: int, scales: int, sigma_max: float) -> ScoreConfig:
    range_ = {"sigma_min": 0.01, "sigma_max": sigma_max}
    return ScoreConfig(
        shape=(3, size, size),
        centered=False,
        network={"name": "ncsnv2", "ngf": ngf, "num_scales": scales, **range_},
        sde={"family": "ve", "N": scales, **range_},
        continuous=False,
        scales=scales,
    )


def _gan(
    shape: tuple[int, int, int], latent_dim: int, networks: str, loss: Loss = "logistic", **arguments: Any
) -> LatentConfig:
    return LatentConfig(
        shape=shape,
        centered=True,
        generator={"name": f"{networks}_generator", **arguments},
        discriminator={"name": f"{networks}_discriminator", **arguments},
        latent_dim=latent_dim,
        loss=loss,
    )


PUBLISHED: dict[str, ModelConfig] = {
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
    "ncsnv2/cifar10": _ncsnv2(32, 128, 232, 50.0),
    "ncsnv2/celeba": _ncsnv2(64, 128, 500, 90.0),
    "mnist_mlp_gan": _gan((1, 28, 28), 64, "mnist_mlp"),
    "mnist_dcgan": _gan((1, 28, 28), 100, "csinva_dcgan", data="mnist"),
    "cifar10_dcgan": _gan((3, 32, 32), 100, "csinva_dcgan", data="cifar10"),
    "cifar10_sngan": _gan((3, 32, 32), 128, "sngan", "hinge"),
    "mnist_vae": DecoderConfig(
        shape=(1, 28, 28), centered=False, decoder={"name": "mnist_vae_decoder"}, latent_dim=20
    ),
}

#: Models of which no weights were ever released.
UNRELEASED = (
    "ve/cifar10_ddpm",
    "vp/cifar10_ncsnpp_continuous",
    "vp/cifar10_ncsnpp_deep_continuous",
    "subvp/cifar10_ncsnpp_continuous",
    "subvp/cifar10_ncsnpp_deep_continuous",
)

_ARCHITECTURES = {
    "ddpm": "DDPM",
    "ncsn": "NCSN",
    "ncsnv2": "NCSNv2",
    "sngan_generator": "SN-GAN",
    "csinva_dcgan_generator": "DCGAN",
    "dcgan_generator": "DCGAN",
    "mnist_mlp_generator": "MLP GAN",
    "mnist_vae_decoder": "VAE",
    "diffusers_unet": "UNet2DModel of diffusers",
}


def architecture(config: ModelConfig) -> str:
    """What papers call a model's networks, such as NCSN++ deep; else the registered name."""
    name = config.network_names[0]
    if name != "ncsnpp" or not isinstance(config, ScoreConfig):
        return _ARCHITECTURES.get(name, name)
    fir = config.network.get("progressive_input", "residual") != "none"
    deep = " deep" if config.network.get("num_res_blocks", 4) >= 8 else ""
    return ("NCSN++" if fir else "DDPM++") + deep


def place_in_training(name: str, step: int) -> str:
    """Whether a checkpoint of score_sde is the best or the last one of its training; empty for other models.

    Two checkpoints of a model were released: the one with the smaller step is the best by FID (Song et al.
    2020, table 3), the other one the last (table 2).
    """
    if name.partition("/")[0] not in ("ve", "vp", "subvp"):
        return ""
    steps = 950_000 if name.endswith("_deep_continuous") else 1_300_000  # n_iters in score_sde
    if step >= steps:
        return f"the last of its training of {steps:,} steps (table 2: likelihoods, ODE samples)"
    return (
        f"before the end of its training of {steps:,} steps: of two released ones this is the best by FID "
        "(table 3)"
    )
