"""Every kind of sampler in a spec: it is planned, it runs, and what cannot work is refused beforehand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shards import Context, paths, prepare
from spec_files import SDES, problems_of, sweep_of, write_model, write_models

from jobs.compute.assignment import Assignment, Receipt
from jobs.compute.worker import WorkerState
from jobs.inputs.datasets import read_dataset
from jobs.models.weights import send_weights
from jobs.planning.plan import costs
from jobs.planning.sweep import Sweep
from jobs.scores import provenance
from jobs.specs.configuration import Configuration, canonical_sampler
from jobs.specs.sections import Section
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.store_local import LocalStore
from jobs.work.perform import perform
from sdesampling.configs import LatentConfig, ScoreConfig
from sdesampling.models import save_model
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
    (
        "digits-ve",
        "{kind: inpainting, images: digits-heldout, known: left, corrector: none, steps: 20}",
    ),
    (
        "colour",
        "{kind: colourisation, images: {name: rgb, path: rgb.npz}, corrector: none, steps: 25}",
    ),
    (
        "digits-ve",
        "{kind: annealed_langevin_inpainting, images: digits, known: mask.png, levels: 4, "
        "steps_per_level: 5, step_size: 1e-5, sigma_max: 1.0}",
    ),
    ("gan", "{kind: ddls, steps: 2, step_size: 0.01}"),
    (
        "digits-gan",
        "{kind: ddls, steps: 2, step_size: 0.01, calibration: {images: digits-heldout, samples: 50}}",
    ),
    ("gan", "{kind: prior}"),
    ("{network: mnist_vae, weights: vae.pth}", "{kind: prior}"),
    ("gan", "{kind: noise}"),
    ("digits-train", "{kind: real}"),
]


def write_vae(path: Path) -> None:
    """The state dict of a whole VAE, as it is published."""
    state = {key: torch.zeros(1) for key in VAE_ENCODER_KEYS}
    torch.save(state | MnistVAEDecoder().state_dict(), path)


def write_images(folder: Path) -> None:
    """A mask, a small data set in colour, and a model of such images."""
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:5, 1:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    np.savez(
        folder / "rgb.npz", images=np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    )
    config = ScoreConfig(
        shape=(3, 8, 8),
        centered=False,
        network={"name": "ddpm", "nf": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": []},
        sde={"family": "ve", "sigma_max": 1.0},
    )
    save_model(folder / "models" / "colour.safetensors", config, config.networks())


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


def performed(folder: Path, sweep: Sweep) -> tuple[LocalStore, Receipt]:
    """The samples of a sweep's first configuration, made in a store of their own."""
    (configuration,) = sweep.configurations
    store = LocalStore(folder / "store")
    send_weights(store, sweep.files)
    prepare(store, configuration)
    assignment = Assignment("sample", sweep.name, configuration.fingerprint, 0, 5)
    return store, perform(assignment, store, WorkerState(), Context())


def test_every_kind_of_sampler_runs_here():
    assert {kind_of(sampler) for _, sampler in RUNS} == set(SAMPLERS)


@pytest.mark.parametrize(("model", "sampler"), RUNS, ids=[kind_of(sampler) for _, sampler in RUNS])
def test_a_spec_is_planned_and_run(folder: Path, model: str, sampler: str):
    if model == "gan":
        torch.manual_seed(0)
        save_model(folder / "models" / "gan.safetensors", GAN, GAN.networks())
    write_vae(folder / "vae.pth")
    write_images(folder)
    stages = "0" if "steps" in sampler else ""
    sweep = sweep_of(folder, SPEC.format(model=model, sampler=sampler, stages=stages))
    (configuration,) = sweep.configurations
    (cost,) = costs(sweep).configurations
    store, receipt = performed(folder, sweep)
    assert (receipt.images, receipt.evaluations) == (5, 5 * cost.evaluations)
    (marker,) = scan(store, paths(configuration), []).images
    rows = committed_images(store, paths(configuration).images, marker)
    assert sum(len(block.index) for block in rows) == 5 * len(configuration.stages)


