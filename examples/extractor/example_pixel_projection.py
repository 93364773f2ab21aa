"""A random projection of coarse pixels as a feature network, for images of any size.

No good features, but cheap ones that separate digits from noise; a pattern for an extractor of one's own.
`python -m example_pixel_projection weights.pth` writes its weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from fid.extractors.base import NetworkExtractor, file_sha256, load_weights, read_weights

GRID, FEATURES = 7, 12


class Projection(nn.Module):
    """Images (batch, 1, height, width) to features (batch, 12), and no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(GRID * GRID, FEATURES, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.matrix(nn.functional.adaptive_avg_pool2d(images, GRID).flatten(1)), None


def load(weights: Path, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The extractor with the weights of a file: what the entry point names, and sdesweep calls."""
    network = Projection()
    load_weights(network, read_weights(weights), weights)
    identity = {**load.identity, "weights": file_sha256(weights)}
    return NetworkExtractor("pixel-projection", network, _prepare, identity, channels=1, device=device)


#: Known before any weights are read. `network` is the registered name.
load.identity = {
    "network": "pixel-projection",
    "layer": "linear",
    "dimension": FEATURES,
    "resize": f"average pool {GRID}x{GRID}",
    "normalisation": "x / 255",
}
load.logits = 0  # width of class logits, which the inception score needs; 0: none


def _prepare(images: Tensor) -> Tensor:
    return images.float() / 255


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Projection().state_dict(), sys.argv[1])
