"""Every kind of sampler in a spec: it is planned, it runs, and what cannot work is refused beforehand."""

from pathlib import Path

import pytest
import torch
from shards import Context, paths, prepare
from spec_files import SDES, problems_of, sweep_of, write_model, write_models

from jobs.assignment import Assignment
from jobs.configuration import Configuration, canonical_sampler
from jobs.images import committed_images
from jobs.ledger import scan
from jobs.plan import costs
from jobs.sections import Section
from jobs.store import LocalStore
from jobs.weights import send_weights
from jobs.work import perform
from jobs.worker import WorkerState
from sdesampling.models import LatentConfig, save_model
from sdesampling.networks.mnist_mlp import VAE_ENCODER_KEYS, MnistVAEDecoder
from sdesampling.samplers import SAMPLERS

SPEC = """
name: trial
model: {model}
sampler: {sampler}
samples: 5
group_size: 3
stages: [{stages}]
metrics: []
"""
GAN = LatentConfig(
    shape=(1, 28, 28),
    centered=True,
    generator={"name": "mnist_mlp_generator"},
    discriminator={"name": "mnist_mlp_discriminator"},
    latent_dim=64,
)
RUNS = [
    (
        "digits-ve",
        "{kind: predictor_corrector, predictor: reverse_diffusion, corrector: none, steps: 20}",
    ),
    ("digits-ve", "{kind: ode, method: heun, steps: 3}"),
    ("digits-vp", "{kind: ode, method: euler, steps: 20, temperature: 0.8}"),
    ("digits-ve", "{kind: edm, steps: 3}"),
    ("digits-vp", "{kind: edm, steps: 3, s_churn: 2, s_tmax: 50}"),
    ("digits-vp", "{kind: dpm_solver, steps: 10}"),
    (
        "digits-vp",
        "{kind: dpm_solver, algorithm: dpmsolver++, method: multistep, order: 2, steps: 3, denoise: true}",
    ),
    (
        "digits-ve",
        "{kind: annealed_langevin, levels: 4, steps_per_level: 5, step_size: 1e-5, sigma_max: 1.0}",
    ),
    ("gan", "{kind: ddls, steps: 2, step_size: 0.01}"),
    ("gan", "{kind: prior}"),
    ("{network: mnist_vae, weights: vae.pth}", "{kind: prior}"),
    ("gan", "{kind: noise}"),
    ("digits-train", "{kind: real}"),
]


def write_vae(path: Path) -> None:
    """The state dict of a whole VAE, as it is published."""
    state = {key: torch.zeros(1) for key in VAE_ENCODER_KEYS}
    torch.save(state | MnistVAEDecoder().state_dict(), path)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    write_models(tmp_path / "models")
    return tmp_path


def kind_of(sampler: str) -> str:
    return sampler.removeprefix("{kind: ").split(",")[0].strip("}")


def configured(folder: Path, sampler: str, model: str = "vp") -> Configuration:
    stages = "0" if "steps" in sampler else ""
    (found,) = sweep_of(folder, SPEC.format(model=model, sampler=sampler, stages=stages)).configurations
    return found


def test_every_kind_of_sampler_runs_here():
    assert {kind_of(sampler) for _, sampler in RUNS} == set(SAMPLERS)


@pytest.mark.parametrize(("model", "sampler"), RUNS, ids=[kind_of(sampler) for _, sampler in RUNS])
def test_a_spec_is_planned_and_run(folder: Path, model: str, sampler: str):
    if model == "gan":
        torch.manual_seed(0)
        save_model(folder / "models" / "gan.safetensors", GAN, GAN.networks())
    write_vae(folder / "vae.pth")
    stages = "0" if "steps" in sampler else ""
    sweep = sweep_of(folder, SPEC.format(model=model, sampler=sampler, stages=stages))
    (configuration,) = sweep.configurations
    (cost,) = costs(sweep).configurations
    store = LocalStore(folder / "store")
    send_weights(store, sweep.files)
    prepare(store, configuration)
    receipt = perform(
        Assignment("sample", sweep.name, configuration.fingerprint, 0, 5), store, WorkerState(), Context()
    )
    assert (receipt.images, receipt.evaluations) == (5, 5 * cost.evaluations)
    (marker,) = scan(store, paths(configuration), []).images
    rows = committed_images(store, paths(configuration).images, marker)
    assert sum(len(block.index) for block in rows) == 5 * len(configuration.stages)


