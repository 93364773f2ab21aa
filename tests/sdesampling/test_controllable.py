"""Inpainting and colourisation: the reference's numbers, what stays, what follows from what is known."""

import pytest
import torch
from golden_samplers import golden_model, manifest, relative_difference, runs_case
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, MixtureNetwork
from sdesampling.controllable import colourisation, inpainting
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.sde import VE, VP


def run(sampler, noise):
    state = sampler.init(noise)
    for _ in range(sampler.steps):
        state = sampler.step(state, noise)
    return state


@pytest.mark.parametrize(
    "name", [name for name in manifest()["runs"] if name.startswith(("inpaint/", "colorize/"))]
)
def test_runs_of_the_reference(name):
    golden, case = runs_case(name), manifest()["runs"][name]
    model = golden_model(case)
    hyper = {
        "predictor": case["predictor"],
        "corrector": case["corrector"],
        "steps": case["N"],
        "corrector_steps": case["n_steps"],
        "snr": case["snr"],
        "eps": case["eps"],
        "denoise": "known" if case["denoise"] else "none",
    }
    known = golden["data"] if "data" in golden else golden["gray"]
    images = (known + 1) / 2 if model.centered else known
    if "mask" in golden:
        sampler = inpainting(model, images, golden["mask"], **hyper)
    else:
        sampler = colourisation(model, images, **hyper)
    noise = RecordedNoise(list(golden["noise"]))
    state = run(sampler, noise)
    assert noise.remaining == 0
    assert state.evaluations == sampler.planned_evaluations(**hyper)
    assert relative_difference(sampler.finish(state), golden["out"]) < 1e-4


def halves():
    """Images of two pixels that always are alike: dark or bright."""
    means = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    return MixtureNetwork(VE(0.01, 5.0), torch.tensor([0.5, 0.5]), means, torch.full((2,), 0.03)).model()


@pytest.mark.parametrize("corrector", ["langevin", "none"])
def test_what_is_known_decides_the_rest(corrector):
    images = torch.tensor([0.2, 0.8]).repeat(50).view(100, 1, 1, 1).expand(100, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0])
    sampler = inpainting(halves(), images, mask, steps=100, corrector=corrector, denoise="all")
    found = sampler.finish(run(sampler, NoiseStream(0, 0, range(100))))
    assert_close(found[..., 0], images[..., 0])
    assert ((found[..., 1] - images[..., 1]).abs() < 0.2).double().mean() > 0.95


def test_denoising_the_unknown_part_takes_its_last_noise_away():
    images, mask = torch.full((64, 1, 1, 2), 0.2), torch.tensor([1.0, 0.0])
    known, everything, nothing = (
        inpainting(halves(), images, mask, steps=30, denoise=denoise) for denoise in ("known", "all", "none")
    )
    noise = NoiseStream(0, 0, range(64))
    state = run(nothing, noise)
    noisy = nothing.finish(state)
    as_the_reference, clean = (each.finish(run(each, noise)) for each in (known, everything))
    assert torch.equal(as_the_reference[..., 1], noisy[..., 1])
    assert torch.equal(clean[..., 0], as_the_reference[..., 0])
    assert not torch.equal(noisy[..., 0], images[..., 0])
    assert clean[..., 1].std() < noisy[..., 1].std()


def test_coloured_images_keep_their_grey():
    torch.manual_seed(0)
    model = GaussianNetwork(VP(), torch.rand(3, 2, 2), torch.full((3, 2, 2), 0.5)).model()
    grey = torch.rand(5, 1, 2, 2).expand(5, 3, 2, 2)
    sampler = colourisation(model, grey, steps=40, snr=0.05)
    found = sampler.finish(run(sampler, NoiseStream(0, 0, range(5))))
    # the grey is that of the last time, scaled by the SDE's mean coefficient there, which is 6e-5 below 1
    assert_close(found.mean(1), grey[:, 0], rtol=0, atol=1e-4)
    assert found.std(dim=1).mean() > 0.05


def test_what_makes_no_sense_is_refused():
    model, images = halves(), torch.zeros(3, 1, 1, 2)
    with pytest.raises(ValueError, match="mask: must be 1 where"):
        inpainting(model, images, torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"images are \(3, 1, 2, 1\)"):
        inpainting(model, images.transpose(2, 3), torch.ones(1))
    with pytest.raises(ValueError, match="needs three channels"):
        colourisation(model, images)
    with pytest.raises(ValueError, match="did you mean 'known'"):
        inpainting(model, images, torch.ones(1), denoise="know")
    with pytest.raises(ValueError, match="2 samples, but 3 images"):
        inpainting(model, images, torch.ones(1)).init(NoiseStream(0, 0, range(2)))
