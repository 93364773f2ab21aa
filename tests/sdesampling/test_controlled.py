"""Inpainting and colourisation: the reference's numbers, what stays, what follows from what is known."""

import pytest
import torch
from golden_samplers import golden_model, manifest, relative_difference, runs_case
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, MixtureNetwork
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import AnnealedLangevinInpainting, Colourisation, Inpainting, build_sampler, run
from sdesampling.sde import VE, VP


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
        assert (golden["mask"] == golden["mask"][:1]).all()
        sampler = Inpainting(model, images=images, known=golden["mask"][:1], **hyper)
    else:
        sampler = Colourisation(model, images=images, **hyper)
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
    sampler = Inpainting(halves(), images=images, known=mask, steps=100, corrector=corrector, denoise="all")
    found = sampler.finish(run(sampler, NoiseStream(0, 0, range(100))))
    assert_close(found[..., 0], images[..., 0])
    assert ((found[..., 1] - images[..., 1]).abs() < 0.2).double().mean() > 0.95


def test_denoising_the_unknown_part_takes_its_last_noise_away():
    images, mask = torch.full((64, 1, 1, 2), 0.2), torch.tensor([1.0, 0.0])
    known, everything, nothing = (
        Inpainting(halves(), images=images, known=mask, steps=30, denoise=denoise)
        for denoise in ("known", "all", "none")
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
    sampler = Colourisation(model, images=grey, steps=40, snr=0.05)
    found = sampler.finish(run(sampler, NoiseStream(0, 0, range(5))))
    # the grey is that of the last time, scaled by the SDE's mean coefficient there, which is 6e-5 below 1
    assert_close(found.mean(1), grey[:, 0], rtol=0, atol=1e-4)
    assert found.std(dim=1).mean() > 0.05


def test_what_makes_no_sense_is_refused():
    model, images = halves(), torch.zeros(3, 1, 1, 2)
    with pytest.raises(ValueError, match="mask: must be 1 where"):
        Inpainting(model, images=images, known=torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"images are \(3, 1, 2, 1\)"):
        Inpainting(model, images=images.transpose(2, 3), known=torch.ones(1))
    with pytest.raises(ValueError, match=r"images are \(0, 1, 1, 2\)"):
        Inpainting(model, images=images[:0], known=torch.ones(1))
    with pytest.raises(ValueError, match=r"values from 0 to 255: must be in \[0, 1\], or uint8"):
        Inpainting(model, images=torch.tensor([0.0, 255.0]).view(1, 1, 1, 2), known=torch.ones(1))
    with pytest.raises(ValueError, match="needs three channels"):
        Colourisation(model, images=images)
    with pytest.raises(ValueError, match="did you mean 'known'"):
        Inpainting(model, images=images, known=torch.ones(1), denoise="know")
    with pytest.raises(ValueError, match=r"mask: \(3,\) is not the shape of \(1, 1, 2\)"):
        Inpainting(model, images=images, known=torch.ones(3))
    with pytest.raises(ValueError, match="did you mean 'known'"):
        build_sampler("inpainting", model, images=images, knwn=torch.ones(1))


def test_samples_take_the_images_in_turn_and_keep_their_bytes():
    images = torch.arange(6, dtype=torch.uint8).view(3, 1, 1, 2) * 51
    for model in (halves(), GaussianNetwork(VP(), torch.zeros(1, 1, 2), torch.ones(1, 1, 2)).model()):
        sampler = Inpainting(model, images=images, known=torch.ones(1), steps=25, snr=0.05)
        found = sampler.finish(run(sampler, NoiseStream(0, 0, range(2, 7))))
        for level in (found * 255, found * 255 + 0.5):
            assert torch.equal(level.floor().to(torch.uint8), images[[2, 0, 1, 2, 0]])


class TestAnnealedLangevin:
    """NCSN's way: the known half gets noise once a level and is put back after every step."""

    def test_follows_the_algorithm(self):
        torch.manual_seed(0)
        mean, std = torch.rand(1, 2, 4), torch.rand(1, 2, 4) + 0.1
        model = GaussianNetwork(VE(0.05, 1.0), mean, std).model()
        images, half = torch.rand(3, 1, 2, 4), torch.tensor([1.0, 1.0, 0.0, 0.0])
        sampler = AnnealedLangevinInpainting(
            model, images=images, known=half, levels=3, steps_per_level=2, step_size=1e-3
        )
        draws = torch.randn(10, 3, 1, 2, 4)  # the start, then at each level its noise and those of its steps
        noise = RecordedNoise(list(draws))
        found = sampler.finish(run(sampler, noise))
        x, draw = draws[0].clone(), iter(draws[1:])
        for sigma in (1.0, 0.05**0.5, 0.05):
            noisy = images + sigma * next(draw)
            x[..., :2] = noisy[..., :2]
            step = 1e-3 * (sigma / 0.05) ** 2
            for _ in range(2):
                x = x + step * (mean - x) / (std**2 + sigma**2) + (2 * step) ** 0.5 * next(draw)
                x[..., :2] = noisy[..., :2]
        assert noise.remaining == 0
        assert_close(found, x, rtol=1e-5, atol=1e-5)

    def test_what_is_known_decides_the_rest(self):
        images = torch.tensor([0.2, 0.8]).repeat(50).view(100, 1, 1, 1).expand(100, 1, 1, 2)
        sampler = AnnealedLangevinInpainting(
            halves(), images=images, known=torch.tensor([1.0, 0.0]), step_size=1e-5, denoise=True
        )
        found = sampler.finish(run(sampler, NoiseStream(0, 0, range(100))))
        assert_close(found[..., 0], images[..., 0])
        assert ((found[..., 1] - images[..., 1]).abs() < 0.2).double().mean() > 0.95


class TestGaussianData:
    """Where values are independent, what is unknown keeps the data's mean and spread."""

    MEAN, STD = torch.tensor([[[0.3, 0.6, 0.5, 0.2]]]), torch.tensor([[[0.1, 0.2, 0.15, 0.05]]])

    def completed(self, kind, sde, samples=4000, **hyper):
        model = GaussianNetwork(sde, self.MEAN, self.STD).model()
        images = torch.rand(7, 1, 1, 4, generator=torch.Generator().manual_seed(0))
        known = torch.tensor([1.0, 1.0, 0.0, 0.0])
        sampler = build_sampler(kind, model, images=images, known=known, **hyper)
        found = sampler.finish(run(sampler, NoiseStream(0, 0, range(samples))))
        chosen = images[torch.arange(samples) % 7]
        x = found * 2 - 1 if model.centered else found
        return x[..., 2:], found[..., :2] - chosen[..., :2]

    @pytest.mark.parametrize(
        ("sde", "hyper"),
        [
            (VE(0.005, 5.0), {"steps": 200}),
            (VP(), {"steps": 300, "corrector": "none", "predictor": "ancestral"}),
        ],
    )
    def test_inpainting(self, sde, hyper):
        unknown, error = self.completed("inpainting", sde, denoise="all", **hyper)
        assert error.abs().max() < 1e-3
        assert_close(unknown.mean(0), self.MEAN[..., 2:], rtol=0, atol=0.012)
        assert_close(unknown.std(0), self.STD[..., 2:], rtol=0.06, atol=0)

    def test_annealed_langevin(self):
        hyper = {"levels": 8, "steps_per_level": 60, "step_size": 2e-5}
        unknown, error = self.completed("annealed_langevin_inpainting", VE(0.01, 1.0), **hyper)
        assert_close(error.std(0), torch.full((1, 1, 2), 0.01), rtol=0.06, atol=0)  # of the last level
        assert_close(unknown.mean(0), self.MEAN[..., 2:], rtol=0, atol=0.012)
        spread = (self.STD[..., 2:] ** 2 + 0.01**2).sqrt()
        assert_close(unknown.std(0), spread, rtol=0.08, atol=0)

    def test_colourisation(self):
        """With one spread in all channels the colour axes are independent of grey: they keep mean and
        spread."""
        mean = torch.tensor([0.3, 0.5, 0.6]).view(3, 1, 1)
        model = GaussianNetwork(VE(0.005, 5.0), mean, torch.full((3, 1, 1), 0.1)).model()
        grey = torch.linspace(0.2, 0.8, 7).view(7, 1, 1, 1).expand(7, 3, 1, 1)
        sampler = Colourisation(model, images=grey, steps=200, denoise="all")
        found = sampler.finish(run(sampler, NoiseStream(0, 0, range(4000)))).flatten(1)
        assert_close(found.mean(1), grey[torch.arange(4000) % 7, 0, 0, 0], rtol=0, atol=1e-3)
        difference = found[:, 0] - found[:, 1]
        assert float(difference.mean()) == pytest.approx(-0.2, abs=0.012)
        assert float(difference.std()) == pytest.approx(0.1 * 2**0.5, rel=0.06)
