"""Controls, and the way samplers are built by name."""

import pytest
import torch

from sdesampling.analytic import GaussianNetwork
from sdesampling.noise import NoiseStream
from sdesampling.samplers import SAMPLERS, build_sampler, planned_evaluations
from sdesampling.sde import VE

MODEL = GaussianNetwork(VE(), torch.zeros(2, 3, 4), torch.ones(2, 3, 4)).model()
BYTES = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)


def test_noise_images_are_uniform():
    sampler = build_sampler("noise", MODEL)
    images = sampler.finish(sampler.init(NoiseStream(0, 0, range(2000))))
    assert images.shape == (2000, 2, 3, 4)
    assert 0 < float(images.min()) < 0.001
    assert 0.999 < float(images.max()) <= 1
    assert float(images.std()) == pytest.approx(12**-0.5, rel=0.02)


def test_real_images_are_those_of_the_data_set_byte_for_byte():
    sampler = build_sampler("real", BYTES)
    images = sampler.finish(sampler.init(NoiseStream(7, 3, range(4, 16))))
    assert torch.equal((images * 255).clamp(0, 255).floor().byte(), BYTES[4:])
    assert torch.equal((images * 255).clamp(0, 255).round().byte(), BYTES[4:])


def test_more_real_images_than_there_are_are_refused():
    sampler = build_sampler("real", BYTES)
    with pytest.raises(
        ValueError, match="sample 16 was asked for, but the data set has 16 images; take at most 16"
    ):
        sampler.init(NoiseStream(0, 0, range(10, 17)))
    with pytest.raises(ValueError, match="must be uint8"):
        build_sampler("real", BYTES.float())


@pytest.mark.parametrize(("kind", "model"), [("noise", MODEL), ("real", BYTES)])
def test_controls_have_no_steps(kind, model):
    sampler, noise = build_sampler(kind, model), NoiseStream(0, 0, range(2))
    assert (sampler.steps, planned_evaluations(kind)) == (0, 0)
    with pytest.raises(ValueError, match="no steps"):
        sampler.step(sampler.init(noise), noise)


def test_kinds_and_hyper_parameters_are_checked_by_name():
    with pytest.raises(ValueError, match="did you mean 'predictor_corrector'"):
        build_sampler("predictor-corrector", MODEL)
    with pytest.raises(ValueError, match=r"'predictr' is not one of predictor, .*; did you mean 'predictor'"):
        build_sampler("predictor_corrector", MODEL, predictr="ancestral")
    with pytest.raises(ValueError, match=r"'step' is not one of .*; did you mean 'steps'"):
        planned_evaluations("ddls", step=4)
    with pytest.raises(ValueError, match="'noise' has no hyper-parameters, but 'steps' was given"):
        build_sampler("noise", MODEL, steps=3)


def test_samplers_and_models_must_fit():
    with pytest.raises(ValueError, match="'ddls' works on a LatentModel, not on a ScoreModel"):
        build_sampler("ddls", MODEL)
    with pytest.raises(ValueError, match="'real' works on a Tensor, not on a ScoreModel"):
        build_sampler("real", MODEL)


def test_kinds():
    score = ["predictor_corrector", "ode", "dpm_solver", "edm", "annealed_langevin"]
    completing = ["inpainting", "colourisation", "annealed_langevin_inpainting"]
    assert list(SAMPLERS) == [*score, *completing, "ddls", "prior", "noise", "real"]
    assert planned_evaluations("predictor_corrector") == 2000
    assert planned_evaluations("predictor_corrector", predictor="none", corrector_steps=2) == 2001
