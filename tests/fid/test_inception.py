"""The FID Inception against pytorch-fid and torch-fidelity with formula-made weights, to 1e-4 and better."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_weights import formula_made
from PIL import Image

from fid.extractors import identity_of, load_extractor
from fid.extractors.inception import MICRO_BATCH, RESIZES
from fid.extractors.inception_network import FidInception

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = 1e-5  # of the largest value; measured 7e-7, other convolution kernels give up to 1.5e-6


@pytest.fixture(scope="module")
def recipe() -> dict:
    return json.loads((GOLDEN / "fid_inception.json").read_text())


@pytest.fixture(scope="module")
def weights(recipe, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    tensors = {name: formula_made(name, shape) for name, shape in recipe["tensors"].items()}
    for name, total in recipe["checksums"].items():
        assert float(tensors[name].double().sum()) == pytest.approx(total, rel=1e-12)
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "fid_inception.npz"))


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_names_and_shapes_are_those_of_the_published_ports(recipe):
    own = {name: list(tensor.shape) for name, tensor in FidInception().state_dict().items()}
    assert own == recipe["tensors"]


def test_pool_and_logits_agree_with_torch_fidelity(weights, golden):
    extractor = load_extractor("inception", weights)
    found = extractor(torch.from_numpy(golden["inception/images_u8"]))
    assert relative(found.features, golden["inception/torch_fidelity_2048"]) < TOLERANCE
    assert relative(found.logits, golden["inception/torch_fidelity_logits_unbiased"]) < TOLERANCE
    assert (extractor.dimension, extractor.identity["layer"]) == (2048, "pool")
    assert torch.equal(found.features, extractor(torch.from_numpy(golden["inception/images_u8"])).features)


@pytest.mark.parametrize("width", [64, 192, 768])
def test_lower_blocks_agree_with_torch_fidelity(weights, golden, width):
    extractor = load_extractor("inception", weights, layer=f"pool{width}")
    found = extractor(torch.from_numpy(golden["inception/images_u8"]))
    assert relative(found.features, golden[f"inception/torch_fidelity_{width}"]) < TOLERANCE
    assert found.logits is None
    assert extractor.dimension == width


def test_pytorch_fids_conventions_by_name(weights, golden):
    extractor = load_extractor("inception", weights, resize="half-pixel", normalisation="symmetric")
    found = extractor(torch.from_numpy(golden["inception/images_u8"]))
    assert relative(found.features, golden["inception/pytorch_fid_pool3"]) < TOLERANCE
    assert extractor.identity["resize"] == "half-pixel"


def test_resizes_agree_with_the_references(golden):
    images = torch.from_numpy(golden["inception/images_u8"]).float()
    rows = RESIZES["tf1-bilinear"](images)[:, :, 0]
    assert relative(rows, golden["resize/tf1_299_row0"]) < 1e-6
    rows = RESIZES["half-pixel"](images)[:, :, 0] / 255
    assert relative(rows, golden["resize/torch_299_row0"]) < 1e-6


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape", [(8, 8), (32, 32), (1, 5), (48, 97), (298, 300), (256, 512), (640, 301)], ids=str
)
def test_antialiased_resizes_are_pillows_of_floating_point_channels(shape, filter):
    """As clean-fid resizes: each channel in mode F, clipped. Float32 products leave 1e-4 of 255 levels."""
    image = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.float32)
    found = RESIZES[f"antialiased-{filter}"](torch.from_numpy(image)[None])[0].numpy()
    resampling = Image.Resampling[filter.upper()]
    expected = [np.asarray(Image.fromarray(channel).resize((299, 299), resampling)) for channel in image]
    assert np.abs(found - np.clip(expected, 0, 255)).max() < 2e-4


@pytest.mark.parametrize("name", sorted(RESIZES))
def test_resizes_keep_constants_and_the_size_of_full_images(name):
    assert torch.allclose(RESIZES[name](torch.full((1, 3, 32, 20), 77.0)), torch.tensor(77.0), rtol=1e-5)
    full = torch.rand(1, 3, 299, 299) * 255
    assert torch.allclose(RESIZES[name](full), full, atol=1e-3)


def test_grey_images_are_repeated(weights):
    extractor = load_extractor("inception", weights, layer="pool64")
    grey = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(extractor(grey).features, extractor(grey.expand(-1, 3, -1, -1)).features)


def test_conventions_by_name(weights, golden):
    images = torch.from_numpy(golden["inception/images_u8"])
    pytorch_fid = load_extractor("inception-half-pixel-symmetric", weights)
    assert pytorch_fid.name == "inception-half-pixel-symmetric"
    assert relative(pytorch_fid(images).features, golden["inception/pytorch_fid_pool3"]) < TOLERANCE
    named = identity_of("inception-pool768-antialiased-bicubic")
    assert (named["dimension"], named["resize"]) == (768, "antialiased-bicubic")
    for wrong in ("inception-symmetric-half-pixel", "inception-lanczos", "inception-bfloat16-bfloat16"):
        with pytest.raises(ValueError, match="after `inception` come departures"):
            identity_of(wrong)
    with pytest.raises(ValueError, match="unknown extractor 'inceptionv4'"):
        identity_of("inceptionv4")


def test_bfloat16_says_so_and_stays_near(weights, golden):
    images = torch.from_numpy(golden["inception/images_u8"])
    fast = load_extractor("inception-bfloat16", weights)
    found = fast(images)
    assert fast.identity["arithmetic"] == "bfloat16"
    assert found.features.dtype == found.logits.dtype == torch.float32
    difference = relative(found.features, golden["inception/torch_fidelity_2048"])
    assert TOLERANCE < difference < 2e-2  # 8 bits of mantissa through 48 convolutions


def test_a_large_call_is_cut_into_the_same_small_passes(weights):
    extractor = load_extractor("inception", weights, layer="pool64")
    images = torch.randint(0, 256, (MICRO_BATCH + 3, 3, 8, 8), dtype=torch.uint8)
    whole = extractor(images).features
    parts = torch.cat([extractor(images[:MICRO_BATCH]).features, extractor(images[MICRO_BATCH:]).features])
    assert torch.equal(whole, parts)


def test_refusals(weights, tmp_path):
    with pytest.raises(ValueError, match="unknown resize 'lanczos': known are tf1-bilinear"):
        load_extractor("inception", weights, resize="lanczos")
    with pytest.raises(ValueError, match="unknown layer"):
        load_extractor("inception", weights, layer="mixed8")
    other = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match=r"does not fit FidInception: \d+ tensors differ"):
        load_extractor("inception", other)
