"""Every sampler, stopped, stored and loaded after every step, goes on bit for bit as if nothing happened."""

import pytest
import safetensors.torch
import torch
from torch import nn

from sdesampling.analytic import GaussianNetwork, KernelDensityNetwork
from sdesampling.latent import LatentModel
from sdesampling.noise import NoiseStream
from sdesampling.samplers import SAMPLERS, State, build_sampler
from sdesampling.sde import VE, VP, SubVP


def score_model(sde):
    data = torch.rand(5, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    return KernelDensityNetwork(sde, data, 0.1).model()


def latent_model():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
    discriminator = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    return LatentModel(generator, discriminator, latent_dim=4, shape=(1, 2, 3))


PREDICTOR_CORRECTOR = [
    (VE(0.01, 8.0), {"steps": 6}),
    (VE(0.01, 8.0), {"steps": 6, "predictor": "ancestral", "corrector_steps": 2, "corrector_norm": "sample"}),
    (VP(), {"steps": 25, "predictor": "euler_maruyama", "corrector": "annealed_langevin"}),
    (VP(), {"steps": 25, "predictor": "probability_flow", "corrector": "none"}),
    (SubVP(), {"steps": 25, "predictor": "none", "snr": 0.05}),
]
DDLS = [
    {"steps": 6, "step_size": 0.05},
    {"steps": 6, "step_size": 0.05, "metropolis": True, "decay": {"factor": 0.5, "every": 2}},
    {"steps": 7, "step_size": 0.05, "kept": 3, "thin": 2, "metropolis": True},
]
ODE = [
    (VE(0.01, 8.0), {"steps": 4, "rtol": 1e-3, "atol": 1e-3}),
    (VP(), {"steps": 4, "rtol": 1e-3, "atol": 1e-3, "error_norm": "sample"}),
    (SubVP(), {"steps": 8, "method": "heun"}),
    (VP(), {"steps": 8, "method": "euler", "denoise": False, "temperature": 0.7, "interpolate": 3}),
]
DPM_SOLVER = [
    {"steps": 7},
    {"steps": 6, "algorithm": "dpmsolver++", "method": "multistep", "denoise": True},
    {"steps": 4, "method": "adaptive", "denoise": True},
]
EDM = [
    (VE(0.01, 8.0), {"steps": 5, "s_churn": 3.0}),
    (SubVP(), {"steps": 4}),
]
ANNEALED_LANGEVIN = [
    {"levels": 3, "steps_per_level": 2},
    {"levels": 2, "steps_per_level": 3, "schedule": "linear", "convention": "paper", "denoise": True},
]
IMAGES = torch.arange(24, dtype=torch.uint8).view(4, 1, 2, 3)
LEFT = torch.tensor([1.0, 1.0, 0.0])
CASES = {
    **{
        f"predictor_corrector-{i}": (score_model(sde), hyper)
        for i, (sde, hyper) in enumerate(PREDICTOR_CORRECTOR)
    },
    **{f"ode-{i}": (score_model(sde), hyper) for i, (sde, hyper) in enumerate(ODE)},
    **{f"dpm_solver-{i}": (score_model(VP()), hyper) for i, hyper in enumerate(DPM_SOLVER)},
    **{f"edm-{i}": (score_model(sde), hyper) for i, (sde, hyper) in enumerate(EDM)},
    "inpainting-0": (score_model(VE(0.01, 8.0)), {"images": IMAGES, "known": LEFT, "steps": 5}),
    "inpainting-1": (
        score_model(VP()),
        {"images": IMAGES, "known": LEFT, "steps": 25, "predictor": "none", "snr": 0.05, "denoise": "all"},
    ),
    "colourisation-0": (
        GaussianNetwork(VE(0.01, 8.0), torch.rand(3, 2, 2), torch.ones(3, 2, 2)).model(),
        {"images": torch.rand(4, 3, 2, 2), "steps": 5},
    ),
    "annealed_langevin_inpainting-0": (
        score_model(VE(0.1, 1.0)),
        {"images": IMAGES, "known": LEFT, "levels": 3, "steps_per_level": 2, "denoise": True},
    ),
    **{
        f"annealed_langevin-{i}": (score_model(VE(0.1, 1.0)), hyper)
        for i, hyper in enumerate(ANNEALED_LANGEVIN)
    },
    **{f"ddls-{i}": (latent_model(), hyper) for i, hyper in enumerate(DDLS)},
    "prior-0": (latent_model(), {}),
    "noise-0": (GaussianNetwork(VE(), torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).model(), {}),
    "real-0": (torch.arange(60, dtype=torch.uint8).view(10, 1, 2, 3), {}),
}


def stored_and_loaded(state):
    tensors = safetensors.torch.load(safetensors.torch.save(state.tensors))
    return State(state.step, tensors, state.evaluations)


def test_every_kind_of_sampler_is_here():
    assert {name.rsplit("-", 1)[0] for name in CASES} == set(SAMPLERS)


@pytest.mark.parametrize("name", CASES)
def test_resumed_runs_are_bit_identical(name):
    model, hyper = CASES[name]
    kind = name.rsplit("-", 1)[0]
    indices = range(3, 10)
    sampler, noise = build_sampler(kind, model, **hyper), NoiseStream(5, 1, indices)
    straight = [sampler.init(noise)]
    for _ in range(sampler.steps):
        straight.append(sampler.step(straight[-1], noise))
    images = [sampler.finish(state) for state in straight]

    state = stored_and_loaded(sampler.init(noise))
    for step in range(sampler.steps + 1):
        assert (state.step, state.evaluations) == (step, straight[step].evaluations)
        assert state.tensors.keys() == straight[step].tensors.keys()
        for key, tensor in state.tensors.items():
            assert tensor.dtype == straight[step].tensors[key].dtype
            assert torch.equal(tensor, straight[step].tensors[key]), (step, key)
        assert torch.equal(sampler.finish(state), images[step])
        assert sampler.diagnostics(state) == sampler.diagnostics(straight[step])
        if step < sampler.steps:
            # another process: nothing but the state is carried over
            sampler, noise = build_sampler(kind, model, **hyper), NoiseStream(5, 1, indices)
            state = stored_and_loaded(sampler.step(state, noise))


@pytest.mark.parametrize("name", CASES)
def test_steps_and_finish_leave_the_state_as_it_is(name):
    model, hyper = CASES[name]
    sampler, noise = build_sampler(name.rsplit("-", 1)[0], model, **hyper), NoiseStream(5, 1, range(7))
    state = sampler.init(noise)
    for _ in range(sampler.steps):
        before = {key: tensor.clone() for key, tensor in state.tensors.items()}
        following = sampler.step(state, noise)
        sampler.finish(state).zero_()
        assert all(torch.equal(before[key], tensor) for key, tensor in state.tensors.items())
        again = sampler.step(state, noise)
        assert all(torch.equal(tensor, again.tensors[key]) for key, tensor in following.tensors.items())
        state = following
    kept = {key: tensor.clone() for key, tensor in state.tensors.items()}
    sampler.finish(state).zero_()
    assert all(torch.equal(kept[key], tensor) for key, tensor in state.tensors.items())
    assert sampler.chains(7).shape == (7,)