def test_stages_count_the_steps_of_all_levels(folder: Path):
    sampler = "{kind: annealed_langevin, levels: 3, steps_per_level: 7}"
    assert configured(folder, sampler, "ve").stages == (0, 21)


def idle(folder: Path, sampler: str) -> set[str]:
    """Keys of a section that its canonical form leaves out."""
    return idle_of(folder, "vp", sampler)


def idle_of(folder: Path, model: str, sampler: str) -> set[str]:
    found = configured(folder, sampler, model)
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
        (
            "ve",
            "{kind: edm, sigma_max: 60}",
            "sampler.sigma_max: sigma_min = 0.0100007, sigma_max = 60: must be",
        ),
        (
            "ve",
            "{kind: edm, sigma_min: 0.001}",
            "sampler.sigma_min: sigma_min = 0.001, sigma_max = 8: must be",
        ),
        (
            "vp",
            "{kind: edm, sigma_max: 200}",
            "sampler.sigma_max: sigma_min = 0.010486, sigma_max = 200: must be",
        ),
        (
            "subvp",
            "{kind: edm, sigma_min: 0.000001}",
            "sampler.sigma_min: sigma_min = 1e-06, sigma_max = 80: must be ascending",
        ),
        (
            "vp",
            "{kind: edm, sigma_max: 0.005}",
            "sampler.sigma_max: sigma_min = 0.010486, sigma_max = 0.005: must be",
        ),
        (
            "ve",
            "{kind: annealed_langevin, sigma_min: 9}",
            "sampler.sigma_min: sigma_min = 9.0, sigma_max = 8.0: must be",
        ),
        ("ve", "{kind: ode, interpolate: 2}", "group_size: 3 is no multiple of sampler.interpolate 2"),
        (
            "digits-ve",
            "{kind: inpainting, images: digits, known: lft}",
            "sampler.known: 'lft': nothing is at",
        ),
        (
            "digits-ve",
            "{kind: inpainting, images: digitz, known: left}",
            "sampler.images: unknown data set 'digitz'",
        ),
        (
            "digits-ve",
            "{kind: inpainting, images: {name: rgb, path: rgb.npz}, known: left}",
            "sampler.images: rgb holds images of (3, 8, 8), digits-ve makes (1, 8, 8)",
        ),
        ("digits-ve", "{kind: colourisation, images: digits}", "sampler.kind: 'colourisation' needs three"),
        (
            "digits-vp",
            "{kind: annealed_langevin_inpainting, images: digits, known: left}",
            "sampler.kind: 'annealed_langevin_inpainting' is defined for VE models, and this one is not; "
            "try 'inpainting'",
        ),
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
    write_images(folder)
    found = problems_of(folder, SPEC.format(model=model, sampler=sampler, stages=""))
    assert any(line.startswith(problem) for line in found), found


def fingerprint(folder: Path, model: str, sampler: str) -> str:
    return configured(folder, sampler, model).fingerprint


def test_images_count_by_their_content_and_masks_by_their_bits(folder: Path):
    half = np.zeros((8, 8), dtype=np.uint8)
    half[:, :4] = 1
    np.save(folder / "half.npy", half)
    heldout = read_dataset("digits-heldout").images
    np.savez(folder / "copy.npz", images=heldout)
    first = fingerprint(folder, "digits-ve", "{kind: inpainting, images: digits-heldout, known: left}")
    same = "{kind: inpainting, images: {name: mine, path: copy.npz}, known: half.npy}"
    assert fingerprint(folder, "digits-ve", same) == first
    for other in ("images: digits-heldout, known: right", "images: digits-train, known: left"):
        assert fingerprint(folder, "digits-ve", f"{{kind: inpainting, {other}}}") != first


