"""What may have happened to stored images: each fault as a map from sound uint8 images to damaged ones.

A module of its own because a fault is shown by repeating it: where sound images, damaged in the same way, are
like the ones in question, it has its name. It must not know how likeness is measured.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample, interpolate

from fid.audit.pixels import colours_used

PALETTE = 256  # colours at most
_BLOCK = 16  # pixels of a side of JPEG's unit in colour
_SHEET = 4096  # pixels of a side of many images that are coded as one

Images = NDArray[np.uint8]
Array = NDArray[np.float64]
Hypothesis = Literal["H4", "H5", "H7", "H9"]


@dataclass(frozen=True)
class Fault:
    """One change of images (count, channels, height, width) uint8 that keeps their shape."""

    family: Family
    strength: float

    @property
    def hypothesis(self) -> Hypothesis:
        """Whose case it is."""
        return self.family.hypothesis

    @property
    def name(self) -> str:
        """What happened, as a report says it."""
        return self.family.describe(self.strength)

    def apply(self, images: Images) -> Images:
        """Sound images, damaged."""
        return self.family.change(images, self.strength)


@dataclass(frozen=True)
class Family:
    """Faults that differ in strength only.

    Attributes:
        hypothesis: whose case they are.
        name: of the family.
        strengths: to begin with, ascending.
        describe: strength -> what happened.
        change: images and strength -> changed images.
        one_way: they destroy what no inverse change brings back, so each shows on one side only.
        resolution: how finely a strength can be told; 0: strengths are names, nothing lies between them.
        possible: whether images can have such a fault at all, where that is cheaply told.
        unseen: statistics of pixels may be the same before and after, so only features tell.
    """

    hypothesis: Hypothesis
    name: str
    strengths: tuple[float, ...]
    describe: Callable[[float], str]
    change: Callable[[Images, float], Images]
    one_way: bool = False
    resolution: float = 0.0
    possible: Callable[[Images], bool] = lambda images: True
    unseen: bool = False

    def faults(self) -> list[Fault]:
        """One for each strength to begin with."""
        return [Fault(self, strength) for strength in self.strengths]

    def between(self, fault: Fault, reach: float) -> list[Fault]:
        """The two faults whose strengths are `reach` (a fraction) of the way to the neighbouring ones."""
        if not self.resolution:
            return []
        grid = np.array(self.strengths)
        below, above = grid[grid < fault.strength], grid[grid > fault.strength]
        ends = [*below[-1:].tolist(), *above[:1].tolist()]
        steps = [fault.strength + reach * (end - fault.strength) for end in ends]
        rounded = [round(step / self.resolution) * self.resolution for step in steps]
        return [Fault(self, step) for step in rounded if step != fault.strength]


def families_for(shape: tuple[int, int, int]) -> list[Family]:
    """All families of faults that images of this shape (channels, height, width) can have."""
    channels, height, width = shape
    found = [*_ranges(), *_storage(), _noise(), *_geometry(height, width)]
    if channels == 3:
        found += _colours()
    return found


def _as_uint8(values: NDArray[np.floating]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def change_values(images: Images, function: Callable[[Array], Array]) -> Images:
    """Images whose values, on a scale of [0, 1], a function has changed."""
    return _as_uint8(255 * function(np.arange(256) / 255))[images]


def _named(
    hypothesis: Hypothesis,
    family: str,
    cases: dict[str, Callable[[Images], Images]],
    one_way: bool = False,
    unseen: bool = False,
) -> Family:
    """A family whose strengths are the numbers of named cases."""
    names, changes = list(cases), list(cases.values())
    return Family(
        hypothesis,
        family,
        tuple(float(number) for number in range(len(names))),
        lambda number: names[int(number)],
        lambda images, number: changes[int(number)](images),
        one_way,
        unseen=unseen,
    )


def _ranges() -> list[Family]:
    def values(function: Callable[[Array], Array]) -> Callable[[Images], Images]:
        return lambda images: change_values(images, function)

    return [
        _named(
            "H4",
            "range",
            {
                "values in [-1, 1] were taken for [0, 1]": values(lambda x: 2 * x - 1),
                "values in [0, 1] were taken for [-1, 1]": values(lambda x: (x + 1) / 2),
                "scaled to [-1, 1] twice, then taken for [0, 1]": values(lambda x: 4 * x - 3),
                "normalised by the mean and deviation of ImageNet": values(lambda x: (x - 0.449) / 0.226),
                "video range, 16 to 235": values(lambda x: (16 + 219 * x) / 255),
                "video range, 16 to 235, stretched": values(lambda x: (255 * x - 16) / 219),
                "inverted": values(lambda x: 1 - x),
            },
        ),
        Family(
            "H4",
            "gamma",
            (0.4, 0.5, 0.65, 0.8, 1.25, 1.5, 2.0, 2.5),
            lambda power: f"gamma {power:.3g}",
            lambda images, power: change_values(images, lambda x: x**power),
            resolution=0.02,
        ),
        Family(
            "H4",
            "scale",
            (0.3, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 3.0),
            lambda times: f"values times {times:.2g}",
            lambda images, times: change_values(images, lambda x: times * x),
            resolution=0.05,
        ),
        Family(
            "H4",
            "contrast",
            (0.3, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 3.0),
            lambda times: f"contrast times {times:.2g} about middle grey",
            lambda images, times: change_values(images, lambda x: 0.5 + times * (x - 0.5)),
            resolution=0.05,
        ),
        Family(
            "H4",
            "offset",
            (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4),
            lambda plus: f"values shifted by {plus:+.2g} of the range",
            lambda images, plus: change_values(images, lambda x: x + plus),
            resolution=0.01,
        ),
    ]


def _colours() -> list[Family]:
    def ordered(order: tuple[int, ...]) -> Callable[[Images], Images]:
        return lambda images: images[:, list(order)]

    names = {order: "".join("RGB"[channel] for channel in order) for order in permutations(range(3))}
    orders = {
        f"channels in the order {name}": ordered(order) for order, name in names.items() if name != "RGB"
    }
    return [
        _named("H4", "channel order", orders, unseen=True),
        _named("H9", "grey", {"stored in grey": grey}, one_way=True),
    ]


def grey(images: Images) -> Images:
    """Brightness (ITU-R 601) in all three channels."""
    brightness = np.einsum("nchw,c->nhw", images.astype(np.float64), np.array([0.299, 0.587, 0.114]))
    return np.repeat(_as_uint8(brightness)[:, None], 3, axis=1)


def _noise() -> Family:
    return Family(
        "H7",
        "noise",
        (1, 2, 3, 5, 8, 12, 20, 32, 50, 80),
        lambda level: f"noise of standard deviation {level:g}/255 is left in the images",
        add_noise,
        one_way=True,
        resolution=0.5,
    )


def add_noise(images: Images, level: float) -> Images:
    """Gaussian noise of a standard deviation in grey levels, the same for the same number of images."""
    noise = np.random.default_rng(len(images)).normal(0, level, images.shape)
    return _as_uint8(images + noise)


def _storage() -> list[Family]:
    return [
        Family(
            "H9",
            "JPEG",
            (10, 25, 45, 65, 80, 90, 96),
            lambda quality: f"JPEG of quality about {quality:g}",
            jpeg,
            one_way=True,
            resolution=1,
        ),
        Family(
            "H9",
            "palette",
            (4, 16, 64, 256),
            lambda colours: f"palette of about {colours:g} colours",
            palette,
            one_way=True,
            resolution=1,
            possible=lambda images: colours_used(images) <= PALETTE,
        ),
        Family(
            "H9",
            "bit depth",
            (1, 2, 3, 4, 5, 6),
            lambda bits: f"{bits:g} bits for each value",
            lambda images, bits: change_values(images, lambda x: np.rint(x * (2**bits - 1)) / (2**bits - 1)),
            one_way=True,
        ),
    ]


def jpeg(images: Images, quality: float) -> Images:
    """Images as JPEG (4:2:0 where they have colour) and back.

    Many small images are coded as tiles of one, which is quicker by far and gives nearly what each alone
    would: the coder works in blocks of 16 pixels, so tiles begin and end with such blocks, and the decoder
    smooths colours, which are stored for 2x2 pixels, across blocks, so tiles in colour have a block around
    them that repeats their outermost two rows and columns.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        return images
    around = _BLOCK if channels == 3 else 0
    rows = _continued(height, around, fill=2 if height % 8 == 0 else 1)  # as libjpeg fills its units
    columns = _continued(width, around, fill=1)
    in_a_row = min(count, max(1, _SHEET // len(columns)))
    at_once = in_a_row * max(1, _SHEET // len(rows))
    changed = []
    for first in range(0, count, at_once):
        part = images[first : first + at_once]
        filled = np.pad(part, ((0, -len(part) % in_a_row), (0, 0), (0, 0), (0, 0)), "edge")
        tiles = filled[:, :, rows[:, None], columns].reshape(-1, in_a_row, channels, len(rows), len(columns))
        sheet = tiles.transpose(0, 3, 1, 4, 2).reshape(-1, in_a_row * len(columns), channels)
        coded = _coded(sheet, quality).reshape(-1, len(rows), in_a_row, len(columns), channels)
        back = coded.transpose(0, 2, 4, 1, 3).reshape(-1, channels, len(rows), len(columns))[: len(part)]
        changed.append(back[..., around : around + height, around : around + width])
    return np.concatenate(changed)


def _continued(side: int, around: int, fill: int) -> NDArray[np.int64]:
    """Which rows of an image make its tile: all, to the end of a block the last `fill`, pairs around."""
    fill, pair = min(fill, side), min(2, side)
    inner = np.arange(side + (-side) % _BLOCK)
    inner[side:] = side - fill + (inner[side:] - side) % fill
    before = np.arange(-around, 0) % pair
    after = side - pair + np.arange(around) % pair
    return np.concatenate([before, inner, after])


def _coded(sheet: Images, quality: float) -> Images:
    """(height, width, channels) as JPEG and back."""
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(2) if sheet.shape[2] == 1 else sheet).save(
        buffer, "JPEG", quality=round(quality)
    )
    return np.asarray(Image.open(buffer, formats=["JPEG"]))


def palette(images: Images, colours: float) -> Images:
    """Images with an adaptive palette each (octree, no dithering), and back."""
    if images.shape[1] not in (1, 3):
        return images
    single = images.shape[1] == 1
    changed = []
    for pixels in images:
        image = Image.fromarray(pixels[0] if single else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        few = image.quantize(
            round(colours), method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        ).convert(image.mode)
        back = np.asarray(few)
        changed.append(back[None] if single else back.transpose(2, 0, 1))
    return np.stack(changed)


def _geometry(height: int, width: int) -> list[Family]:
    turns: dict[str, Callable[[Images], Images]] = {
        "mirrored left to right": lambda images: images[..., ::-1],
        "upside down": lambda images: images[..., ::-1, :],
    }
    if height == width:
        turns["rows and columns exchanged"] = lambda images: images.swapaxes(2, 3)
    reach = max(2, min(height, width) // 4)
    steps = tuple(float(step) for step in range(-reach, reach + 1) if step)
    families = [_named("H5", "orientation", turns, unseen=True)]
    for axis, (back, forth) in ((3, ("left", "right")), (2, ("up", "down"))):
        for fill in ("black", "wrapped"):
            families.append(_shifts(axis, back, forth, fill, steps))
    for mode in ("bilinear", "nearest"):
        families.append(_resizes(mode))
    return [*families, _zooms()]


def _shifts(axis: int, back: str, forth: str, fill: str, steps: tuple[float, ...]) -> Family:
    return Family(
        "H5",
        f"shift {forth}, {fill}",
        steps,
        lambda by: f"shifted {forth if by > 0 else back} by {abs(by):g} pixels, {fill}",
        lambda images, by: shifted(images, int(by), axis, fill == "wrapped"),
    )


def _resizes(mode: str) -> Family:
    return Family(
        "H5",
        f"resized, {mode}",
        (1.25, 1.5, 2.0, 3.0, 4.0),
        lambda factor: f"resized down by {factor:.2g} and up again, {mode}",
        lambda images, factor: resized(images, factor, mode),
        one_way=True,
        resolution=0.05,
    )


def _zooms() -> Family:
    return Family(
        "H5",
        "zoom",
        (0.6, 0.75, 0.88, 1.14, 1.33, 1.6, 2.0),
        lambda factor: (
            f"only the middle is there, {1 / factor:.2f} of each side, enlarged"
            if factor > 1
            else f"shrunk to {factor:.2f} of each side, with a black border"
        ),
        zoomed,
        resolution=0.02,
    )


def zoomed(images: Images, factor: float) -> Images:
    """Images enlarged about their middle and cut to their size, or shrunk and filled up with black."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    height, width = images.shape[2:]
    scale = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).expand(len(x), 2, 3)
    grid = affine_grid(scale, [len(x), 1, height, width], align_corners=False)
    source = x
    if factor < 1:  # as many pixels of the source as one of the result takes up are averaged first
        smaller = [max(1, round(side * factor)) for side in (height, width)]
        source = interpolate(x, smaller, mode="bilinear", antialias=True)
    fill = "border" if factor > 1 else "zeros"
    found = grid_sample(source, grid, mode="bilinear", padding_mode=fill, align_corners=False)
    return _as_uint8(found.numpy())


def shifted(images: Images, by: int, axis: int, wrap: bool) -> Images:
    """Images moved by whole pixels along an axis; what comes in is black, or what went out."""
    moved = np.roll(images, by, axis)
    if not wrap:
        edge = [slice(None)] * 4
        edge[axis] = slice(0, by) if by > 0 else slice(by, None)
        moved[tuple(edge)] = 0
    return moved


def resized(images: Images, factor: float, mode: str) -> Images:
    """Images reduced by a factor and brought back to their size."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    smaller = [max(1, round(side / factor)) for side in images.shape[2:]]
    if mode == "nearest":
        small = interpolate(x, smaller, mode="nearest-exact")
        back = interpolate(small, images.shape[2:], mode="nearest-exact")
    else:
        small = interpolate(x, smaller, mode="bilinear", antialias=True)
        back = interpolate(small, images.shape[2:], mode="bilinear")
    return _as_uint8(back.numpy())
