"""NCSN++, DDPM++ and DDPM: golden outputs, published sizes, layouts, and the mathematics of their layers."""

import copy
import math

import pytest
import torch
from golden_networks import GOLDEN, golden_array, golden_config, relative_error
from safetensors.torch import load_file
from torch import nn

from sdesampling.networks import build_network
from sdesampling.networks.attention import Attention
from sdesampling.networks.embeddings import geometric_sigmas, positional_embedding, sigma_of_label
from sdesampling.networks.layers import ddpm_initialise
from sdesampling.networks.normalisation import normalise
from sdesampling.networks.published import PUBLISHED
from sdesampling.networks.resampling import Resample, ResampleConv2d

# Another order of float32 sums than the reference's gives up to 1.5e-6 of the largest value; a wrong layer
# gives more than 1e-2.
TOLERANCE = 1e-5

SMALL = {"image_size": 8, "num_channels": 1, "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1}


def small(**arguments):
    """A small network all of whose layers matter: those that start silent get random weights too."""
    torch.manual_seed(0)
    network = build_network("ncsnpp", **{**SMALL, "attn_resolutions": [4], **arguments})
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-5:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "kind"), [("ncsnpp_ve_positional", "int"), ("ddpmpp_vp", "float"), ("ddpmpp_vp", "int")]
)
@pytest.mark.parametrize("gradients", [False, True], ids=["sampling", "with gradients"])
def test_golden_outputs(name, kind, gradients):
    network = golden_config(name).networks()["network"]
    network.load_state_dict(load_file(GOLDEN / f"networks_{name}.safetensors"))
    x, labels = golden_array(f"{name}/{kind}_x"), golden_array(f"{name}/{kind}_labels")
    with torch.set_grad_enabled(gradients):
        y = network.eval()(x, labels)
    assert relative_error(y, golden_array(f"{name}/{kind}_y_ema")) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        ("ve/cifar10_ncsnpp", 62_693_251, 62_693_251),
        ("ve/cifar10_ncsnpp_continuous", 62_758_915, 62_758_787),
        ("ve/cifar10_ncsnpp_deep_continuous", 107_587_075, 107_586_947),
        ("vp/cifar10_ddpmpp", 61_804_419, 61_804_419),
        ("subvp/cifar10_ddpmpp_continuous", 61_804_419, 61_804_419),
        ("vp/cifar10_ddpmpp_deep_continuous", 106_632_579, 106_632_579),
        ("vp/cifar10_ncsnpp_continuous", 62_693_251, 62_693_251),
        ("vp/cifar10_ddpm", 35_218_947, 35_218_947),
        ("ve/cifar10_ddpm", 35_218_947, 35_218_947),
    ],
)
def test_published_sizes(name, parameters, trained):
    with torch.device("meta"):
        network = PUBLISHED[name].networks()["network"]
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == trained


@pytest.mark.parametrize("fir", [True, False])
@pytest.mark.parametrize("resblock_type", ["biggan", "ddpm"])
@pytest.mark.parametrize("progressive", ["none", "output_skip", "residual"])
@pytest.mark.parametrize("progressive_input", ["none", "input_skip", "residual"])
def test_sampling_agrees_with_float64_in_every_variant(fir, resblock_type, progressive, progressive_input):
    network = small(
        fir=fir, resblock_type=resblock_type, progressive=progressive, progressive_input=progressive_input
    )
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([0.02, 1.0, 30.0])
    with torch.no_grad():
        y = network(x, labels)
    exact = copy.deepcopy(network).double()(x.double(), labels)
    assert relative_error(y.double(), exact) < TOLERANCE


def test_bfloat16_costs_about_a_percent():
    network = small()
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([0.02, 1.0, 30.0])
    with torch.no_grad():
        exact = network(x, labels)
        network.set_precision(torch.bfloat16)
        y = network(x, labels)
    assert y.dtype == torch.float32
    assert network.all_modules[0].W.dtype == network.sigmas.dtype == torch.float32
    first, *_, last = [m for m in network.all_modules if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert first.weight.dtype == last.weight.dtype == torch.float32
    inner = [p.dtype for p in network.parameters() if p.dtype == torch.bfloat16]
    assert len(inner) > 0.8 * len(list(network.parameters()))
    assert 1e-4 < relative_error(y, exact) < 3e-2


@pytest.mark.parametrize("progressive", ["none", "output_skip", "residual"])
@pytest.mark.parametrize("progressive_input", ["none", "input_skip", "residual"])
def test_every_variant_has_a_form_in_bfloat16(progressive, progressive_input):
    network = small(progressive=progressive, progressive_input=progressive_input)
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([0.02, 1.0, 30.0])
    with torch.no_grad():
        exact = network(x, labels)
        network.set_precision(torch.bfloat16)
        assert 1e-4 < relative_error(network(x, labels), exact) < 0.1  # few channels average little out
        network.set_precision(torch.float64)
        assert network(x, labels).dtype == torch.float32
        assert {p.dtype for name, p in network.named_parameters() if name != "all_modules.0.W"} == {
            torch.float64
        }


def test_float64_images_pass_through_a_float32_network():
    network = small()
    x, labels = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64)
    with torch.no_grad():
        y = network(x, labels)
        assert y.dtype == torch.float64
        assert relative_error(y, network(x.float(), labels.float()).double()) < TOLERANCE


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"images of shape \(1, 16, 16\): the network takes \(1, 8, 8\)"):
        small()(torch.rand(1, 1, 16, 16), torch.ones(1))


