"""The U-Net of DDPM (Ho et al. 2020) as score_sde has it, for VP and for discrete VE models.

DDPM++ grew out of it, so it is NCSN++'s class without the additions; the names and the order of its
parameters are those of score_sde's `ddpm`, so that published checkpoints load strictly.
"""

from collections.abc import Sequence
from typing import Any

from sdesampling.networks.ncsnpp import NCSNpp
from sdesampling.networks.residual import ResidualBlock


class DDPMResidualBlock(ResidualBlock):
    """A residual block whose parameters are listed norms first: averaged weights are stored in that order."""

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        for name in ("Conv_0", "Conv_1", "Dense_0", "NIN_0"):
            if hasattr(self, name):
                layer = getattr(self, name)
                delattr(self, name)
                setattr(self, name, layer)


class DDPM(NCSNpp):
    """Images (batch, num_channels, image_size, image_size) and labels (batch,) to a score or noise so shaped.

    Group norms have 32 groups, so nf is a multiple of 32.

    Args:
        image_size, num_channels: of the images.
        centered: images are in [-1, 1]; otherwise in [0, 1], and are brought to [-1, 1] here.
        nf: channels at full resolution.
        ch_mult: channels at each resolution, full, half, ..., as multiples of nf.
        num_res_blocks: residual blocks at each resolution on the way down; one more on the way up.
        attn_resolutions: sides in pixels at which self-attention follows the blocks.
        dropout: probability, in train mode.
        resamp_with_conv: resampling by a 3x3 convolution.
        conditional: conditioned on the labels.
        nonlinearity: `swish`, `relu`, `elu` or `lrelu`.
        scale_by_sigma, sigma_min, sigma_max, num_scales: as in NCSN++; labels are indices of scales.

    Raises:
        ValueError: for unknown choices, and for sizes that do not fit each other.
    """

    _block = DDPMResidualBlock

    def __init__(
        self,
        image_size: int,
        num_channels: int,
        *,
        centered: bool = True,
        nf: int = 128,
        ch_mult: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 2,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        resamp_with_conv: bool = True,
        conditional: bool = True,
        nonlinearity: str = "swish",
        scale_by_sigma: bool = False,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        num_scales: int = 1000,
    ) -> None:
        super().__init__(
            image_size,
            num_channels,
            centered=centered,
            nf=nf,
            ch_mult=ch_mult,
            num_res_blocks=num_res_blocks,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
            resamp_with_conv=resamp_with_conv,
            conditional=conditional,
            fir=False,
            skip_rescale=False,
            resblock_type="ddpm",
            progressive_input="none",
            embedding_type="positional",
            nonlinearity=nonlinearity,
            scale_by_sigma=scale_by_sigma,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            num_scales=num_scales,
        )

    def _groups(self, channels: int) -> int:
        if channels % 32:
            raise ValueError(
                f"{channels} channels cannot be normalised in 32 groups: take nf a multiple of 32"
            )
        return 32
