"""Winograd's convolution is the ordinary one, as exactly, and is taken in sampling on CPUs alone."""

import copy

import pytest
import torch
from torch.nn.functional import conv2d

from sdesampling.networks import winograd as module
from sdesampling.networks.winograd import Conv3x3, transform_weight, winograd


def relative_error(result, exact):
    return float((result.double() - exact).abs().max() / exact.abs().max())


def layer(inputs=64, outputs=64):
    torch.manual_seed(0)
    return Conv3x3(inputs, outputs, 3, 1, 1)


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width"),
    [(1, 64, 64, 16, 16), (5, 96, 64, 16, 32), (2, 64, 130, 32, 32), (3, 65, 64, 20, 28), (1, 1, 1, 4, 4)],
)
def test_float32_is_as_exact_as_the_ordinary_convolution(batch, inputs, outputs, height, width):
    torch.manual_seed(1)
    x, weight, bias = torch.randn(batch, inputs, height, width), torch.randn(outputs, inputs, 3, 3), None
    exact = conv2d(x.double(), weight.double(), bias, padding=1)
    assert relative_error(winograd(x, transform_weight(weight), None), exact) < 5e-6
    bias = torch.randn(outputs)
    exact += bias[:, None, None]
    assert relative_error(winograd(x, transform_weight(weight), bias), exact) < 5e-6


def test_the_transforms_are_exact_in_float64():
    output, weight, inputs = module.matrices()
    signal, taps = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    filtered = output @ ((weight @ taps) * (inputs @ signal))
    assert torch.allclose(filtered, signal.unfold(0, 3, 1) @ taps, rtol=0, atol=1e-13)


def test_memory_layout_of_the_image_does_not_matter():
    convolution, x = layer(), torch.randn(2, 64, 16, 16)
    with torch.no_grad():
        assert torch.equal(convolution(x), convolution(x.contiguous(memory_format=torch.channels_last)))


def test_training_takes_the_ordinary_convolution():
    convolution, x = layer(), torch.randn(2, 64, 16, 16)
    ordinary = conv2d(x, convolution.weight, convolution.bias, padding=1)
    assert torch.equal(convolution(x), ordinary)
    with torch.no_grad():
        assert not torch.equal(convolution(x), ordinary)  # the last bits say which way was taken
        assert torch.allclose(convolution(x), ordinary, atol=1e-5)


def test_changed_weights_are_transformed_again():
    convolution, x = layer(), torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        before = convolution(x)
        convolution.weight.mul_(2)
        convolution.bias.mul_(2)
        assert torch.allclose(convolution(x), 2 * before, atol=1e-4)
        convolution.load_state_dict({"weight": convolution.weight / 4, "bias": convolution.bias / 4})
        assert torch.allclose(convolution(x), before / 2, atol=1e-4)


def test_copies_do_not_share_transformed_weights():
    convolution, x = layer(), torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        convolution(x)
        other = copy.deepcopy(convolution)
        assert other._transformed is None
        assert torch.equal(other(x), convolution(x))
    assert set(convolution.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("shape", [(1, 64, 8, 8), (1, 64, 18, 18), (1, 64, 16, 17)])
def test_sizes_that_do_not_pay_or_fit_take_the_ordinary_convolution(shape):
    convolution, x = layer(), torch.randn(shape)
    with torch.no_grad():
        assert torch.equal(convolution(x), conv2d(x, convolution.weight, convolution.bias, padding=1))
