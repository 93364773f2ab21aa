"""Faults of some images among sound ones: the audit tells that there are two kinds, and names the fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from audit_cases import colour_extractor, colour_images, digits, digits_cnn, evidence, image_set

from fid.audit import Tally, audit, damage, pixels
from fid.audit.apart import find_part, part_apart

Change = Callable[[np.ndarray], np.ndarray]


def partly(images: np.ndarray, change: Change, share: float) -> tuple[np.ndarray, list[int]]:
    """Images of which a share has been changed, and the numbers of those."""
    count = round(share * len(images))
    chosen = np.sort(np.random.default_rng(5).choice(len(images), count, replace=False))
    changed = images.copy()
    changed[chosen] = change(images[chosen])
    return changed, chosen.tolist()


def digits_apart() -> tuple[np.ndarray, np.ndarray]:
    images = digits()[0][np.random.default_rng(0).permutation(1797)]
    return images[:400], images[400:900]


def noise(images: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, images.shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("share", "change", "key", "words"),
    [
        (0.1, lambda x: damage.jpeg(x, 40), "H9", "JPEG of quality about"),
        (0.5, lambda x: 255 - x, "H4", "inverted"),
        (0.4, lambda x: damage.shifted(x, 2, 3, False), "H5", "shifted right by 2 pixels"),
    ],
)
def test_a_fault_of_a_share_of_the_digits_is_named_with_its_share(share, change, key, words):
    ours, theirs = digits_apart()
    damaged, numbers = partly(ours, change, share)
    case = evidence(damaged, theirs, digits_cnn())
    assert case.part is not None
    found = case.part.explanation
    assert found is not None
    assert (found.fault.hypothesis, found.side) == (key, "generated")
    assert words in found.fault.name
    assert case.part.share == pytest.approx(share, abs=0.03)
    assert len(set(case.part.numbers) & set(numbers)) > 0.97 * len(case.part.numbers)


def test_the_points_of_a_share_are_those_that_vanish_when_it_is_mended():
    ours, theirs = digits_apart()
    damaged, _ = partly(ours, lambda x: damage.blurred(x, 1.2), 0.3)
    report = audit(evidence(damaged, theirs, digits_cnn()))
    assert report.found[0].test == "H5"
    assert "in 30 % of them" in report.found[0].reason
    sound = evidence(ours, theirs, digits_cnn()).measured
    assert report.found[0].contribution == pytest.approx(report.measured - sound, rel=0.25)
    assert report.found[0].evidence["the first samples of this kind"].count(",") == 4


def test_a_share_of_the_reference_is_named_as_such():
    ours, theirs = colour_images(200, 1)[0], colour_images(240, 2)[0]
    damaged, _ = partly(theirs, lambda x: x[:, ::-1], 0.25)
    part = evidence(ours, damaged, colour_extractor()).part
    assert part is not None
    assert part.side == "reference"
    assert part.explanation is not None
    assert part.explanation.fault.name.startswith("channels in the order BGR, in 2")


def test_pure_noise_among_the_images_is_counted():
    ours, theirs = digits_apart()
    damaged, numbers = partly(ours, noise, 0.15)
    found = audit(evidence(damaged, theirs, digits_cnn())).found[0]
    assert found.test == "H10"
    count = int(found.reason.split()[0])
    assert count == pytest.approx(len(numbers), abs=2)  # 8x8 noise is once in 300 as smooth as a picture
    assert "are pure noise" in found.reason


def test_a_part_of_unknown_kind_is_said_to_be_there_and_is_given_no_name():
    ours, theirs = digits_apart()
    damaged, numbers = partly(ours, lambda x: np.sort(x, axis=2), 0.2)  # columns in order of brightness
    report = audit(evidence(damaged, theirs, digits_cnn()))
    assert not {finding.test for finding in report.found} & {"H4", "H5", "H7", "H9"}
    assert report.part is not None
    assert set(report.part.numbers) <= set(numbers)
    assert "lie apart from the rest" in report.verdict


def test_a_share_of_another_class_is_named_by_classes():
    images, labels = digits()
    sevens = images[500:][labels[500:] == 7]
    found = audit(evidence(np.concatenate([images[:400], sevens]), images[400:900], digits_cnn()))
    assert "H11" in [finding.test for finding in found.found]
    assert found.part is None


@pytest.mark.parametrize("seed", range(4))
def test_no_part_is_seen_in_clean_draws(seed: int):
    images = digits()[0][np.random.default_rng(seed).permutation(1797)]
    sides = image_set("ours", images[:700], digits_cnn()), image_set("theirs", images[700:], digits_cnn())
    assert find_part(*sides, None, 2000, seed) is None
    pair = colour_images(200 + 50 * seed, 10 + seed)[0], colour_images(300, 40 + seed)[0]
    ours, theirs = (image_set("colours", one, colour_extractor()) for one in pair)
    assert find_part(ours, theirs, None, 2000, seed) is None


def test_two_kinds_are_told_by_a_gap_and_not_by_a_tail():
    generator = np.random.default_rng(3)
    normal = generator.normal(size=(2000, 12))
    assert part_apart(generator.normal(size=(2000, 12)) + 0.4, normal, 0) is None  # all a little off
    assert part_apart(generator.standard_t(3, (2000, 12)), normal, 0) is None  # heavy tails
    rows = generator.normal(size=(2000, 12))
    rows[100:300, 4] += 9
    part = part_apart(rows, normal, 0)
    assert part is not None
    assert set(part.tolist()) <= set(range(100, 300))
    assert len(part) > 190
    both = normal.copy()
    both[:200, 4] += 9
    assert part_apart(rows, both, 0) is None  # the other side has the second kind too


def test_a_set_of_which_some_pixels_only_are_held_is_audited_as_the_whole_is():
    ours, theirs = digits_apart()
    twice = np.concatenate([ours, ours[:60]])
    whole = image_set("ours", twice, digits_cnn())
    rows = np.arange(0, 200)
    held = replace(whole, images=twice[rows], rows=rows, whole=Tally.of(twice))
    case = evidence(twice, theirs, digits_cnn())
    found = audit(replace(case, generated=held)).found
    assert [finding.test for finding in found] == ["H10"]
    assert found[0].reason.startswith("60 of 460 generated samples repeat another exactly")
    assert found[0].contribution == pytest.approx(audit(case).found[0].contribution)


def test_pixel_statistics_do_not_depend_on_how_many_images_are_looked_at_together(monkeypatch):
    images = colour_images(20, 3)[0]
    together = pixels.statistics(images)
    monkeypatch.setattr(pixels, "AT_ONCE", 7 * images[0].size)
    for name, values in pixels.statistics(images).items():
        np.testing.assert_array_equal(values, together[name])
