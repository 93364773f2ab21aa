"""Planted faults: the audit names the planted one first. Clean runs: it finds nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_cases import (
    colour_extractor,
    colour_images,
    digits,
    digits_cnn,
    evidence,
    image_set,
)

from fid.audit import Evidence, Expectation, audit, damage
from fid.moments import Moments


def colours() -> tuple[np.ndarray, np.ndarray]:
    return colour_images(240, 1)[0], colour_images(320, 2)[0]


def halves() -> tuple[np.ndarray, np.ndarray]:
    images, _ = digits()
    return images[:500], images[1000:1600]


def names(case: Evidence) -> list[str]:
    return [finding.test for finding in audit(case).found]


def first(case: Evidence) -> tuple[str, str]:
    """Key and reason of what the audit names first."""
    report = audit(case)
    assert report.found, [(finding.test, finding.verdict, finding.reason) for finding in report.findings]
    return report.found[0].test, report.found[0].reason


@pytest.mark.parametrize(
    ("seed", "generated", "real"), [(0, 800, 997), (1, 800, 997), (2, 330, 900), (3, 700, 330), (4, 340, 360)]
)
def test_nothing_is_found_between_random_parts_of_digits(seed: int, generated: int, real: int):
    images, _ = digits()
    order = np.random.default_rng(seed).permutation(len(images))
    ours, theirs = images[order[:generated]], images[order[generated : generated + real]]
    assert names(evidence(ours, theirs, digits_cnn(), seed=seed)) == []


@pytest.mark.parametrize(("seed", "generated", "real"), [(1, 330, 420), (5, 600, 330), (9, 350, 600)])
def test_nothing_is_found_between_draws_of_colour_images(seed: int, generated: int, real: int):
    drawn = colour_images(generated, seed)[0], colour_images(real, seed + 1)[0]
    assert names(evidence(*drawn, colour_extractor(), seed=seed)) == []


def test_nothing_is_found_in_a_clean_run_that_gives_the_expected_value():
    generated, reference = halves()
    case = evidence(generated, reference, digits_cnn(), settings={"denoise": True})
    assert case.measured is not None
    real = image_set("reference", reference, digits_cnn())
    expectation = Expectation(
        case.measured - 0.1, samples=800, real=real, settings={"denoise": True}, cells={"C2000": (20.0, 0.1)}
    )
    assert names(replace(case, expectation=expectation)) == []


def shown_in_digits() -> dict[str, tuple[np.ndarray, str, str]]:
    generated, _ = halves()
    return {
        "noise": (damage.add_noise(generated, 2.55), "H7", "noise of standard deviation"),
        "signed range": (damage.change_values(generated, lambda x: 2 * x - 1), "H4", "[-1, 1]"),
        "gamma": (damage.change_values(generated, lambda x: x**1.37), "H4", "gamma 1."),
        "JPEG": (damage.jpeg(generated, 55), "H9", "JPEG"),
        "mirrored": (generated[..., ::-1], "H5", "mirrored"),
        "shifted": (damage.shifted(generated, 1, 3, False), "H5", "right by 1"),
        "enlarged": (damage.zoomed(generated, 1.25), "H5", "only the middle"),
        "blurred": (damage.resized(generated, 1.7, "bilinear"), "H5", "resized"),
    }


@pytest.mark.parametrize("fault", shown_in_digits())
def test_a_fault_of_stored_digits_is_named(fault: str):
    images, key, words = shown_in_digits()[fault]
    found = first(evidence(images, halves()[1], digits_cnn()))
    assert found[0] == key
    assert words in found[1]


def shown_in_colours() -> dict[str, tuple[np.ndarray, str, str]]:
    generated, _ = colours()
    return {
        "channels": (generated[:, [2, 0, 1]], "H4", "BRG"),
        "grey": (damage.grey(generated), "H9", "grey"),
        "JPEG": (damage.jpeg(generated, 58), "H9", "JPEG"),
        "palette": (damage.palette(generated, 20), "H9", "palette"),
        "WEBP": (damage.webp(generated, 50), "H9", "WEBP"),
        "salt": (damage.impulses(generated, 0.015, (255,)), "H9", "are white"),
        "low bits": (generated & np.uint8(0xF0), "H9", "upper 4 bits"),
    }


@pytest.mark.parametrize("fault", shown_in_colours())
def test_a_fault_of_stored_colour_images_is_named(fault: str):
    images, key, words = shown_in_colours()[fault]
    found = first(evidence(images, colours()[1], colour_extractor()))
    assert found[0] == key
    assert words in found[1]


def test_a_corruption_that_is_not_known_is_said_to_be_so_and_given_no_other_name():
    """Values that overflow: brighter, and the brightest of them dark."""
    generated, reference = colours()
    images = (generated.astype(int) + 20).astype(np.uint8)
    report = audit(evidence(images, reference, colour_extractor()))
    assert [finding.test for finding in report.found] in ([], ["H1"])
    assert report.unnamed
    assert "a corruption of unknown kind, or the generator" in report.verdict


def test_a_fault_of_the_reference_is_told_from_one_of_the_generated_images():
    generated, reference = colours()
    key, reason = first(evidence(generated, damage.jpeg(reference, 60), colour_extractor()))
    assert key == "H9"
    assert reason.startswith("reference images")


def test_faults_are_named_without_an_extractor_too():
    generated, reference = halves()
    noisy = damage.add_noise(generated, 6)
    case = evidence(noisy, reference, digits_cnn())
    assert first(replace(case, extractor=None))[0] == "H7"


def test_too_few_images():
    images, _ = digits()
    case = evidence(images[:100], images[100:], digits_cnn())
    assert names(case) == ["H1"]
    found = audit(case).found[0]
    assert found.contribution == pytest.approx(case.measured, rel=0.5)
    expected = replace(case, expectation=Expectation(0.05, samples=50_000))
    assert names(expected) == ["H1"]
    assert names(replace(case, expectation=Expectation(case.measured, samples=100))) == []


@pytest.mark.parametrize(("generated", "reference"), [(1, 500), (500, 1), (2, 2), (1, 1)])
def test_hardly_any_images_get_an_answer_all_the_same(generated, reference):
    images, _ = digits()
    report = audit(evidence(images[:generated], images[1000 : 1000 + reference], digits_cnn()))
    assert len(report.findings) == 12
    assert (report.measured is None) == (min(generated, reference) < 2)
    assert report.found[0].test == "H1"
    assert report.standard_error is None


def test_the_verdict_says_what_was_found_and_what_is_left():
    images, _ = digits()
    few = evidence(images[:100], images[100:], digits_cnn())
    report = audit(replace(few, expectation=Expectation(0.05, samples=50_000)))
    assert report.verdict.startswith("found H1; remains ")
    assert "excluded H2" in report.verdict
    clean = audit(evidence(*halves(), digits_cnn()))
    assert clean.verdict.startswith("nothing found; remains ")
    assert "standard errors" in clean.verdict or "nothing wants a reason" in clean.verdict
    lower = audit(replace(few, expectation=Expectation(200.0, samples=100)))
    assert lower.verdict.endswith("lower than that: nothing wants a reason")


def test_flattened_map():
    flat = colour_extractor(flatten=True)
    generated, reference = (images[:150] for images in colours())
    case = evidence(generated, reference, flat)
    report = audit(replace(case, extractor=colour_extractor()))
    assert report.found[0].test == "H2"
    assert "8x8 map, flattened" in report.found[0].reason
    honest = evidence(generated, reference, colour_extractor()).measured
    assert report.found[0].contribution == pytest.approx(case.measured - honest, rel=1e-4)


def test_torchvision_like_weights_by_their_digest_and_by_the_features():
    generated, reference = colours()
    other, right = colour_extractor(seed=7), colour_extractor()
    by_digest = evidence(generated, reference, other, expectation=Expectation(weights="00000001"))
    assert first(by_digest) == (
        "H3",
        "the extractor's weights have sha256 00000007..., wanted is 00000001...",
    )
    mixed = Evidence(image_set("ours", generated, other), image_set("theirs", reference, right), right)
    assert first(mixed)[0] == "H3"
    statistics = Evidence(
        replace(image_set("ours", generated, other), images=None),
        replace(
            image_set("theirs", reference, right),
            images=None,
            features=None,
            logits=None,
            moments=Moments.of(image_set("theirs", reference, right).features),
        ),
    )
    assert first(statistics)[0] == "H3"


def test_train_mode():
    generated, reference = colours()
    assert first(evidence(generated, reference, colour_extractor(train=True)))[0] == "H3"
    stored = image_set("ours", generated, colour_extractor(train=True))
    right = colour_extractor()
    key, reason = first(Evidence(stored, image_set("theirs", reference, right), right))
    assert key == "H3"
    assert "train mode" in reason


def test_another_resize():
    generated, reference = colours()
    other, right = colour_extractor(resize="corner-aligned"), colour_extractor()
    case = Evidence(
        image_set("ours", generated, other),
        image_set("theirs", reference, right),
        right,
        variants={"resize corner-aligned": other},
    )
    key, reason = first(case)
    assert key == "H5"
    assert "corner-aligned" in reason


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("BGR", lambda images: images[:, ::-1]),
        ("[-1, 1]", lambda x: damage.change_values(x, lambda v: 2 * v - 1)),
    ],
)
def test_images_prepared_otherwise_on_the_way_into_the_network(words, change):
    generated, reference = colours()
    right = colour_extractor()
    wrong = image_set("ours", change(generated), right)
    case = Evidence(replace(wrong, images=generated), image_set("theirs", reference, right), right)
    report = audit(case)
    assert report.found[0].test == "H4"
    assert words in report.found[0].reason
    honest = evidence(generated, reference, right).measured
    assert report.found[0].contribution == pytest.approx(case.measured - honest, rel=1e-6)


def test_test_split_for_train_split():
    images, labels = digits()
    train, test = images[:1000], images[1000:1400]
    case = evidence(images[1400:], test, digits_cnn())
    real = image_set("digits-train", train, digits_cnn())
    key, reason = first(replace(case, expectation=Expectation(real=real)))
    assert key == "H6"
    assert reason == "0 % of the images of reference are in digits-train"
    by_name = replace(case, expectation=Expectation(reference="digits-train"))
    assert first(by_name)[0] == "H6"
    other_classes = replace(case, reference=image_set("reference", images[labels > 4], digits_cnn()))
    features_alone = replace(
        other_classes,
        reference=replace(other_classes.reference, images=None),
        generated=replace(case.generated, images=None),
        expectation=Expectation(real=replace(real, images=None, name="reference")),
    )
    found = audit(features_alone).found[0]
    assert found.test == "H6"
    assert found.contribution > 0.5 * features_alone.measured


def test_duplicated_seeds():
    generated, reference = halves()
    case = evidence(np.concatenate([generated[:400], generated[:400]]), reference, digits_cnn())
    key, reason = first(case)
    assert key == "H10"
    assert "400 places before" in reason
    some = np.concatenate([generated[:780], generated[300:320]])
    assert first(evidence(some, reference, digits_cnn()))[0] == "H10"


def test_nearly_the_same_images():
    generated, reference = halves()
    twice = np.concatenate([generated[:400], damage.add_noise(generated[:400], 0.4)])
    case = evidence(twice, reference, digits_cnn())
    assert first(replace(case, generated=replace(case.generated, images=None)))[0] == "H10"


def test_missing_shards():
    generated, reference = halves()
    case = evidence(generated, reference, digits_cnn())
    index = np.concatenate([np.arange(300), np.arange(500, 700)])
    key, reason = first(replace(case, generated=replace(case.generated, index=index, samples=700)))
    assert key == "H10"
    assert "200 samples are missing, [300, 500) first" in reason
    assert first(replace(case, generated=replace(case.generated, samples=1000)))[0] == "H10"


def test_features_that_are_not_finite():
    case = evidence(*halves(), digits_cnn())
    features = case.generated.features.copy()
    features[17, 3] = np.nan
    key, reason = first(replace(case, generated=replace(case.generated, features=features)))
    assert key == "H10"
    assert "row 17" in reason


def test_constant_images():
    generated, reference = halves()
    blank = generated.copy()
    blank[40:90] = 0
    key, _ = first(evidence(blank, reference, digits_cnn()))
    assert key == "H10"


def test_sampler_settings_and_raw_weights():
    generated, reference = halves()
    mixed = (generated // 2 + np.roll(generated, 1, axis=0) // 2).astype(np.uint8)
    case = evidence(mixed, reference, digits_cnn(), settings={"weights": "raw", "denoise": True})
    features_alone = replace(case.generated, images=None)
    told = replace(case, expectation=Expectation(settings={"weights": "ema", "denoise": True}))
    assert first(replace(told, generated=features_alone)) == (
        "H7",
        "sampled otherwise than the published protocol: weights is raw, not ema",
    )
    rerun = {"moving averages": image_set("rerun", generated[:300], digits_cnn())}
    report = audit(replace(case, generated=features_alone, alternatives=rerun))
    assert report.found[0].test == "H7"
    assert report.found[0].contribution == pytest.approx(report.difference, rel=0.2)


def test_mode_collapse_by_classes_and_within_them():
    images, labels = digits()
    lost = images[:900][np.isin(labels[:900], (1, 4, 7))]
    report = audit(evidence(lost, images[900:], digits_cnn()))
    assert report.found[0].test == "H11"
    assert report.found[0].contribution > 0.5 * report.difference
    few = np.random.default_rng(0).choice(60, 700)
    features = image_set("few", images[few], digits_cnn()).features
    jitter = np.random.default_rng(1).normal(0, 0.1, features.shape) * features.std(axis=0)
    case = evidence(images[:700], images[900:], digits_cnn())
    collapsed = replace(case.generated, images=None, logits=None, features=np.maximum(features + jitter, 0))
    assert first(replace(case, generated=collapsed))[0] == "H11"


def test_float32_covariance():
    """Sums of float32, one sample at a time: the mean of squares drowns the variance."""
    case = evidence(*halves(), digits_cnn())
    sides = []
    for side in (case.generated, case.reference):
        shifted = side.features + np.float32(300)
        total, outer = np.zeros(64, np.float32), np.zeros((64, 64), np.float32)
        for row in shifted:
            total += row
            outer += np.outer(row, row)
        mean = total / np.float32(len(shifted))
        covariance = outer / np.float32(len(shifted)) - np.outer(mean, mean)
        sides.append((replace(side, images=None, features=shifted), mean, covariance.astype(float)))
    (ours, mean_a, a), (theirs, mean_b, b) = sides
    values = np.linalg.eigvals(a @ b)
    reported = float(np.square(mean_a - mean_b).sum() + np.trace(a + b) - 2 * np.sqrt(values + 0j).real.sum())
    wrong = Evidence(ours, theirs, reported=reported)
    assert abs(reported - wrong.frechet.distance) > 0.05
    assert first(wrong)[0] == "H8"
    broken = replace(theirs, features=None, moments=Moments.from_covariance(mean_b, b, len(theirs.features)))
    assert first(Evidence(ours, replace(broken, logits=None)))[0] == "H8"


def test_another_cell_of_the_table():
    case = evidence(*halves(), digits_cnn())
    cells = {"C2000": (case.measured, 0.05), "P1000": (case.measured - 5, 0.05)}
    expectation = Expectation(case.measured - 5, samples=800, cells=cells)
    report = audit(replace(case, expectation=expectation))
    assert [finding.test for finding in report.found] == ["H12"]
    assert "C2000" in report.found[0].reason
