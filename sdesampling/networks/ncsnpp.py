"""NCSN++ and DDPM++, the score networks of Song et al. 2020 (arXiv 2011.13456, appendix H).

One class: the names and the order of its parameters are those of score_sde's `ncsnpp`, so that published
checkpoints load strictly. Knows labels and images, no SDE and no sampler.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from sdesampling.choices import one_of
from sdesampling.networks.attention import Attention
from sdesampling.networks.embeddings import (
    GaussianFourierProjection,
    geometric_sigmas,
    positional_embedding,
    sigma_of_label,
)
from sdesampling.networks.layers import check_sizes, conv3x3, groups_of, linear, rescaled_sum
from sdesampling.networks.normalisation import NONLINEARITIES, normalise
from sdesampling.networks.resampling import Combine, PlainResampleConv2d, Resample, ResampleConv2d
from sdesampling.networks.residual import ResidualBlock


class NCSNpp(nn.Module):
    """Images (batch, num_channels, image_size, image_size) and labels (batch,) to a score or noise so shaped.

    Args:
        image_size, num_channels: of the images.
        centered: images are in [-1, 1]; otherwise in [0, 1], and are brought to [-1, 1] here.
        nf: channels at full resolution.
        ch_mult: channels at each resolution, full, half, ..., as multiples of nf.
        num_res_blocks: residual blocks at each resolution on the way down; one more on the way up.
        attn_resolutions: sides in pixels at which self-attention follows the blocks.
        dropout: probability, in train mode.
        resamp_with_conv: resampling by a 3x3 convolution (blocks of type `ddpm` only).
        conditional: conditioned on the labels.
        fir, fir_kernel: filter against aliasing when resampling, and its taps.
        skip_rescale: divide the sums of skip connections by sqrt(2).
        resblock_type: `biggan` or `ddpm`.
        progressive: output built up over the resolutions: `none`, `output_skip` or `residual`.
        progressive_input: input given at every resolution: `none`, `input_skip` or `residual`.
        progressive_combine: how `input_skip` joins: `sum` or `cat`.
        embedding_type: `fourier` (labels are noise scales sigma) or `positional` (labels are times or indices
            of scales, whole or fractional).
        fourier_scale: standard deviation of the Fourier frequencies.
        init_scale: of the layers that start as good as silent.
        nonlinearity: `swish`, `relu`, `elu` or `lrelu`.
        scale_by_sigma: divide the output by the noise scale: that of the label's index among `num_scales`
            scales from sigma_max down to sigma_min (interpolated geometrically for fractional labels), or
            with `fourier` the label itself.
        num_classes: of a class-conditional network: an embedding of the class is added to that of the label.

    Raises:
        ValueError: for unknown choices, and for sizes that do not fit each other.
    """

    sigmas: Tensor
    _block: type[ResidualBlock] = ResidualBlock
    _body_dtype: torch.dtype | None = None  # of the inner layers where it is not that of the first one

    def __init__(
        self,
        image_size: int,
        num_channels: int,
        *,
        centered: bool = False,
        nf: int = 128,
        ch_mult: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        resamp_with_conv: bool = True,
        conditional: bool = True,
        fir: bool = True,
        fir_kernel: Sequence[float] = (1, 3, 3, 1),
        skip_rescale: bool = True,
        resblock_type: str = "biggan",
        progressive: str = "none",
        progressive_input: str = "residual",
        progressive_combine: str = "sum",
        embedding_type: str = "fourier",
        fourier_scale: float = 16.0,
        init_scale: float = 0.0,
        nonlinearity: str = "swish",
        scale_by_sigma: bool = True,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        num_scales: int = 1000,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None and (num_classes < 1 or not conditional):
            raise ValueError(f"num_classes = {num_classes}: must be at least 1, and conditional true")
        one_of("resblock_type", resblock_type, ("biggan", "ddpm"))
        one_of("progressive", progressive, ("none", "output_skip", "residual"))
        one_of("progressive_input", progressive_input, ("none", "input_skip", "residual"))
        one_of("progressive_combine", progressive_combine, ("sum", "cat"))
        one_of("embedding_type", embedding_type, ("positional", "fourier"))
        one_of("nonlinearity", nonlinearity, NONLINEARITIES)
        check_sizes(image_size, nf, ch_mult)
        self.image_size, self.num_channels, self.centered = image_size, num_channels, centered
        self.nf, self.ch_mult, self.num_res_blocks = nf, tuple(ch_mult), num_res_blocks
        self.attn_resolutions = tuple(attn_resolutions)
        self.conditional, self.embedding_type = conditional, embedding_type
        self.progressive, self.progressive_input = progressive, progressive_input
        self.progressive_combine = progressive_combine
        self.resblock_type, self.resamp_with_conv = resblock_type, resamp_with_conv
        self.taps = tuple(fir_kernel) if fir else ()
        self.gain = math.sqrt(0.5) if skip_rescale else 1.0
        self.init_scale, self.dropout, self.nonlinearity = init_scale, dropout, nonlinearity
        self.scale_by_sigma = scale_by_sigma
        self.activation = NONLINEARITIES[nonlinearity]
        self.register_buffer("sigmas", geometric_sigmas(sigma_min, sigma_max, num_scales))
        widths = [nf]  # channels of the skip connections
        self.all_modules = nn.ModuleList(
            [*self._embedding_layers(fourier_scale), *self._down_layers(widths), *self._up_layers(widths)]
        )
        self.num_classes = num_classes
        if num_classes is not None:
            self.class_embedding = nn.Embedding(num_classes, 4 * nf)
        convert_conv2d_weight_memory_format(self, torch.channels_last)  # in which convolutions are fastest

    # --- construction: the order is that of the published checkpoints ---------------------------------------

    def _embedding_layers(self, fourier_scale: float) -> Iterator[nn.Module]:
        features = self.nf
        if self.embedding_type == "fourier":
            yield GaussianFourierProjection(self.nf, fourier_scale)
            features = 2 * self.nf
        if self.conditional:
            yield linear(features, 4 * self.nf)
            yield linear(4 * self.nf, 4 * self.nf)

    def _down_layers(self, widths: list[int]) -> Iterator[nn.Module]:
        """Layers down to the lowest resolution; appends the channels of every skip connection to `widths`."""
        yield conv3x3(self.num_channels, self.nf)
        width, pyramid = self.nf, self.num_channels
        for level, multiple in enumerate(self.ch_mult):
            for _ in range(self.num_res_blocks):
                yield self._residual(width, self.nf * multiple)
                width = self.nf * multiple
                if self._attends(level):
                    yield self._attention(width)
                widths.append(width)
            if level == len(self.ch_mult) - 1:
                return
            yield self._resampling("down", width)
            if self.progressive_input == "input_skip":
                yield self._pyramid_resampling("down", pyramid)
                yield Combine(pyramid, width, self.progressive_combine)
                width *= 2 if self.progressive_combine == "cat" else 1
            elif self.progressive_input == "residual":
                yield self._pyramid_resampling("down", pyramid, width)
                pyramid = width
            widths.append(width)

    def _up_layers(self, widths: list[int]) -> Iterator[nn.Module]:
        """Layers at the lowest resolution and back to the full one; takes the widths from the end."""
        width = widths[-1]
        yield self._residual(width, width)
        yield self._attention(width)
        yield self._residual(width, width)
        for level in reversed(range(len(self.ch_mult))):
            for _ in range(self.num_res_blocks + 1):
                yield self._residual(width + widths.pop(), self.nf * self.ch_mult[level])
                width = self.nf * self.ch_mult[level]
            if self._attends(level):
                yield self._attention(width)
            yield from self._pyramid_layers(level, width)
            if level > 0:
                yield self._resampling("up", width)
        if self.progressive != "output_skip":
            yield nn.GroupNorm(self._groups(width), width, eps=1e-6)
            yield conv3x3(width, self.num_channels, self.init_scale)

    def _pyramid_layers(self, level: int, width: int) -> Iterator[nn.Module]:
        """What builds up the output at one resolution."""
        lowest = level == len(self.ch_mult) - 1
        if self.progressive == "output_skip":
            if not lowest:
                yield self._pyramid_resampling("up", self.num_channels)
            yield nn.GroupNorm(self._groups(width), width, eps=1e-6)
            yield conv3x3(width, self.num_channels, self.init_scale)
        elif self.progressive == "residual":
            if lowest:
                yield nn.GroupNorm(self._groups(width), width, eps=1e-6)
                yield conv3x3(width, width)
            else:
                yield self._pyramid_resampling("up", self.nf * self.ch_mult[level + 1], width)

    def _attends(self, level: int) -> bool:
        return self.image_size // 2**level in self.attn_resolutions

    def _groups(self, channels: int) -> int:
        """Groups of a group norm."""
        return groups_of(channels)

    def _attention(self, width: int) -> nn.Module:
        return Attention(width, self._groups(width), self.init_scale, skip_rescale=self.gain != 1)

    def _residual(self, inputs: int, outputs: int, direction: str | None = None) -> nn.Module:
        return self._block(
            inputs,
            outputs,
            (self._groups(inputs), self._groups(outputs)),
            4 * self.nf,
            nonlinearity=self.nonlinearity,
            dropout=self.dropout,
            init_scale=self.init_scale,
            skip_rescale=self.gain != 1,
            style=self.resblock_type,
            direction=direction,
            taps=self.taps,
        )

    def _resampling(self, direction: str, width: int) -> nn.Module:
        if self.resblock_type == "biggan":
            return self._residual(width, width, direction)
        if self.resamp_with_conv:
            return self._pyramid_resampling(direction, width, width)
        return Resample(direction, self.taps)

    def _pyramid_resampling(self, direction: str, inputs: int, outputs: int | None = None) -> nn.Module:
        """Without parameters, or with a 3x3 convolution where the outputs are given."""
        if outputs is None:
            return Resample(direction, self.taps)
        if self.taps:
            return ResampleConv2d(direction, inputs, outputs, self.taps)
        return PlainResampleConv2d(direction, inputs, outputs)

    # --- precision ------------------------------------------------------------------------------------------

    def set_precision(self, dtype: torch.dtype) -> None:
        """Bring the layers to float32, float64 or bfloat16; inputs and outputs keep theirs.

        Unlike `to(dtype)` this leaves Fourier frequencies and noise scales in float32: in bfloat16 they alone
        would cost 13 % of the output. So are, with bfloat16, the layers that see labels or images and those
        that give the output, which cost next to nothing.
        """
        edge = torch.promote_types(dtype, torch.float32)
        edges = {id(layer) for layer in self._edge_layers()}
        for layer in self.all_modules:
            if not isinstance(layer, GaussianFourierProjection):
                layer.to(edge if id(layer) in edges else dtype)
        self._body_dtype = None if dtype == edge else dtype

    def _edge_layers(self) -> list[nn.Module]:
        """Layers of the embedding, the first convolution, and the last group norm and convolution."""
        last = 0 if self.progressive == "output_skip" else 2
        layers = list(self.all_modules)
        return layers[: self._first_convolution + 1] + layers[len(layers) - last :]

    @property
    def _first_convolution(self) -> int:
        """Its place among all modules, after the layers of the embedding."""
        return (self.embedding_type == "fourier") + 2 * self.conditional

    def _to_body(self, tensor: Tensor) -> Tensor:
        """In the precision of the layers between the first and the last one."""
        return tensor if self._body_dtype is None else tensor.to(self._body_dtype)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the layers that see labels and images."""
        return next(self.all_modules[self._first_convolution].parameters()).dtype

    # --- evaluation -----------------------------------------------------------------------------------------

    def forward(self, x: Tensor, labels: Tensor, classes: Tensor | None = None) -> Tensor:
        """x: (batch, num_channels, image_size, image_size). labels: (batch,), floating point or whole.

        classes: int64 (batch,), of a class-conditional network.

        Raises ValueError for images of another shape.
        """
        if x.shape[1:] != (self.num_channels, self.image_size, self.image_size):
            raise ValueError(
                f"images of shape {tuple(x.shape[1:])}: the network takes "
                f"({self.num_channels}, {self.image_size}, {self.image_size})"
            )
        layers = iter(self.all_modules)
        embedding = self._embed(labels, classes, layers)
        h = x if self.centered else 2 * x - 1
        h = h.to(self._dtype).contiguous(memory_format=torch.channels_last)
        skips = self._down(h, embedding, layers)
        h = next(layers)(skips[-1], embedding)
        h = next(layers)(h)
        h = next(layers)(h, embedding)
        h = self._up(h, skips, embedding, layers)
        h = h.to(x.dtype)
        if not self.scale_by_sigma:
            return h
        sigma = labels if self.embedding_type == "fourier" else sigma_of_label(self.sigmas, labels)
        return h / sigma[:, None, None, None].to(h.dtype)

    def _embed(self, labels: Tensor, classes: Tensor | None, layers: Iterator[Any]) -> Tensor | None:
        """Embedding of labels and classes after its nonlinearity, (batch, 4 nf); None when not conditional.

        One row stands for all where the labels are the same, as samplers' are (asked on CPUs alone, because
        on a GPU the question would wait for the device).
        """
        if labels.device.type == "cpu" and not torch.is_grad_enabled() and (labels == labels[0]).all():
            labels = labels[:1]
        if self.embedding_type == "fourier":
            features = next(layers)(labels.log())
        else:
            features = positional_embedding(labels, self.nf)
        if not self.conditional:
            return None
        first, second = next(layers), next(layers)
        embedding = second(self.activation(first(features.to(self._dtype))))
        if self.num_classes is not None:
            if classes is None:
                raise ValueError("a class-conditional network has to be told the classes of its images")
            embedding = embedding + self.class_embedding(classes)
        return self._to_body(self.activation(embedding))

    def _down(self, x: Tensor, embedding: Tensor | None, layers: Iterator[Any]) -> list[Tensor]:
        """Skip connections from full to lowest resolution; the last one is the result."""
        pyramid = self._to_body(x)
        skips = [self._to_body(next(layers)(x))]
        for level in range(len(self.ch_mult)):
            for _ in range(self.num_res_blocks):
                h = next(layers)(skips[-1], embedding)
                skips.append(next(layers)(h) if self._attends(level) else h)
            if level == len(self.ch_mult) - 1:
                break
            h = self._resample(skips[-1], embedding, layers)
            if self.progressive_input != "none":
                pyramid = next(layers)(pyramid)
            if self.progressive_input == "input_skip":
                h = next(layers)(pyramid, h)
            elif self.progressive_input == "residual":
                h = pyramid = rescaled_sum(pyramid, h, self.gain)
            skips.append(h)
        return skips

    def _up(self, h: Tensor, skips: list[Tensor], embedding: Tensor | None, layers: Iterator[Any]) -> Tensor:
        """The network's output, before any division by sigma; takes the skip connections from the end."""
        pyramid: Tensor | None = None
        for level in reversed(range(len(self.ch_mult))):
            for _ in range(self.num_res_blocks + 1):
                h = next(layers)(torch.cat([h, skips.pop()], dim=1), embedding)
            if self._attends(level):
                h = next(layers)(h)
            if self.progressive == "residual" and pyramid is not None:
                h = pyramid = rescaled_sum(next(layers)(pyramid), h, self.gain)
            elif self.progressive == "output_skip" and pyramid is not None:
                pyramid = next(layers)(pyramid) + self._project(h, layers)
            elif self.progressive != "none":
                pyramid = self._project(h, layers)
            if level > 0:
                h = self._resample(h, embedding, layers)
        if self.progressive == "output_skip" and pyramid is not None:
            return pyramid
        return self._project(h.to(self._dtype), layers)

    def _project(self, h: Tensor, layers: Iterator[Any]) -> Tensor:
        """Group norm, nonlinearity, convolution."""
        normalised = self.activation(normalise(next(layers), h))
        return next(layers)(normalised)

    def _resample(self, h: Tensor, embedding: Tensor | None, layers: Iterator[Any]) -> Tensor:
        layer = next(layers)
        return layer(h, embedding) if self.resblock_type == "biggan" else layer(h)
