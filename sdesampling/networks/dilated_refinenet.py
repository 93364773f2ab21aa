"""The network that NCSN and NCSNv2 share: a RefineNet whose lower stages dilate instead of shrinking.

The names of the parameters are those of ermongroup's `ncsn` and `ncsnv2`. Knows labels only to pass them on
to its norms.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from sdesampling.networks.refinenet import NormFactory, RefineBlock, ResidualBlock

#: Stages on the way down: name, channels as a multiple of the first stage's, dilation. All but the first go
#: down, that is, they halve the resolution where the dilation is 1.
STAGES: dict[str, list[tuple[str, int, int]]] = {
    "standard": [("1", 1, 1), ("2", 2, 1), ("3", 2, 2), ("4", 2, 4)],
    "deeper": [("1", 1, 1), ("2", 2, 1), ("3", 2, 1), ("4", 4, 2), ("5", 4, 4)],
    "deepest": [("1", 1, 1), ("2", 2, 1), ("3", 2, 1), ("31", 2, 1), ("4", 4, 2), ("5", 4, 4)],
}

#: Blocks on the way up, in the order of their use.
REFINEMENTS = {
    "standard": ["1", "2", "3", "4"],
    "deeper": ["1", "2", "3", "4", "5"],
    "deepest": ["1", "2", "31", "3", "4", "5"],
}


class DilatedRefineNet(nn.Module):
    """Images (batch, num_channels, height, width) in [-1, 1] and labels (batch,) to tensors of their shape.

    Args:
        num_channels: of the images.
        width: channels of the first stage (`ngf`).
        depth: a name of STAGES.
        norm: makes the norms on the way down and the last one.
        refine_norm: makes those on the way up; None for a way up without.
    """

    _body_dtype: torch.dtype | None = None  # of the inner layers where it is not that of the first one

    def __init__(
        self, num_channels: int, width: int, depth: str, norm: NormFactory, refine_norm: NormFactory | None
    ) -> None:
        super().__init__()
        self.depth = depth
        self.begin_conv = nn.Conv2d(num_channels, width, 3, padding=1)
        self.normalizer = norm(width)
        self.end_conv = nn.Conv2d(width, num_channels, 3, padding=1)
        widths = [width]
        for name, multiple, dilation in STAGES[depth]:
            outputs = multiple * width
            first = ResidualBlock(widths[-1], outputs, norm, down=name != "1", dilation=dilation)
            second = ResidualBlock(outputs, outputs, norm, down=False, dilation=dilation)
            self.add_module(f"res{name}", nn.ModuleList([first, second]))
            widths.append(outputs)
        blocks = {}
        for index, name in enumerate(REFINEMENTS[depth]):
            inputs, outputs = widths.pop(), widths[-1]
            last = index == len(REFINEMENTS[depth]) - 1
            blocks[name] = RefineBlock(
                [inputs] if index == 0 else [inputs] * 2, outputs, refine_norm, 3 if last else 1
            )
        for name in sorted(blocks):  # the order in which the checkpoints list them
            self.add_module(f"refine{name}", blocks[name])

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        layers: dict[str, Any] = dict(self.named_children())
        h = self.begin_conv(x.to(self.begin_conv.weight.dtype))
        h = h if self._body_dtype is None else h.to(self._body_dtype)
        stages = []
        for name, _, _ in STAGES[self.depth]:
            for block in layers[f"res{name}"]:
                h = block(h, labels)
            stages.append(h)
        images = [stages.pop()]
        for name in REFINEMENTS[self.depth]:
            h = layers[f"refine{name}"](images, labels, images[0].shape[2:])
            images = [stages.pop(), h] if stages else []
        h = h.to(self.end_conv.weight.dtype)
        return self.end_conv(elu(self.normalizer(h, labels))).to(x.dtype)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Bring the layers to float32, float64 or bfloat16; inputs and outputs keep theirs.

        With bfloat16 the first convolution, the last norm and the last convolution stay in float32.
        """
        edge = torch.promote_types(dtype, torch.float32)
        for name, layer in self.named_children():
            layer.to(edge if name in ("begin_conv", "normalizer", "end_conv") else dtype)
        self._body_dtype = None if dtype == edge else dtype