@pytest.mark.parametrize("combine", ["sum", "cat"])
def test_input_skip_is_joined_by_sum_or_concatenation(combine):
    network = small(progressive_input="input_skip", progressive_combine=combine, scale_by_sigma=False)
    assert network(torch.rand(2, 1, 8, 8), torch.ones(2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("network", ["ncsnpp", "ddpm"])
def test_every_trained_parameter_gets_a_gradient(network):
    width = {"nf": 32} if network == "ddpm" else {}
    model = build_network(network, **{**SMALL, "attn_resolutions": [4], **width}).train()
    model(torch.rand(4, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0, 4.0])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    assert sum(not p.requires_grad for p in model.parameters()) == (network == "ncsnpp")  # Fourier's W


def test_dropout_acts_in_train_mode_alone():
    network = small(dropout=0.5)
    x, labels = torch.rand(2, 1, 8, 8), torch.ones(2)
    assert torch.equal(network(x, labels), network(x, labels))
    network.train()
    assert not torch.equal(network(x, labels), network(x, labels))


def test_images_of_a_batch_do_not_know_each_other():
    network = small()
    x, labels = torch.rand(4, 1, 8, 8), torch.tensor([0.1, 1.0, 10.0, 40.0])
    together = network(x, labels)
    alone = torch.cat([network(x[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert relative_error(together, alone) < TOLERANCE


def test_equal_labels_share_an_embedding_and_give_the_same():
    network = small()
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        shared = network(x, torch.full((3,), 2.0))
        apart = network(torch.cat([x, x[:1]]), torch.tensor([2.0, 2.0, 2.0, 5.0]))[:3]
    assert relative_error(shared, apart) < TOLERANCE


def test_images_in_0_1_are_centred():
    x, labels = torch.rand(2, 1, 8, 8), torch.ones(2)
    torch.testing.assert_close(small()(x, labels), small(centered=True)(2 * x - 1, labels))


def test_output_is_divided_by_sigma():
    x, labels = torch.rand(2, 1, 8, 8), torch.tensor([0.1, 4.0])
    plain = small(scale_by_sigma=False)(x, labels)
    torch.testing.assert_close(small()(x, labels) * labels[:, None, None, None], plain)


def test_unconditional_networks_ignore_all_of_a_label_but_its_sigma():
    network = small(conditional=False, scale_by_sigma=False)
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(network(x, torch.tensor([1.0])), network(x, torch.tensor([7.0])))


def test_fractional_labels_lie_between_their_neighbours():
    sigmas = geometric_sigmas(0.01, 50.0, 1000)
    whole = torch.tensor([0, 17, 500, 999])
    assert torch.equal(sigma_of_label(sigmas, whole.float()), sigma_of_label(sigmas, whole))
    # Half-way between two scales is their geometric mean; beyond the last scale is the last one.
    assert sigma_of_label(sigmas, torch.tensor([17.5])).item() == pytest.approx(
        math.sqrt(sigmas[17] * sigmas[18]), rel=1e-6
    )
    assert sigma_of_label(sigmas, torch.tensor([999.5])) == sigmas[999]
    # P2000's labels put the 2000 scales of the same range on the trained 1000.
    labels = torch.arange(2000) * (999 / 1999)
    torch.testing.assert_close(
        sigma_of_label(sigmas, labels), geometric_sigmas(0.01, 50.0, 2000), rtol=2e-5, atol=0
    )


def test_positional_embedding_of_ho_et_al():
    embedding = positional_embedding(torch.tensor([0.0, 2.5]), 6)
    wave_numbers = [1.0, 1e-2, 1e-4]
    expected = [[f(label * k) for f in (math.sin, math.cos) for k in wave_numbers] for label in (0.0, 2.5)]
    torch.testing.assert_close(embedding, torch.tensor(expected))
    assert positional_embedding(torch.tensor([3]), 7).shape == (1, 7)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2), (1, 2, 1), (1, 2, 3, 4), (1, 2, 3, 4, 5), (1,) * 6])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_resampling_is_zero_insertion_padding_and_convolution(taps, direction):
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    excess = len(taps) - 2
    line = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    kernel = torch.outer(line, line)
    if direction == "up":
        stretched = torch.zeros(2, 3, 12, 12, dtype=torch.float64)
        stretched[:, :, ::2, ::2] = 4 * x
        expected = _convolved(stretched, kernel, (excess + 1) // 2 + 1, excess // 2)
    else:
        expected = _convolved(x, kernel, (excess + 1) // 2, excess // 2)[:, :, ::2, ::2]
    torch.testing.assert_close(Resample(direction, taps).double()(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_resampling_convolutions_pad_once(direction):
    layer = ResampleConv2d(direction, 2, 3, (1, 3, 3, 1)).double()
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    line = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    kernel, weight = torch.outer(line, line), layer.Conv2d_0.weight
    if direction == "up":  # zeros between the pixels, convolution, filter
        stretched = torch.zeros(1, 2, 15, 15, dtype=torch.float64)
        stretched[:, :, 2:14:2, 2:14:2] = 4 * x
        expected = _convolved(nn.functional.conv2d(stretched, weight), kernel, 1, 1)
    else:
        expected = nn.functional.conv2d(_convolved(x, kernel, 2, 2), weight, stride=2)
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-6)  # biases start at 0


def _convolved(x, kernel, before, after):
    """True convolution (the kernel flipped) of every channel, padded above and left, below and right."""
    padded = nn.functional.pad(x, (before, after, before, after))
    batch, channels, height, width = padded.shape
    flat = padded.reshape(batch * channels, 1, height, width)
    result = nn.functional.conv2d(flat, kernel.flip(0, 1)[None, None])
    return result.reshape(batch, channels, *result.shape[2:])


def test_normalisation_loses_nothing_where_the_mean_is_large():
    norm = nn.GroupNorm(2, 8, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    shift = torch.randn(3, 8)
    for mean in (0.0, 10.0, 1000.0):
        x = torch.randn(3, 8, 5, 5) + mean
        exact = copy.deepcopy(norm).double()(x.double() + shift.double()[:, :, None, None])
        with torch.no_grad():
            result = normalise(norm, x, shift)
        rounding = 2**-24 * max(mean, 1.0)  # of the values that come in
        assert (result - exact).abs().max() < 40 * rounding


def test_attention_is_a_softmax_over_the_pixels():
    layer = Attention(4, groups=2, init_scale=1.0, skip_rescale=True)
    x = torch.randn(2, 4, 3, 3)
    tokens = layer.GroupNorm_0(x).flatten(2).transpose(1, 2)
    q, k, v = (tokens @ nin.W + nin.b for nin in (layer.NIN_0, layer.NIN_1, layer.NIN_2))
    weights = (q @ k.transpose(1, 2) / 2).softmax(dim=-1)
    change = (weights @ v) @ layer.NIN_3.W + layer.NIN_3.b
    expected = (x + change.transpose(1, 2).reshape(x.shape)) / math.sqrt(2)
    torch.testing.assert_close(layer(x), expected)


def test_initialisation_of_ddpm():
    weight = torch.empty(64, 32, 3, 3)
    torch.manual_seed(0)
    ddpm_initialise(weight)
    assert weight.var().item() == pytest.approx(1 / (9 * 48), rel=0.05)
    ddpm_initialise(weight, 0.0)
    assert 0 < weight.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resblock_type": "bigan"}, "did you mean 'biggan'"),
        ({"image_size": 6, "ch_mult": [1, 1, 1]}, "image_size = 6: must be divisible by 4"),
        ({"nf": 3}, "nf = 3: must be at least 4"),
        ({"nf": 6, "ch_mult": [1, 3]}, "18 channels cannot be normalised in 4 groups"),
        ({"fir_kernel": [1]}, "needs at least two taps"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "0 < sigma_min <= sigma_max"),
        ({"num_chanels": 1}, "did you mean 'num_channels'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network("ncsnpp", **{**SMALL, **arguments})


def test_unknown_networks_and_missing_arguments_are_named():
    with pytest.raises(ValueError, match="did you mean 'ncsnpp'"):
        build_network("ncsnp")
    with pytest.raises(ValueError, match="needs image_size, num_channels"):
        build_network("ddpm")
    with pytest.raises(ValueError, match="multiple of 32"):
        build_network("ddpm", image_size=8, num_channels=1, nf=16)
