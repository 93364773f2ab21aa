"""3x3 convolutions by Winograd's minimal filtering: four output pixels a side from tiles of six.

A convolution spends 9 multiplications on a pixel and a pair of channels; this one 36/16 = 2.25, and the rest
in transforms that matter little where there are many channels. A module of its own because it is the one
place where a layer is not computed as it is written. Knows tensors, no networks.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import prod

import torch
from torch import Tensor, nn

OUT = 4  # pixels a side that one tile gives
TILE = OUT + 2
SQUARES = TILE * TILE
#: Where the polynomials are evaluated, beside infinity. Powers of small numbers keep the transforms well
#: conditioned: these leave the error of an ordinary convolution, 0, +-1, +-2 leave four times that.
POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))
CHUNK = 64  # tiles worked on at a time by a thread: what they need stays in a core's cache
MIN_SIDE = 16  # pixels; below, there are too few tiles to pay for reading four times as many weights
MIN_CHANNELS = 64  # in and out; below, the transforms cost more than they save


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution. In sampling on a CPU it takes Winograd's way wherever that is the faster one.

    The transformed weight, four times the size of the weight, is made when it is first needed and again when
    the weight has changed.
    """

    _transformed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not self._pays(x):
            return super().forward(x)
        key = (self.weight.data_ptr(), self.weight._version)
        if self._transformed is None or self._transformed[0] != key:
            self._transformed = key, transform_weight(self.weight)
        return winograd(x, self._transformed[1], self.bias)

    def _pays(self, x: Tensor) -> bool:
        height, width = x.shape[2:]
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and (self.stride, self.padding) == ((1, 1), (1, 1))
            and min(height, width) >= MIN_SIDE
            and height % OUT == width % OUT == 0
            and min(self.in_channels, self.out_channels) >= MIN_CHANNELS
        )

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_transformed"}


@cache
def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Transforms (4, 6) of the output, (6, 3) of the weight and (6, 6) of the input, float64.

    Toom and Cook's construction (Lavin & Gray 2016, arXiv 1509.09308): filtering is a product of
    polynomials, known by its values at POINTS and at infinity.
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    scales = [prod(p - q for q in rest) for p, rest in zip(POINTS, others, strict=True)]
    output = [[*(p**power for p in POINTS), Fraction(power == OUT - 1)] for power in range(OUT)]
    weight = [[p**power / scale for power in range(3)] for p, scale in zip(POINTS, scales, strict=True)]
    at_infinity = [Fraction(0), Fraction(0), Fraction(1)]
    inputs = [[*_polynomial(rest), Fraction(0)] for rest in others]
    return _tensor(output), _tensor([*weight, at_infinity]), _tensor([*inputs, _polynomial(POINTS)])


def transform_weight(weight: Tensor) -> Tensor:
    """(outputs, inputs, 3, 3) to (36, inputs, outputs), computed in float64."""
    matrix = matrices()[1]
    squares = torch.einsum("ai,bj,ocij->abco", matrix, matrix, weight.detach().double())
    return squares.flatten(0, 1).to(weight.dtype)


def winograd(x: Tensor, transformed: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with zeros around: (batch, inputs, height, width) to (batch, outputs, height, width).

    transformed: of `transform_weight`. Height and width are multiples of 4. The result is channels last.
    """
    batch, inputs, height, width = x.shape
    outputs = transformed.shape[2]
    down, across = height // OUT, width // OUT
    padded = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    image, row, column, _ = padded.stride()
    tiles = padded.as_strided(
        (TILE, TILE, batch, down, across, inputs), (row, column, image, OUT * row, OUT * column, 1)
    )
    result = x.new_empty(batch, down, OUT, across, OUT, outputs)
    to_input, to_output = _on_squares()
    for images, rows in _chunks(batch, down, across):
        chunk = tiles[:, :, images, rows]
        values = torch.mm(to_input, chunk.reshape(SQUARES, -1))
        products = torch.bmm(values.view(SQUARES, -1, inputs), transformed)
        pixels = torch.mm(to_output, products.view(SQUARES, -1))
        pixels = pixels.view(OUT, OUT, *chunk.shape[2:5], outputs)
        result[images, rows].copy_(pixels.permute(2, 3, 0, 4, 1, 5))
    result = result.view(batch, height, width, outputs)
    return (result if bias is None else result.add_(bias)).permute(0, 3, 1, 2)


def _chunks(batch: int, down: int, across: int) -> list[tuple[slice, slice]]:
    """Images and rows of tiles of every chunk: some images, or some rows of one."""
    most = CHUNK * torch.get_num_threads()
    images, rows = max(1, most // (down * across)), max(1, most // across)
    return [
        (slice(i, i + images), slice(j, j + rows))
        for i in range(0, batch, images)
        for j in range(0, down, rows)
    ]


@cache
def _on_squares() -> tuple[Tensor, Tensor]:
    """The transforms of input (36, 36) and output (16, 36) for both directions at once, float32."""
    output, _, inputs = matrices()
    return torch.kron(inputs, inputs).float(), torch.kron(output, output).float()


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), of 1 first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [a - root * b for a, b in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _tensor(rows: list[list[Fraction]]) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
