"""A fingerprint names a directory of results: it changes for what changes a pixel, and for nothing else."""

import json
from pathlib import Path

import pytest
from configured import SAMPLER, configuration

from jobs.fingerprint import canonical_json, file_sha256, fingerprint
from jobs.specs.configuration import Configuration, Model
from jobs.specs.samplers import DDLS, Decay, RealControl
from jobs.specs.sections import DataSet, Resources

PINNED = "8edf7a1ba8f80b852b2c336f93c8699e5ea0159dfdc314d9032d270103372897"


def test_canonical_form_is_spelled_out_to_the_byte():
    """PINNED is the sha256 of this text, by `printf %s TEXT | sha256sum`."""
    assert canonical_json(configuration().canonical()) == (
        '{"group_size":256,"model":{"sha256":"'
        + "a" * 64
        + '"},"precision":"float32","quantisation":"floor",'
        '"replicate":0,"sampler":{"corrector":"langevin","corrector_norm":"batch","corrector_steps":1,'
        '"denoise":true,"eps":null,"kind":"predictor_corrector","labels":"interpolated","predictor":"ancestral",'
        '"snr":0.2,"steps":1000},"seed":7,"stages":[1000],"version":1}'
    )


def test_fingerprint_of_a_stored_configuration_never_changes():
    """If this fails, every stored result is orphaned: raise CANONICAL_VERSION on purpose only."""
    assert configuration().fingerprint == PINNED


def test_a_copy_with_changes_has_its_own_fingerprint():
    first = configuration()
    assert first.model_copy(update={"seed": first.seed + 1}).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"replicate": 1},
        {"group_size": 512},
        {"stages": (500, 1000)},
        {"quantisation": "round"},
        {"model": Model(name="model", family="score", shape=(1, 8, 8), weights={"model": "b" * 64})},
        {"sampler": SAMPLER.model_copy(update={"snr": 0.21})},
        {"sampler": SAMPLER.model_copy(update={"denoise": False})},
        {"sampler": SAMPLER.model_copy(update={"predictor": "none"})},
    ],
)
def test_what_changes_a_pixel_changes_the_fingerprint(change):
    assert configuration(**change).fingerprint != configuration().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 50_000},
        {"shard_size": 256},
        {"metrics": ("fid", "kid")},
        {"references": (DataSet(name="digits-train"),)},
        {"resources": Resources(gpus=1, micro_batch=64)},
        {"snapshot_every": 5.0},
        {"priority": 3},
        {"row": "another row"},
        {"sweep": "another"},
        {
            "model": Model(
                name="alias", family="score", shape=(1, 8, 8), weights={"model": "a" * 64}, note="n"
            )
        },
    ],
)
def test_what_changes_no_pixel_leaves_the_fingerprint(change):
    assert configuration(**change).fingerprint == configuration().fingerprint


def test_keys_of_a_corrector_that_is_off_do_not_matter():
    def off(**keys: object) -> str:
        return configuration(sampler=SAMPLER.model_copy(update={"corrector": "none", **keys})).fingerprint

    assert off() == off(snr=0.5) == off(corrector_steps=3) == off(corrector_norm="sample")
    assert off() != off(steps=999)


def test_step_size_rule_matters_to_the_norm_dependent_corrector_only():
    def annealed(norm: str) -> str:
        keys = {"corrector": "annealed_langevin", "corrector_norm": norm}
        return configuration(sampler=SAMPLER.model_copy(update=keys)).fingerprint

    assert annealed("batch") == annealed("sample")
    per_sample = configuration(sampler=SAMPLER.model_copy(update={"corrector_norm": "sample"}))
    assert per_sample.fingerprint != configuration().fingerprint


def test_labels_matter_to_discretely_trained_networks_with_other_steps_only():
    def labels(labels: str, **model: object) -> str:
        changed = configuration().model.model_copy(update=model)
        sampler = SAMPLER.model_copy(update={"labels": labels})
        return configuration(model=changed, sampler=sampler).fingerprint

    assert labels("half", continuous=True) == labels("rounded", continuous=True)
    assert labels("half", continuous=False, scales=1000) == labels("rounded", continuous=False, scales=1000)
    assert labels("half", continuous=False, scales=500) != labels("rounded", continuous=False, scales=500)


def test_ddls_chains():
    def ddls(**keys: object) -> str:
        section = DDLS.model_validate({"kind": "ddls", "steps": 100, "step_size": 0.01, **keys})
        return configuration(sampler=section).fingerprint

    assert ddls() == ddls(thin=5) == ddls(noise_scale=1) == ddls(decay=None) == ddls(burn_in=100)
    assert ddls(kept=4, thin=5) == ddls(kept=4, thin=5, burn_in=85)
    different = [
        ddls(),
        ddls(kept=4, thin=5),
        ddls(kept=4),
        ddls(metropolis=True),
        ddls(decay=Decay(factor=0.5, every=10)),
    ]
    assert len(set(different)) == len(different)


def test_real_control_is_identified_by_the_content_of_its_data_set():
    def real(name: str, content: str) -> str:
        model = Model(
            name=name, family="dataset", shape=(1, 8, 8), dataset=DataSet(name=name), content=content
        )
        return configuration(model=model, sampler=RealControl(kind="real")).fingerprint

    assert real("one", "c" * 64) == real("two", "c" * 64) != real("one", "d" * 64)


def test_configuration_survives_spec_json():
    before = configuration(
        sampler=DDLS(kind="ddls", steps=10, step_size=1e-5, decay=Decay(factor=0.5, every=10)),
        references=(DataSet(name="digits-train"),),
    )
    after = Configuration.from_json(before.to_json())
    assert after == before
    assert after.fingerprint == before.fingerprint
    with pytest.raises(ValueError, match="surprise"):
        Configuration.from_json(json.dumps({**json.loads(before.to_json()), "surprise": 1}))


def test_floats_are_written_exactly_and_nan_is_refused():
    assert canonical_json({"b": 0.1 + 0.2, "a": 1e-05}) == '{"a":1e-05,"b":0.30000000000000004}'
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": float("nan")})


def test_file_sha256(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == digest
