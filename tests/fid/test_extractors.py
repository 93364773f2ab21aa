"""Extractors: published layouts, conventions of the input, identities, refusals."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate, linear, max_pool2d, pad

from fid.extractors import EXTRACTORS, identity_of, load_extractor
from fid.extractors.cifar10_resnet20 import MEAN, STD, Cifar10ResNet
from fid.extractors.digits_cnn import DigitsCNN
from fid.extractors.mnist_lenet import MnistLeNet

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "jobs" / "catalog" / "weights" / "digits-cnn.safetensors"


def randomised(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # older files do not have them
        values = torch.randn(tensor.shape, generator=generator) * 0.2
        tensors[name] = values.abs() + 0.5 if name.endswith("running_var") else values
    return tensors


def images(channels: int, side: int, count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def test_lenet_follows_its_published_layout(tmp_path):
    w = randomised(MnistLeNet())
    torch.save(w, tmp_path / "lenet.pth")
    pixels = images(1, 28)
    x = interpolate(pixels.float() / 255, (32, 32), mode="bilinear", align_corners=False)
    for layer in ("c1", "c3"):
        x = max_pool2d(conv2d(x, w[f"convnet.{layer}.weight"], w[f"convnet.{layer}.bias"]).relu(), 2)
    x = conv2d(x, w["convnet.c5.weight"], w["convnet.c5.bias"]).relu().flatten(1)
    x = linear(x, w["fc.f6.weight"], w["fc.f6.bias"]).relu()
    found = load_extractor("mnist-lenet", tmp_path / "lenet.pth")(pixels)
    torch.testing.assert_close(found.features, x)
    torch.testing.assert_close(found.logits, linear(x, w["fc.f7.weight"], w["fc.f7.bias"]))


def test_resnet_follows_its_published_layout(tmp_path):
    w = randomised(Cifar10ResNet())
    torch.save({"state_dict": {f"module.{k}": v for k, v in w.items()}, "best_prec1": 0.9}, tmp_path / "r.th")
    pixels = images(3, 32)

    def unit(x, name, conv, stride=1):
        x = conv2d(x, w[f"{name}{conv}.weight"], stride=stride, padding=1)
        bn = f"{name}{conv.replace('conv', 'bn')}"
        return batch_norm(
            x, w[f"{bn}.running_mean"], w[f"{bn}.running_var"], w[f"{bn}.weight"], w[f"{bn}.bias"]
        )

    x = (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    x = unit(x, "", "conv1").relu()
    for stage in (1, 2, 3):
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            y = unit(
                unit(x, f"layer{stage}.{block}.", "conv1", stride).relu(), f"layer{stage}.{block}.", "conv2"
            )
            half = x.shape[1] // 2
            short = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half)) if stride == 2 else x
            x = (y + short).relu()
    x = avg_pool2d(x, 8).flatten(1)
    found = load_extractor("cifar10-resnet20", tmp_path / "r.th")(pixels)
    torch.testing.assert_close(found.features, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found.logits, linear(x, w["linear.weight"], w["linear.bias"]), rtol=1e-4, atol=1e-4
    )


def test_shipped_digits_weights_give_non_negative_features_and_an_identity():
    extractor = load_extractor("digits-cnn", SHIPPED)
    found = extractor(images(1, 8))
    assert found.features.shape == (6, 64)
    assert found.features.dtype == torch.float32
    assert (found.features >= 0).all()
    assert found.logits.shape == (6, 10)
    assert extractor.identity["weights"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


def test_features_do_not_depend_on_other_images_of_the_batch():
    extractor = load_extractor("digits-cnn", SHIPPED)
    pixels = images(1, 8, 50)
    whole = extractor(pixels).features
    parts = torch.cat([extractor(part).features for part in pixels.split(7)])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_digits_network_of_another_width_and_depth_of_colour(tmp_path):
    save_file(randomised(DigitsCNN(channels=3, classes=7, width=4)), tmp_path / "w.safetensors")
    extractor = load_extractor("digits-cnn", tmp_path / "w.safetensors")
    found = extractor(images(3, 16))
    assert (extractor.dimension, extractor.identity["dimension"]) == (8, 8)
    assert found.logits.shape == (6, 7)


@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_identity_is_complete_but_for_the_weights(name):
    usual = {"network", "layer", "dimension", "resize", "normalisation"}
    assert set(identity_of(name)) - {"arithmetic"} == usual
    assert identity_of(name)["network"] == name


def test_refusals(tmp_path):
    extractor = load_extractor("digits-cnn", SHIPPED)
    with pytest.raises(ValueError, match="reads uint8 images"):
        extractor(images(1, 8).float())
    with pytest.raises(ValueError, match="reads 1 channels, got images with 3"):
        extractor(images(3, 8))
    with pytest.raises(ValueError, match="unknown extractor 'vgg': known are digits-cnn"):
        load_extractor("vgg", SHIPPED)
    with pytest.raises(FileNotFoundError):
        load_extractor("digits-cnn", tmp_path / "none")
    with pytest.raises(ValueError, match="does not fit MnistLeNet"):
        load_extractor("mnist-lenet", SHIPPED)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        load_extractor("mnist-lenet", tmp_path / "list.pth")


@pytest.mark.parametrize("kind", ["empty", "text", "a page", "half a zip", "half safetensors", "a class"])
def test_what_is_no_weight_file_is_named(tmp_path, kind):
    file = tmp_path / "weights"
    torch.save(randomised(MnistLeNet()), file)
    content = {
        "empty": b"",
        "text": b"weights",
        "a page": b"<!doctype html><html></html>",
        "half a zip": file.read_bytes()[: file.stat().st_size // 2],
        "half safetensors": SHIPPED.read_bytes()[: SHIPPED.stat().st_size // 2],
        "a class": pickle.dumps(Path("/"), protocol=2),
    }[kind]
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is no file of weights, or a damaged one"):
        load_extractor("mnist-lenet", file)


def test_damaged_weights_do_not_pass_as_features(tmp_path):
    tensors = randomised(MnistLeNet())
    tensors["fc.f6.bias"][0] = float("nan")
    torch.save(tensors, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="not finite"):
        load_extractor("mnist-lenet", tmp_path / "nan.pth")(images(1, 28))