def test_stages_count_the_steps_of_all_levels(folder: Path):
    sampler = "{kind: annealed_langevin, levels: 3, steps_per_level: 7}"
    assert configured(folder, sampler, "ve").stages == (0, 21)


def idle(folder: Path, sampler: str) -> set[str]:
    """Keys of a section that its canonical form leaves out."""
    found = configured(folder, sampler)
    assert isinstance(found.sampler, Section)
    return set(type(found.sampler).model_fields) - canonical_sampler(found.sampler, found.model).keys()


@pytest.mark.parametrize(
    ("sampler", "keys"),
    [
        ("{kind: ode}", {"temperature", "interpolate"}),
        ("{kind: ode, temperature: 0.9, method: heun}", {"rtol", "atol", "error_norm", "interpolate"}),
        ("{kind: edm}", {"s_tmin", "s_tmax", "s_noise"}),
        ("{kind: edm, s_churn: 1}", set()),
        ("{kind: dpm_solver}", {"rtol", "atol", "lower_order_final"}),
        ("{kind: dpm_solver, method: adaptive}", {"lower_order_final"}),
        ("{kind: dpm_solver, method: multistep, steps: 9}", {"rtol", "atol"}),
        ("{kind: dpm_solver, order: 1}", {"rtol", "atol", "lower_order_final", "solver_type"}),
    ],
)
def test_keys_that_cannot_matter_are_no_part_of_the_identity(folder: Path, sampler: str, keys: set[str]):
    assert idle(folder, sampler) == keys


@pytest.mark.parametrize("kind", ["ode", "dpm_solver"])
def test_the_last_time_is_settled(folder: Path, kind: str):
    found = configured(folder, f"{{kind: {kind}}}")
    assert found.fingerprint == configured(folder, f"{{kind: {kind}, eps: 1e-3}}").fingerprint
    assert found.fingerprint != configured(folder, f"{{kind: {kind}, eps: 1e-4}}").fingerprint


@pytest.mark.parametrize(
    ("model", "sampler", "problem"),
    [
        ("vp", "{kind: annealed_langevin}", "sampler.kind: 'annealed_langevin' is defined for VE models"),
        (
            "scales",
            "{kind: annealed_langevin, schedule: linear}",
            "sampler.schedule: scales knows its own 10",
        ),
        (
            "ve",
            "{kind: annealed_langevin, sigma_max: 1.0, sigma_min: 2.0}",
            "sampler.sigma_max: 1 is not above",
        ),
        ("ve", "{kind: edm, sigma_max: 1.0, sigma_min: 2.0}", "sampler.sigma_max: 1 is not above"),
        ("ve", "{kind: ode, interpolate: 2}", "group_size: 3 is no multiple of sampler.interpolate 2"),
        ("scales", "{kind: ode}", "sampler.kind: 'ode' needs scores between noise scales"),
        ("subvp", "{kind: dpm_solver}", "sampler.kind: 'dpm_solver' is defined for VP models"),
        ("vp", "{kind: dpm_solver, method: adaptive, order: 1}", "sampler.order: 1 leaves method 'adaptive'"),
        ("vp", "{kind: dpm_solver, method: multistep, steps: 2}", "sampler.steps: 2 is too few"),
        ("vp", "{kind: dpm_solver, method: singlestep_fixed, steps: 8}", "sampler.steps: 8 is no multiple"),
        ("vp", "{kind: prior}", "sampler.kind: 'prior' samples from a GAN, and vp is a score model"),
        (
            "{network: mnist_vae, weights: vae.pth}",
            "{kind: ddls, steps: 2, step_size: 0.1}",
            "sampler.kind: 'ddls' samples from a GAN, and mnist_vae is a decoder: its kind is 'prior'",
        ),
        ("gan", "{kind: ode}", "sampler.kind: 'ode' samples from a score model, and gan is a GAN"),
    ],
)
def test_what_cannot_work_is_refused(folder: Path, model: str, sampler: str, problem: str):
    content = {"family": "score", "sde": SDES["ve"], "continuous": False, "scales": 10}
    write_model(folder / "models", "scales", **content)
    write_vae(folder / "vae.pth")
    found = problems_of(folder, SPEC.format(model=model, sampler=sampler, stages=""))
    assert any(line.startswith(problem) for line in found), found
