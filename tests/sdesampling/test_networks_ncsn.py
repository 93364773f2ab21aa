"""NCSN and NCSNv2: golden outputs, layouts, and the mathematics of their norms."""

import pytest
import torch
from golden_networks import GOLDEN, golden_array, golden_config, relative_error

from sdesampling.checkpoints import read_checkpoint
from sdesampling.networks import build_network
from sdesampling.networks.refinenet import ConditionalInstanceNormPlus, InstanceNormPlus


def test_golden_outputs_of_an_ncsn_checkpoint():
    checkpoint = read_checkpoint(GOLDEN / "networks_ncsn_refinenet_28.pth")
    network = checkpoint.network(golden_config("ncsn_refinenet_28"), "raw")
    assert list(network.state_dict()) == list(checkpoint.raw)
    with torch.no_grad():
        y = network(golden_array("ncsn_refinenet_28/x"), golden_array("ncsn_refinenet_28/labels"))
    assert relative_error(y, golden_array("ncsn_refinenet_28/y")) < 1e-5


@pytest.mark.parametrize(
    ("shape", "parameters"), [((1, 28), 143_505), ((3, 32), 143_795)], ids=["28x28x1", "32x32x3"]
)
def test_sizes_of_small_ncsn_networks(shape, parameters):
    network = build_network("ncsn", num_channels=shape[0], image_size=shape[1], ngf=8)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "refinements"),
    [
        ("standard", ["1", "2", "3", "4"]),
        ("deeper", ["1", "2", "3", "4", "5"]),
        ("deepest", ["1", "2", "3", "31", "4", "5"]),
    ],
)
def test_layout_of_ncsnv2(depth, refinements):
    network = build_network("ncsnv2", image_size=16, num_channels=3, ngf=4, depth=depth)
    names = [name for name, _ in network.named_children()]
    assert names[:3] == ["begin_conv", "normalizer", "end_conv"]
    assert [name.removeprefix("refine") for name in names if name.startswith("refine")] == refinements
    state = network.state_dict()
    assert state["refine1.adapt_convs.0.1_1_conv.weight"].shape[1] == (8 if depth == "standard" else 16)
    assert "refine2.msf.convs.1.bias" in state
    assert "res2.0.conv2.conv.weight" in state  # a convolution before pooling
    assert not any("norm" in name for name in state if name.startswith("refine"))


def test_ncsnv2_is_divided_by_the_noise_scale():
    network = build_network("ncsnv2", image_size=8, num_channels=1, ngf=4, num_scales=20).eval()
    x = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        outputs = [network(x, torch.tensor([label])) * network.sigmas[label] for label in (0, 7)]
    torch.testing.assert_close(*outputs)


def test_instance_norm_plus_of_song_and_ermon():
    x = torch.randn(2, 5, 4, 4) * 3 + 1
    norm = InstanceNormPlus(5)
    torch.nn.init.normal_(norm.beta)
    mean, std = x.mean((2, 3)), x.var((2, 3), unbiased=False).add(1e-5).sqrt()
    relative = (mean - mean.mean(1, keepdim=True)) / mean.var(1, keepdim=True).add(1e-5).sqrt()
    h = (x - mean[:, :, None, None]) / std[:, :, None, None]
    h = h + (norm.alpha * relative)[:, :, None, None]
    expected = norm.gamma[:, None, None] * h + norm.beta[:, None, None]
    torch.testing.assert_close(norm(x, torch.zeros(2)), expected, atol=1e-5, rtol=1e-5)


def test_conditional_norms_look_up_their_scales():
    norm = ConditionalInstanceNormPlus(2, labels=3)
    plain = InstanceNormPlus(2)
    with torch.no_grad():
        norm.embed.weight[1] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        plain.gamma[:], plain.alpha[:], plain.beta[:] = (
            torch.tensor(pair) for pair in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0])
        )
    x = torch.randn(1, 2, 3, 3)
    torch.testing.assert_close(norm(x, torch.tensor([1])), plain(x, torch.tensor([1])))


def test_labels_and_sizes_that_make_no_sense_are_refused():
    network = build_network("ncsn", image_size=8, num_channels=1, ngf=4)
    with pytest.raises(ValueError, match="whole numbers"):
        network(torch.rand(1, 1, 8, 8), torch.tensor([1.5]))
    with pytest.raises(ValueError, match="must be even"):
        build_network("ncsn", image_size=7, num_channels=1)
    with pytest.raises(ValueError, match="multiple of 8"):
        build_network("ncsnv2", image_size=12, num_channels=1, depth="deepest")
    with pytest.raises(ValueError, match="did you mean 'deeper'"):
        build_network("ncsnv2", image_size=8, num_channels=1, depth="deepr")


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_bfloat16_costs_some_percent_and_keeps_the_ends_in_float32(name):
    torch.manual_seed(0)
    network = build_network(name, image_size=16, num_channels=3, ngf=16).eval()
    x, labels = torch.rand(2, 3, 16, 16), torch.tensor([1, 4])
    with torch.no_grad():
        exact = network(x, labels)
        network.set_precision(torch.bfloat16)
        y = network(x, labels)
    assert y.dtype == network.begin_conv.weight.dtype == network.end_conv.weight.dtype == torch.float32
    assert network.res1[0].conv1.weight.dtype == torch.bfloat16
    assert 1e-4 < relative_error(y, exact) < 5e-2
