"""The predictor-corrector loop: order, evaluations, denoising, batch coupling, errors."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork, KernelDensityNetwork
from sdesampling.noise import NoiseStream, RecordedNoise
from sdesampling.samplers import NonFiniteStateError, State, build_sampler, planned_evaluations, run
from sdesampling.sde import VE, VP, SubVP

MEAN, STD = torch.full((1, 2, 2), 0.3), torch.full((1, 2, 2), 0.2)
PREDICTORS = ("ancestral", "reverse_diffusion", "euler_maruyama", "probability_flow", "none")
CORRECTORS = ("langevin", "annealed_langevin", "none")
COMBINATIONS = [pair for pair in product(PREDICTORS, CORRECTORS) if pair != ("none", "none")]
SDES = {"ve": VE(0.01, 8.0), "vp": VP(), "subvp": SubVP()}


def gaussian(family="ve"):
    return GaussianNetwork(SDES[family], MEAN, STD).model()


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("corrector_steps", [1, 2])
@pytest.mark.parametrize(("predictor", "corrector"), COMBINATIONS)
def test_planned_evaluations_are_those_made(predictor, corrector, corrector_steps, denoise):
    hyper = {
        "predictor": predictor,
        "corrector": corrector,
        "corrector_steps": corrector_steps,
        "denoise": denoise,
        "steps": 7,
    }
    model = gaussian()
    sampler = build_sampler("predictor_corrector", model, **hyper)
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    state = run(sampler, NoiseStream(0, 0, range(2)))
    sampler.finish(state)
    assert state.evaluations == len(calls) == planned_evaluations("predictor_corrector", **hyper)


def test_corrector_comes_first_then_the_predictor_at_the_same_time():
    model = gaussian("vp")
    sampler = build_sampler("predictor_corrector", model, corrector_steps=2, steps=25)
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    noise = NoiseStream(0, 0, range(3))
    state = sampler.init(noise)
    after = sampler.step(state, noise)
    labels = torch.stack([labels[0] for _, labels in seen])
    assert torch.equal(labels, torch.full((3,), 999.0))
    assert torch.equal(seen[0][0], state.tensors["x"])
    # the last evaluation is the predictor's: its mean is -f + G^2 score away from where it was asked
    x = seen[2][0]
    f, G = sampler.model.sde.discretize(x, torch.ones(3))
    assert_close(after.tensors["x_mean"], x - f + G[0] ** 2 * model.score(x, torch.ones(3)))
    assert_close(sampler.times, torch.linspace(1, 1e-3, 25))


@pytest.mark.parametrize(("family", "eps"), [("ve", 1e-5), ("vp", 1e-3), ("subvp", 1e-3)])
def test_the_last_time_is_eps(family, eps):
    assert float(build_sampler("predictor_corrector", gaussian(family)).times[-1]) == pytest.approx(eps)
    chosen = build_sampler("predictor_corrector", gaussian(family), eps=0.01)
    assert float(chosen.times[-1]) == pytest.approx(0.01)


def test_images_are_in_the_unit_interval_whatever_the_networks_range():
    """VP data of mean 0.3 in [-1, 1] are images of mean 0.65; VE networks see [0, 1] already."""
    for family, mean, std in (("ve", 0.3, 0.2), ("vp", 0.65, 0.1)):
        sampler = build_sampler("predictor_corrector", gaussian(family), corrector="none", steps=100)
        noise = NoiseStream(0, 0, range(1000))
        images = sampler.finish(run(sampler, noise))
        assert images.shape == (1000, 1, 2, 2)
        assert float(images.mean()) == pytest.approx(mean, abs=0.02)
        assert float(images.std()) == pytest.approx(std, rel=0.1)


def test_corrector_only_runs_end_with_tweedies_formula():
    sampler = build_sampler("predictor_corrector", gaussian(), predictor="none", corrector_steps=2, steps=20)
    noisy = build_sampler(
        "predictor_corrector", gaussian(), predictor="none", corrector_steps=2, steps=20, denoise=False
    )
    noise = NoiseStream(0, 0, range(5))
    state, plain = run(sampler, noise), run(noisy, noise)
    assert torch.equal(state.tensors["x"], plain.tensors["x"])
    x, t = state.tensors["x"], torch.full((5,), float(sampler.times[-1]))
    assert_close(sampler.finish(state), gaussian().denoise(x, t))
    assert torch.equal(noisy.finish(plain), x)  # what the reference code returns


def test_stages_of_corrector_only_runs_are_denoised_too():
    sampler = build_sampler("predictor_corrector", gaussian(), predictor="none", steps=20)
    noise = NoiseStream(0, 0, range(200))
    state = sampler.init(noise)
    for _ in range(10):
        state = sampler.step(state, noise)
    before = state.tensors["x"].clone()
    stage = sampler.finish(state)
    assert_close(stage, gaussian().denoise(before, sampler.times[9].expand(200)))
    assert torch.equal(state.tensors["x"], before)
    assert state.evaluations == 10


def test_batch_norms_couple_samples_and_sample_norms_do_not():
    def images(norm, indices):
        data = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        model = KernelDensityNetwork(SDES["ve"], data, 0.05).model()
        sampler = build_sampler("predictor_corrector", model, corrector_norm=norm, steps=10)
        return sampler.finish(run(sampler, NoiseStream(0, 0, indices)))

    assert_close(images("sample", range(4, 6)), images("sample", range(2, 8))[2:4], rtol=1e-4, atol=1e-5)
    assert float((images("batch", range(4, 6)) - images("batch", range(2, 8))[2:4]).abs().max()) > 1e-3


def test_micro_batches_change_nothing_but_rounding():
    def images(micro_batch):
        model = gaussian("vp")
        model.micro_batch = micro_batch
        sampler = build_sampler("predictor_corrector", model, snr=0.05, steps=30)
        return sampler.finish(run(sampler, NoiseStream(0, 0, range(10))))

    assert_close(images(3), images(None), rtol=1e-4, atol=1e-5)


def test_kernel_density_samples_come_back_to_the_data():
    data = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    model = KernelDensityNetwork(VE(0.01, 8.0), data, 0.001).model()
    sampler = build_sampler("predictor_corrector", model, steps=150)
    images = sampler.finish(run(sampler, NoiseStream(0, 0, range(60))))
    distances = torch.cdist(images.flatten(1), data.flatten(1))
    assert float(distances.min(dim=1).values.max()) < 0.05
    assert len(set(distances.argmin(dim=1).tolist())) == 6


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"predictor": "ancestrall"}, "'ancestrall' is not one of .*; did you mean 'ancestral'"),
        ({"corrector": "langevine"}, "did you mean 'langevin'"),
        ({"predictor": "none", "corrector": "none"}, "both 'none'"),
        ({"steps": 0}, "steps = 0"),
        ({"corrector_steps": 0}, "corrector_steps = 0"),
        ({"snr": 0.0}, "snr = 0.0: .* positive"),
        ({"snr": float("nan")}, "snr = nan: .* positive"),
        ({"eps": 1.0}, r"eps = 1.0: .* in \[0, 1\)"),
        ({"labels": "halved"}, "labels: 'halved' is not one of"),
        ({"corrector_norm": "samples"}, "did you mean 'sample'"),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        build_sampler("predictor_corrector", gaussian(), **hyper)


def test_combinations_with_the_sde_are_checked_at_once():
    with pytest.raises(ValueError, match="'ancestral' exists for VE and VP, not for subvp"):
        build_sampler("predictor_corrector", gaussian("subvp"), predictor="ancestral")
    for hyper in ({"corrector": "none"}, {"predictor": "none"}, {"predictor": "probability_flow"}):
        with pytest.raises(ValueError, match="N = 20 steps with beta_max = 20"):
            build_sampler("predictor_corrector", gaussian("vp"), steps=20, **hyper)
    build_sampler(
        "predictor_corrector", gaussian("vp"), predictor="euler_maruyama", corrector="none", steps=20
    )


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "none"])
def test_sub_vp_correctors_use_the_alphas_of_vp(predictor):
    sampler = build_sampler("predictor_corrector", gaussian("subvp"), predictor=predictor, snr=0.05, steps=60)
    noise = NoiseStream(0, 0, range(500))
    state = run(sampler, noise)
    sampler.check_finite(state)
    expected = VP(N=60).alphas[(sampler.times * 59).long()]
    assert torch.equal(sampler.model.sde.corrector_alpha(sampler.times), expected)


def test_numbers_that_are_not_finite_are_named():
    sampler = build_sampler("predictor_corrector", gaussian(), steps=5)
    x = torch.ones(2, 1, 2, 2)
    sampler.check_finite(State(3, {"x": x, "x_mean": x}))
    broken = x.clone()
    broken[1, 0, 0, 1] = float("nan")
    with pytest.raises(
        NonFiniteStateError, match=r"predictor_corrector: after step 3 of 5, 1 of 8 .* 'x_mean'"
    ):
        sampler.check_finite(State(3, {"x": x, "x_mean": broken}))
    opposite = torch.tensor([float("inf"), float("-inf")])
    with pytest.raises(NonFiniteStateError, match="2 of 2"):
        sampler.check_finite(State(1, {"x": opposite}))
    sampler.check_finite(State(1, {"x": torch.full((4,), 3e38)}))  # finite, though their sum is not


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_draws_are_those_of_the_reference_so_recordings_replay(predictor):
    """One for the prior and one for each corrector and predictor step, probability flow included."""
    draws = [torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    noise = RecordedNoise(draws)
    run(
        build_sampler("predictor_corrector", gaussian(), predictor=predictor, corrector_steps=2, steps=3),
        noise,
    )
    assert 20 - noise.remaining == 1 + 3 * (2 + (predictor != "none"))
