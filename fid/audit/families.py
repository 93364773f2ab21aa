"""What may have happened to stored images: all families of faults that the audit knows.

Apart from what a fault is because this list grows: another family is an entry here and a function of damage.
It must not know how a fault is found.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from fid.audit.damage import (
    Array,
    Images,
    add_noise,
    blurred,
    change_values,
    grey,
    impulses,
    jpeg,
    palette,
    resized,
    shifted,
    webp,
    zoomed,
)
from fid.audit.faults import Family, Hypothesis
from fid.audit.pixels import colours_used

PALETTE = 256  # colours at most


def families_for(shape: tuple[int, int, int]) -> list[Family]:
    """All families of faults that images of this shape (channels, height, width) can have."""
    channels, height, width = shape
    found = [*_ranges(), *_storage(), _noise(), *_geometry(height, width)]
    if channels == 3:
        found += _colours()
    return found


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
        _named(
            "H9",
            "grey",
            {
                "stored in grey": grey,
                "stored in grey, the mean of the channels": lambda images: grey(
                    images, (1 / 3, 1 / 3, 1 / 3)
                ),
                "red in all channels": lambda images: grey(images, (1, 0, 0)),
                "green in all channels": lambda images: grey(images, (0, 1, 0)),
                "blue in all channels": lambda images: grey(images, (0, 0, 1)),
            },
            one_way=True,
        ),
    ]


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
            "WEBP",
            (5, 20, 40, 60, 80, 92),
            lambda quality: f"WEBP of quality about {quality:g}",
            webp,
            one_way=True,
            resolution=1,
        ),
        *(_impulses(colour, values) for colour, values in _SPECKS.items()),
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
        Family(
            "H9",
            "low bits",
            (1, 2, 3, 4, 5, 6, 7),
            lambda bits: f"all but the upper {bits:g} bits of each value are 0",
            lambda images, bits: images & np.uint8(256 - 2 ** (8 - int(bits))),
            one_way=True,
        ),
    ]


#: Colours of single pixels that replace others.
_SPECKS = {"white": (255,), "black": (0,), "black or white": (0, 255)}


def _impulses(colour: str, values: tuple[int, ...]) -> Family:
    return Family(
        "H9",
        f"{colour} specks",
        (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25),
        lambda share: f"{100 * share:.1f} % of the pixels, here and there, are {colour}",
        lambda images, share: impulses(images, share, values),
        one_way=True,
        resolution=0.001,
    )


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
    return [*families, _blurs(), _zooms()]


def _shifts(axis: int, back: str, forth: str, fill: str, steps: tuple[float, ...]) -> Family:
    return Family(
        "H5",
        f"shift {forth}, {fill}",
        steps,
        lambda by: f"shifted {forth if by > 0 else back} by {abs(by):g} pixels, {fill}",
        lambda images, by: shifted(images, int(by), axis, fill == "wrapped"),
        unseen=fill == "wrapped",
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


def _blurs() -> Family:
    return Family(
        "H5",
        "blur",
        (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0),
        lambda deviation: f"blurred by a Gaussian of {deviation:.2g} pixels",
        blurred,
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
