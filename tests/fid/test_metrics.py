"""The torchmetrics classes: the same numbers as the functions, whatever the batches and processes."""

import pickle
from pathlib import Path

import pytest
import torch
from test_scores import Passed
from torchmetrics.image.fid import FrechetInceptionDistance

from fid import scores
from fid.extractors import load_extractor
from fid.frechet import frechet_distance
from fid.memorisation import memorisation
from fid.metrics import (
    DensityCoverage,
    FidInfinity,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Memorisation,
    PrecisionRecall,
)
from fid.moments import Moments
from jobs.inputs.datasets import read_digits

# that no samples came is the point of some tests
pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")

SHIPPED = Path(__file__).parent.parent.parent / "jobs" / "catalog" / "weights" / "digits-cnn.safetensors"


@pytest.fixture(scope="module")
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(300, 12, generator=generator) + 0.2, torch.randn(400, 12, generator=generator)


def filled(metric, generated, real, batch=64):
    for part in generated.split(batch):
        metric.update(part, real=False)
    for part in real.split(batch):
        metric.update(part, real=True)
    return metric


def truth(generated, real) -> float:
    return frechet_distance(Moments.of(generated.numpy()), Moments.of(real.numpy())).distance


def test_frechet_distance_of_batches_merged_processes_and_pickles(sets):
    expected = truth(*sets)
    metric = filled(FrechetDistance(12), *sets)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-11)
    first, second = (
        filled(FrechetDistance(12), sets[0][part], sets[1][part])
        for part in (slice(0, 100), slice(100, None))
    )
    first.merge_state(second)
    assert first.compute().item() == pytest.approx(expected, rel=1e-11)
    first.update(torch.zeros(1, 12), real=False)  # goes on after a merge
    more = torch.cat([sets[0], torch.zeros(1, 12)])
    assert first.compute().item() == pytest.approx(truth(more, sets[1]), rel=1e-11)
    assert pickle.loads(pickle.dumps(metric)).compute().item() == pytest.approx(expected, rel=1e-11)
    metric.reset()
    with pytest.raises(ValueError, match="at least 2 samples"):
        metric.compute()


def test_frechet_distance_stays_in_float64(sets):
    metric = filled(FrechetDistance(12).float(), sets[0] + 1000, sets[1] + 1000)
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(truth(sets[0] + 1000, sets[1] + 1000), rel=1e-9)


def test_images_go_through_the_extractor():
    extractor = load_extractor("digits-cnn", SHIPPED)
    generator = torch.Generator().manual_seed(1)
    real, fake = (
        torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(2)
    )
    metric = filled(FrechetDistance(extractor=extractor), fake, real)
    expected = truth(extractor(fake).features, extractor(real).features)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)  # batches change float32 features
    score = InceptionScore(splits=1, extractor=extractor)
    score.update(fake)
    direct = scores.inception_score(extractor(fake).logits.numpy(), splits=1)
    assert score.compute()[0].item() == pytest.approx(direct.mean, rel=1e-6)


def infinity(generated, real):
    full = scores.fid_score(generated, real).standard_error
    return scores.fid_infinity(generated, Moments.of(real), full)


@pytest.mark.parametrize(
    ("metric", "function", "fields"),
    [
        (KernelDistance(), scores.kernel_distance, ("value", "standard_error")),
        (PrecisionRecall(), scores.precision_recall, ("precision", "recall")),
        (DensityCoverage(), scores.density_coverage, ("density", "coverage")),
        (Memorisation(), memorisation, ("too_near", "standard_error")),
        (FidInfinity(), infinity, ("value", "standard_error")),
    ],
)
def test_feature_set_metrics_are_the_functions(sets, metric, function, fields):
    found = filled(metric, *sets).compute()
    direct = function(sets[0].numpy(), sets[1].numpy())
    for value, field in zip(found, fields, strict=True):
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(getattr(direct, field), rel=1e-12)
    other = metric.clone()
    other.merge_state(metric)
    assert len(torch.cat(other.generated)) == 600
    metric.reset()
    with pytest.raises(ValueError, match="no samples came yet"):
        metric.compute()


class Wide(Passed):
    num_features = 64


def test_fid_agrees_with_torchmetrics_on_an_extractors_features():
    extractor = load_extractor("digits-cnn", SHIPPED)
    real, fake = (read_digits(split).images for split in ("train", "heldout"))
    features = [extractor(torch.from_numpy(images)).features for images in (real, fake)]
    theirs = FrechetInceptionDistance(feature=Wide(), input_img_size=(64,)).set_dtype(torch.float64)
    theirs.update(features[0].double(), real=True)
    theirs.update(features[1].double(), real=False)
    ours = filled(FrechetDistance(64), features[1], features[0])
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-8)


def test_memorised_samples_are_told_from_fresh_ones(sets):
    metric = Memorisation(held_out=torch.randn(200, 12, generator=torch.Generator().manual_seed(4)))
    filled(metric, torch.cat([sets[1][:90], sets[0][:10]]), sets[1])
    assert metric.compute()[0].item() >= 0.89


def test_one_block_has_no_standard_error(sets):
    value, error = filled(KernelDistance(block_size=300), *sets).compute()
    assert value.isfinite()
    assert error.isnan()


def test_refusals():
    with pytest.raises(ValueError, match="give the dimension"):
        FrechetDistance()
    with pytest.raises(ValueError, match=r"must be \(rows, 12\)"):
        FrechetDistance(12).update(torch.zeros(5, 3), real=True)
