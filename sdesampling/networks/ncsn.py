"""NCSN, the score network of annealed Langevin dynamics (Song & Ermon 2019, arXiv 1907.05600, appendix A).

The names of its parameters are those of ermongroup/ncsn's CondRefineNetDilated, so that published checkpoints
load strictly. Knows labels and images, no sampler.
"""

from functools import partial

from torch import Tensor

from sdesampling.networks.dilated_refinenet import DilatedRefineNet
from sdesampling.networks.refinenet import ConditionalInstanceNormPlus


class NCSN(DilatedRefineNet):
    """Images (batch, num_channels, image_size, image_size) and labels (batch,) to scores, as images.

    Args:
        image_size: even; the network has no parameter that depends on it.
        num_channels: of the images.
        centered: images are in [-1, 1]; otherwise in [0, 1], and are brought to [-1, 1] here.
        ngf: channels of the first stage.
        num_scales: noise scales; a label is the index of one, counted from the largest.

    Raises:
        ValueError: for an odd image_size; for labels that are no whole numbers.
    """

    fractional_labels = False

    def __init__(
        self,
        image_size: int,
        num_channels: int,
        *,
        centered: bool = False,
        ngf: int = 128,
        num_scales: int = 10,
    ) -> None:
        if image_size % 2:
            raise ValueError(f"image_size = {image_size}: must be even")
        norm = partial(ConditionalInstanceNormPlus, labels=num_scales)
        super().__init__(num_channels, ngf, "standard", norm, norm)
        self.centered = centered

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            raise ValueError("NCSN knows its trained noise scales alone: labels must be whole numbers")
        return super().forward(x if self.centered else 2 * x - 1, labels)
