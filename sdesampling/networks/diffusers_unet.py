"""UNet2DModel of Hugging Face diffusers as a score network.

The library itself is used, not a copy, so it must be installed; it is imported when such a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class DiffusersUNet(nn.Module):
    """Images (batch, num_channels, image_size, image_size) and labels (batch,) to a score or noise so shaped.

    Args:
        image_size, num_channels: of the images.
        centered: of the images that it takes; whatever shift the network was trained with is in its `unet`.
        unet: configuration of the UNet2DModel, as its config.json has it.

    Raises:
        ValueError: diffusers is not installed, or refuses the configuration.
    """

    def __init__(
        self, image_size: int, num_channels: int, *, centered: bool = True, unet: Mapping[str, Any]
    ) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise ValueError(
                f"network 'diffusers_unet' needs the package diffusers ({error}): "
                "pip install 'sdesweep[diffusers]'"
            ) from error
        told = {key: value for key, value in unet.items() if not key.startswith("_")}
        if told.get("in_channels") != num_channels or told.get("out_channels") != num_channels:
            raise ValueError(
                f"unet: in_channels {told.get('in_channels')} and out_channels {told.get('out_channels')} "
                f"must both be the {num_channels} of the images"
            )
        self.unet = UNet2DModel(**{**told, "sample_size": image_size})

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.unet(x, labels).sample

    @staticmethod
    def own_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a saved UNet2DModel, or of this network, by the names that they have here."""
        return {name if name.startswith("unet.") else f"unet.{name}": each for name, each in state.items()}
