"""Scores, predictors, correctors and whole runs against the reference code, with its noise replayed."""

import pytest
import torch
from golden_samplers import golden_model, manifest, relative_difference, runs_case, steps_case

from sdesampling.correctors import AnnealedLangevin, Langevin
from sdesampling.noise import RecordedNoise
from sdesampling.predictors import PREDICTORS
from sdesampling.samplers import build_sampler, run

STEP_TOLERANCE = 1e-5  # relative; a second float32 code path differs by up to 1.5e-6
RUN_TOLERANCE = (
    1e-4  # relative; the same over a whole run 1.4e-6, while a wrong convention moves it by far more
)

STEPS = manifest()["steps"]
PREDICTOR_NAMES = {
    "ancestral_sampling": "ancestral",
    "reverse_diffusion": "reverse_diffusion",
    "euler_maruyama": "euler_maruyama",
}


def names(*parts):
    return [name for name in STEPS if all(part in name for part in parts)]


def test_every_case_is_tested():
    functions = names("/functions") + names("discrete_sigmas")  # here and in test_sde.py
    assert len(functions) + len(names("/pred/")) + len(names("/corr/")) == len(STEPS) == 72


@pytest.mark.parametrize("name", names("/functions"))
@torch.no_grad()
def test_scores(name):
    golden = steps_case(name)
    model = golden_model(STEPS[name])
    assert relative_difference(model.score(golden["x"], golden["t"]), golden["score"]) < STEP_TOLERANCE
    if "labels" in golden:
        assert torch.equal(model.network_labels(golden["t"]), golden["labels"])


@pytest.mark.parametrize("name", names("/pred/"))
@torch.no_grad()
def test_predictor_steps(name):
    golden, case = steps_case(name), STEPS[name]
    model = golden_model(case)
    if (
        case["predictor"] == "none"
    ):  # sampling without a predictor leaves x alone, as the reference's `none` does
        assert torch.equal(golden["x_out"], golden["x"])
        return
    chosen = "probability_flow" if case["probability_flow"] else PREDICTOR_NAMES[case["predictor"]]
    predictor = PREDICTORS[chosen]()
    x, x_mean = predictor.update(model, golden["x"], golden["t"], golden["noise"][0])
    assert relative_difference(x, golden["x_out"]) < STEP_TOLERANCE
    assert relative_difference(x_mean, golden["x_mean"]) < STEP_TOLERANCE
    assert model.evaluations == 1


@pytest.mark.parametrize("name", names("/corr/"))
@torch.no_grad()
def test_corrector_steps(name):
    golden, case = steps_case(name), STEPS[name]
    model = golden_model(case)
    if case["corrector"] == "none":
        assert torch.equal(golden["x_out"], golden["x"])
        return
    corrector = {"langevin": Langevin, "ald": AnnealedLangevin}[case["corrector"]](case["snr"])
    x = golden["x"]
    for z in golden["noise"]:
        x, x_mean = corrector.update(model, x, golden["t"], z)
    assert relative_difference(x, golden["x_out"]) < STEP_TOLERANCE
    assert relative_difference(x_mean, golden["x_mean"]) < STEP_TOLERANCE
    assert model.evaluations == case["n_steps"]


@pytest.mark.parametrize("name", [name for name in manifest()["runs"] if name.startswith("pc/")])
def test_predictor_corrector_runs(name):
    golden, case = runs_case(name), manifest()["runs"][name]
    sampler = build_sampler(
        "predictor_corrector",
        golden_model(case),
        predictor=case["predictor"],
        corrector=case["corrector"],
        steps=case["N"],
        corrector_steps=case["n_steps"],
        snr=case["snr"],
        denoise=case["denoise"],
        eps=case["eps"],
    )
    noise = RecordedNoise(golden["noise"])
    state = run(sampler, noise)
    assert noise.remaining == 0
    assert relative_difference(sampler.finish(state), golden["out"]) < RUN_TOLERANCE
    # the reference reports N (n_steps + 1) evaluations even where one half is absent
    assert state.evaluations == case["reported_nfe"] - (case["corrector"] == "none") * case["N"]