def test_a_discriminator_is_not_calibrated_on_what_scores_are_measured_against(folder: Path):
    spec = (
        "name: trial\nmodel: digits-gan\nsamples: 5\nextractor: digits-cnn\nreference: {reference}\n"
        "sampler: {{kind: ddls, steps: 2, step_size: 0.01, calibration: {{images: digits-heldout}}}}\n"
    )
    for reference in ("digits-heldout", "digits"):
        (problem,) = problems_of(folder, spec.format(reference=reference))
        assert problem.startswith(
            f"sampler.calibration.images: digits-heldout shares images with the reference {reference}"
        )
    sweep_of(folder, spec.format(reference="digits-train"))


def test_an_uncalibrated_gan_keeps_the_fingerprint_it_had(folder: Path):
    assert "calibration" in idle_of(folder, "digits-gan", "{kind: ddls, steps: 2, step_size: 0.1}")
    plain = fingerprint(folder, "digits-gan", "{kind: ddls, steps: 2, step_size: 0.1}")
    calibrated = "{kind: ddls, steps: 2, step_size: 0.1, calibration: {images: digits-heldout}}"
    assert fingerprint(folder, "digits-gan", calibrated) != plain


def test_what_is_known_stays_to_the_byte(folder: Path):
    write_images(folder)
    sampler = "{kind: inpainting, images: digits-heldout, known: mask.png, steps: 30, denoise: all}"
    sweep = sweep_of(folder, SPEC.format(model="digits-ve", sampler=sampler, stages=""))
    store, _ = performed(folder, sweep)
    found = paths(sweep.configurations[0])
    (marker,) = scan(store, found, []).images
    (block,) = committed_images(store, found.images, marker)
    expected = read_dataset("digits-heldout").images[:5]
    assert (block.images[:, :, 2:5, 1:] == expected[:, :, 2:5, 1:]).all()
    assert (block.images != expected).any()


def conditional_gan(folder: Path) -> str:
    shared = {"image_size": 8, "num_channels": 1, "num_classes": 10}
    config = LatentConfig(
        shape=(1, 8, 8),
        centered=True,
        generator={"name": "conditional_mlp_generator", "latent_dim": 6, **shared},
        discriminator={"name": "conditional_mlp_discriminator", **shared},
        latent_dim=6,
    )
    torch.manual_seed(0)
    save_model(folder / "models" / "conditional.safetensors", config, config.networks())
    return "conditional"


@pytest.mark.parametrize(
    ("classes", "expected"), [("", [0, 1, 2, 3, 4]), ("classes: [7, 2]", [7, 2, 7, 2, 7])]
)
def test_classes_are_stored_with_the_images(folder: Path, classes: str, expected: list[int]):
    model = conditional_gan(folder)
    sampler = "{kind: ddls, steps: 2, step_size: 0.01, calibration: {images: digits-heldout, samples: 40}}"
    sweep = sweep_of(folder, SPEC.format(model=model, sampler=sampler, stages="0") + classes)
    store, _ = performed(folder, sweep)
    found = paths(sweep.configurations[0])
    (marker,) = scan(store, found, []).images
    blocks = committed_images(store, found.images, marker)
    assert [block.label.tolist() for block in blocks] == [expected, expected]
    (file,) = (folder / "store").glob("**/*.parquet")
    assert read_dataset("generated", file).labels.tolist() == 2 * expected


def test_classes_that_a_model_does_not_have_are_refused(folder: Path):
    spec = SPEC.format(model=conditional_gan(folder), sampler="{kind: prior}", stages="")
    assert problems_of(folder, spec + "classes: [3, 10]") == [
        "classes: 10 is beyond the last class of conditional, 9"
    ]
    spec = SPEC.format(model="digits-ve", sampler="{kind: edm}", stages="")
    assert problems_of(folder, spec + "classes: 1") == [
        "classes: [1]: digits-ve is not class-conditional; leave it out"
    ]


