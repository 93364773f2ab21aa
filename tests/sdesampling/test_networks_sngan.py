"""SN-GAN and the DCGANs of csinva: layouts of the published state dicts, ranges, spectral norm."""

import pytest
import torch

from sdesampling.networks import build_network
from sdesampling.networks.sngan import SNConv2d, spectrally_normalised


def test_layout_of_torch_mimicry():
    generator = build_network("sngan_generator").state_dict()
    assert sum(p.numel() for p in build_network("sngan_generator").parameters()) == 4_276_739
    for name, shape in {
        "l1.weight": (4096, 128),
        "block2.c1.weight": (256, 256, 3, 3),
        "block4.c_sc.bias": (256,),
        "block3.b2.running_var": (256,),
        "b5.num_batches_tracked": (),
        "c5.weight": (3, 256, 3, 3),
    }.items():
        assert generator[name].shape == shape
    discriminator = build_network("sngan_discriminator").state_dict()
    for name, shape in {
        "block1.c_sc.weight": (128, 3, 1, 1),
        "block2.c_sc.sn_u": (1, 128),
        "block3.c1.sn_sigma": (1,),
        "l5.sn_u": (1, 1),
    }.items():
        assert discriminator[name].shape == shape
    assert "block3.c_sc.weight" not in discriminator


def test_sngan_maps_latents_to_images_to_outputs():
    generator = build_network("sngan_generator", latent_dim=8, width=8).eval()
    discriminator = build_network("sngan_discriminator", width=8).eval()
    images = generator(torch.randn(3, 8))
    assert images.shape == (3, 3, 32, 32)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3,)


def test_spectral_norm_stands_still_in_eval_mode_and_converges_in_train_mode():
    layer = SNConv2d(4, 6, 3)
    start = layer.sn_u.clone()
    frozen = spectrally_normalised(layer.eval())
    assert torch.equal(frozen, spectrally_normalised(layer))
    assert torch.equal(layer.sn_u, start)
    layer.train()
    for _ in range(200):
        spectrally_normalised(layer)
    assert torch.linalg.matrix_norm(spectrally_normalised(layer).flatten(1), 2).item() == pytest.approx(
        1, rel=1e-3
    )
    largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    torch.testing.assert_close(layer.sn_sigma, largest[None], rtol=1e-3, atol=0)


@pytest.mark.parametrize(("data", "shape"), [("cifar10", (3, 32, 32)), ("mnist", (1, 28, 28))])
def test_csinva_dcgan_maps_latents_to_images_to_logits(data, shape):
    generator = build_network("csinva_dcgan_generator", data=data).eval()
    discriminator = build_network("csinva_dcgan_discriminator", data=data).eval()
    images = generator(torch.randn(2, 100))
    assert images.shape == (2, *shape)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)
    assert generator.state_dict()["main.12.weight"].shape == (64, shape[0], 1, 1)
    last = {"cifar10": ("main.11.weight", (1, 512, 2, 2)), "mnist": ("main.8.weight", (1, 256, 4, 4))}[data]
    assert discriminator.state_dict()[last[0]].shape == last[1]
