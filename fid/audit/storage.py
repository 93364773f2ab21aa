"""H9: storage: lossy files, palettes, grey, few levels."""

from __future__ import annotations

import numpy as np

from fid.audit.evidence import Evidence
from fid.audit.finding import HypothesisTest, Numbers, Outcome
from fid.audit.imageset import LOSSY_FORMATS, ImageSet
from fid.audit.pixels import BLOCK, Images
from fid.audit.sampling import SIGNIFICANT
from fid.audit.shown import explanation_of, outcome_of

#: Data sets whose originals are lossless and unscaled: JPEG marks in them come from a later copy.
LOSSLESS = ("cifar10", "cifar100", "mnist", "fashion-mnist", "fashion_mnist", "digits", "svhn", "stl10")
REMEDY = "store PNG, or arrays of uint8; take the original, lossless data set"
SMALL = 64  # pixels of a side: no camera or published data set stores such images as JPEG
MARKED = 4000  # images whose block edges are measured


def look(evidence: Evidence) -> Outcome:
    """Look at file formats, at blocks in each side alone, and for a loss that explains the difference."""
    numbers: Numbers = {}
    marks = []
    for side, found in (("generated", evidence.generated), ("reference", evidence.reference)):
        marks += [(side, found, mark) for mark in _marks(side, found, numbers)]
    explanation = explanation_of(evidence, "H9")
    if explanation is not None:
        outcome = outcome_of(explanation, REMEDY)
        direct = any(side == explanation.side and found.lossy for side, found, _ in marks)
        reason = "; ".join([outcome.reason, *(f"{side}: {mark}" for side, _, mark in marks)])
        verdict = "found" if any(side == explanation.side for side, _, _ in marks) else outcome.verdict
        return Outcome(verdict, reason, {**numbers, **outcome.evidence}, outcome.contribution, direct, REMEDY)
    if marks:
        return _of_marks(evidence, marks, numbers)
    if evidence.generated.images is None or evidence.reference.images is None:
        alone = "reference" if evidence.generated.images is None else "generated"
        reason = f"only the {alone} images are there, and they show no blocks"
        return Outcome("remains", reason, numbers, remedy="give the images of both sides")
    if evidence.unnamed:
        reason = (
            f"pixels of the two sides differ, most in {', '.join(evidence.unnamed[:3])}, and no fault known "
            "here explains it: a corruption of unknown kind, or the generator itself"
        )
        return Outcome("remains", reason, numbers, remedy="look at images of both sides next to each other")
    return Outcome("excluded", "files and images show no loss", numbers)


def _of_marks(evidence: Evidence, marks: list[tuple[str, ImageSet, str]], numbers: Numbers) -> Outcome:
    sides = {side for side, _, _ in marks}
    reason = "; ".join(f"{side}: {mark}" for side, _, mark in marks)
    known = [found.name for _, found, _ in marks if _should_be_lossless(found)]
    if len(sides) == 1 or known:
        if len(sides) == 2:
            reason += "; both sides alike, so their distance does not show it, but no value against a "
            reason += f"lossless copy of {known[0]} compares"
        direct = bool(known) or any(found.lossy for _, found, _ in marks)
        return Outcome("found", reason, numbers, None, direct, REMEDY)
    reason += "; both sides alike, as it may be with photographs"
    return Outcome("remains", reason, numbers, remedy=REMEDY)


def _should_be_lossless(found: ImageSet) -> bool:
    """A data set that is known to be, or images so small that they were made from larger ones."""
    small = found.images is not None and max(found.images.shape[2:]) <= SMALL
    return found.name.startswith(LOSSLESS) or (small and found.lossy)


def _marks(side: str, found: ImageSet, numbers: Numbers) -> list[str]:
    """What files and pixels of one side say without the other."""
    marks = []
    total = sum(found.encodings.values())
    for encoding, count in sorted(found.encodings.items()):
        numbers[f"files, {side}, {encoding}"] = count
        if encoding.startswith(LOSSY_FORMATS):
            marks.append(f"{count:,} of {total:,} files are {encoding.split()[0]}")
        elif encoding.endswith(" P"):
            marks.append(f"{count:,} of {total:,} files have a palette")
    if found.images is not None and min(found.images.shape[2:]) >= 3 * BLOCK:
        excess, error = block_mark(found.images[:MARKED])
        numbers[f"steps at 8x8 block edges beyond other lines, {side}"] = excess
        if excess > SIGNIFICANT * error:
            marks.append(
                f"steps across the edges of 8x8 blocks are {100 * excess:.1f} % larger than elsewhere"
            )
    return marks


def block_mark(images: Images) -> tuple[float, float]:
    """How much larger steps at 8x8 block edges are than beside them, and than at any other phase.

    The mean step between lines p and p + 1, less that of its two neighbours, is taken for the edges of blocks
    and for the seven other phases, of which the strongest is subtracted: subjects in the middle of images
    make steps at some places likelier, but none that stand out from their neighbours.

    Returns the excess in units of the mean step, and its standard error over images.
    """
    x = images.astype(np.float32)
    contrast = np.zeros((len(x), BLOCK))
    level = 0.0
    for axis in (2, 3):
        steps = np.abs(np.diff(x, axis=axis)).mean(axis=tuple({1, 2, 3} - {axis}))  # (count, side - 1)
        level += float(steps.mean())
        local = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2  # of the lines 1 to side - 3
        for phase in range(BLOCK):
            contrast[:, phase] += local[:, (phase - 1) % BLOCK :: BLOCK].mean(axis=1)
    mean = contrast.mean(axis=0)
    edges = BLOCK - 1
    strongest = int(np.argmax(np.delete(mean, edges)))
    difference = (contrast[:, edges] - contrast[:, strongest]) / max(level, 1e-9)
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(x)))


TEST = HypothesisTest(
    "H9",
    "storage: JPEG, palette, grey, few levels",
    (frozenset({"generated images"}), frozenset({"reference images"})),
    7,
    look,
)