def test_classes_are_part_of_the_identity_of_conditional_models_alone(folder: Path):
    spec = SPEC.format(model=conditional_gan(folder), sampler="{kind: prior}", stages="")
    prints = [
        sweep_of(folder, spec + classes).configurations[0].fingerprint
        for classes in ("", f"classes: {list(range(10))}", "classes: [1]")
    ]
    assert prints[0] == prints[1] != prints[2]
    assert "classes" not in configured(folder, "{kind: edm}").canonical()


@pytest.mark.parametrize(
    ("sampler", "together"),
    [("{kind: ode, interpolate: 4}", 4), ("{kind: ode}", None)],
)
def test_scores_of_images_that_depend_on_each_other_say_so(folder: Path, sampler: str, together: int | None):
    spec = (
        "name: trial\nmodel: digits-ve\nsamples: 128\ngroup_size: 64\nextractor: digits-cnn\n"
        f"reference: digits-train\nsampler: {sampler}\n"
    )
    (found,) = sweep_of(folder, spec).configurations
    warnings = provenance.warnings(found, found.extractors[0], (), 1248)
    expected = [f"images come in runs of {together} that depend on each other"] if together else []
    assert [warning.split(" (")[0] for warning in warnings] == expected


def test_few_steps_are_possible_where_no_discrete_beta_takes_part(folder: Path):
    steps = "predictor: euler_maruyama, corrector: none, steps: 5"
    assert configured(folder, f"{{kind: predictor_corrector, {steps}}}", "vp").model.continuous
    steps = "predictor: reverse_diffusion, corrector: none, steps: 5"
    configured(folder, f"{{kind: predictor_corrector, {steps}}}", "subvp")
    (problem,) = problems_of(
        folder, SPEC.format(model="vp", sampler=f"{{kind: predictor_corrector, {steps}}}", stages="")
    )
    assert problem.startswith("sampler.steps: 5 is too few")


@pytest.mark.parametrize(
    ("sampler", "possible"),
    [
        ("{kind: annealed_langevin, levels: 10}", True),
        ("{kind: annealed_langevin, levels: 3}", False),
        ("{kind: predictor_corrector, predictor: ancestral, corrector: none, steps: 10}", True),
        ("{kind: predictor_corrector, predictor: ancestral, corrector: none, steps: 5}", False),
        (
            "{kind: predictor_corrector, predictor: ancestral, corrector: none, steps: 5, labels: rounded}",
            True,
        ),
        ("{kind: edm, steps: 5}", True),
    ],
)
def test_a_network_of_whole_labels_is_asked_for_its_own_scales_alone(
    folder: Path, sampler: str, possible: bool
):
    content = {"family": "score", "sde": SDES["ve"], "continuous": False, "scales": 10}
    write_model(folder / "models", "whole", **content, network={"name": "ncsn", "ngf": 4})
    text = SPEC.format(model="whole", sampler=sampler, stages="")
    if possible:
        sweep_of(folder, text)
    else:
        (problem,) = problems_of(folder, text)
        assert "trained on 10 and can be told no other ones" in problem


def test_a_discriminator_of_another_loss_than_the_logistic_is_said_to_give_no_logit(folder: Path):
    write_model(folder / "models", "hinged", family="latent", latent_dim=16, loss="hinge")
    plain = "kind: ddls, steps: 2, step_size: 0.1"
    (note,) = noted(folder, "hinged", f"{{{plain}}}")
    assert "trained with the hinge loss" in note
    assert note.endswith("set sampler.calibration (trial / score)")
    assert configured(folder, f"{{{plain}}}", "hinged").cautions[0] in note
    calibration = "{images: {name: real, path: '${UNSET}'}}"
    assert noted(folder, "hinged", f"{{{plain}, calibration: {calibration}}}") == ()
    assert noted(folder, "hinged", "{kind: prior}") == noted(folder, "gan", f"{{{plain}}}") == ()


def noted(folder: Path, model: str, sampler: str) -> tuple[str, ...]:
    """Notes of a plan."""
    return costs(sweep_of(folder, SPEC.format(model=model, sampler=sampler, stages=""))).notes
