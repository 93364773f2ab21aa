"""NCSNv2 (Song & Ermon 2020, arXiv 2006.09011): not conditioned on the noise, divided by its scale instead.

The names of its parameters are those of ermongroup/ncsnv2's NCSNv2, NCSNv2Deeper and NCSNv2Deepest, so that
published checkpoints load strictly. Knows labels and images, no sampler.
"""

from torch import Tensor

from sdesampling.choices import one_of
from sdesampling.networks.dilated_refinenet import STAGES, DilatedRefineNet
from sdesampling.networks.embeddings import geometric_sigmas, sigma_of_label
from sdesampling.networks.refinenet import InstanceNormPlus


class NCSNv2(DilatedRefineNet):
    """Images (batch, num_channels, image_size, image_size) and labels (batch,) to scores, as images.

    Args:
        image_size: even; `deeper` needs a multiple of 4, `deepest` of 8.
        num_channels: of the images.
        centered: images are in [-1, 1]; otherwise in [0, 1], and are brought to [-1, 1] here.
        ngf: channels of the first stage.
        depth: `standard` (CIFAR-10, CelebA), `deeper` (LSUN) or `deepest` (FFHQ).
        sigma_min, sigma_max, num_scales: geometric noise scales; a label is the index of one, counted from
            the largest, whole or fractional.

    Raises:
        ValueError: for an unknown depth and an image_size that cannot be halved so often.
    """

    sigmas: Tensor

    def __init__(
        self,
        image_size: int,
        num_channels: int,
        *,
        centered: bool = False,
        ngf: int = 128,
        depth: str = "standard",
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        num_scales: int = 232,
    ) -> None:
        one_of("depth", depth, STAGES)
        factor = 2 ** sum(name != "1" and dilation == 1 for name, _, dilation in STAGES[depth])
        if image_size % factor:
            raise ValueError(f"image_size = {image_size}: must be a multiple of {factor}")
        super().__init__(num_channels, ngf, depth, InstanceNormPlus, None)
        self.register_buffer("sigmas", geometric_sigmas(sigma_min, sigma_max, num_scales))
        self.centered = centered

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = super().forward(x if self.centered else 2 * x - 1, labels)
        return h / sigma_of_label(self.sigmas, labels)[:, None, None, None].to(h.dtype)
