"""The classifier's training: it learns, its shifts are whole pixels, and it resumes to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fid.extractors.digits_cnn import DigitsCNN
from fid.training import ClassifierSettings, ClassifierTraining, accuracy, shift


def bars(count: int) -> tuple[Tensor, Tensor]:
    """Noisy images with a horizontal (label 0) or a vertical bar (label 1)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    places = torch.randint(2, 6, (count,), generator=generator)
    for image, label, place in zip(images, labels, places, strict=True):
        (image[0, place] if label == 0 else image[0, :, place]).fill_(200)
    return images, labels


def training(steps: int = 40) -> ClassifierTraining:
    torch.manual_seed(1)
    images, labels = bars(64)
    settings = ClassifierSettings(steps=steps, batch_size=32, learning_rate=0.01, seed=2)
    return ClassifierTraining(DigitsCNN(classes=2, width=8), images, labels, settings)


def test_it_learns_to_tell_bars_apart() -> None:
    loop = training()
    images, labels = bars(200)
    before = accuracy(loop.network, images, labels)
    while loop.completed < loop.steps:
        loop.advance()
    assert before < 0.8
    assert accuracy(loop.network, images, labels) > 0.97


@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_training_is_bit_identical(stop: int, tmp_path: Path) -> None:
    undisturbed = training(10)
    losses = [undisturbed.advance() for _ in range(10)]
    first = training(10)
    for _ in range(stop):
        first.advance()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = training(10)
    second.advance()
    torch.randn(5)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [second.advance() for _ in range(10 - stop)] == losses[stop:]
    for one, other in zip(second.network.parameters(), undisturbed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_shift_moves_each_image_by_its_own_whole_pixels() -> None:
    """A single bright pixel lands within one pixel of its place, in all nine places over many images."""
    images = torch.zeros(400, 2, 5, 5)
    images[:, :, 2, 2] = 1
    torch.manual_seed(0)
    moved = shift(images, 1)
    assert moved.shape == images.shape
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert moved.sum(dim=(2, 3)).eq(1).all()
    mean = moved[:, 0].mean(dim=0)
    assert mean[1:4, 1:4].min() > 1 / 9 - 0.05
    assert mean[1:4, 1:4].sum() == pytest.approx(1.0)
    assert torch.equal(shift(images, 0), images)


def test_features_are_the_nonnegative_input_of_the_classifier() -> None:
    torch.manual_seed(0)
    network = DigitsCNN().eval()
    features, logits = network(torch.rand(3, 1, 8, 8))
    assert features.shape == (3, 64)
    assert features.min() >= 0
    assert logits.shape == (3, 10)
    torch.testing.assert_close(network.classifier(features), logits)


def test_what_cannot_be_trained_is_refused() -> None:
    images, labels = bars(4)
    settings = ClassifierSettings(steps=1)
    with pytest.raises(ValueError, match=r"uint8 .* got torch\.float32"):
        ClassifierTraining(DigitsCNN(), images.float(), labels, settings)
    with pytest.raises(ValueError, match=r"4 images need as many labels, got shape \(3,\)"):
        ClassifierTraining(DigitsCNN(), images, labels[:3], settings)
