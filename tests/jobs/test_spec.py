"""Specs of one cell: what is read, what it defaults to, and what is refused in which words."""

import json
import pickle
from pathlib import Path

import pytest
from spec_files import SDES, problems_of, sweep_of, write_model, write_models

from jobs.planning.specfile import load_spec
from jobs.problems import SpecError
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.spec import spec_schema

GOOD = """
name: trial
model: ve
sampler: {kind: predictor_corrector, predictor: ancestral, corrector: langevin}
samples: 1000
extractor: digits-cnn
reference: digits-train
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    write_models(tmp_path / "models")
    return tmp_path


def replaced(line: str) -> str:
    """GOOD with the line of the same key replaced, or the line added."""
    key = line.partition(":")[0]
    kept = [each for each in GOOD.strip().splitlines() if not each.startswith(f"{key}:")]
    return "\n".join([*kept, line])


def test_defaults(folder: Path):
    (configuration,) = sweep_of(folder, GOOD).configurations
    assert isinstance(configuration.sampler, PredictorCorrector)
    assert configuration.sampler.steps == 1000
    assert configuration.sampler.snr == 0.16
    assert configuration.sampler.eps == 1e-5
    assert configuration.stages == (1000,)
    assert (configuration.seed, configuration.replicate) == (0, 0)
    assert (configuration.group_size, configuration.shard_size) == (1024, 1024)
    assert configuration.resources.micro_batch is None
    assert configuration.metrics == ("fid",)
    assert (configuration.row, configuration.column) == ("trial", "score")


def test_writing_a_default_changes_no_fingerprint(folder: Path):
    (brief,) = sweep_of(folder, GOOD).configurations
    written = replaced(
        "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: langevin, steps: 1000, "
        "snr: 16e-2, denoise: true, eps: 1e-5, labels: interpolated, corrector_steps: 1}"
    )
    written += (
        "\nseed: 0\nreplicates: 1\ngroup_size: 1024\nshard_size: auto\nstages: [1000]\nquantisation: floor\n"
    )
    (long,) = sweep_of(folder, written).configurations
    assert long == brief
    assert long.fingerprint == brief.fingerprint


@pytest.mark.parametrize(("family", "eps"), [("ve", 1e-5), ("vp", 1e-3), ("subvp", 1e-3)])
def test_the_time_grid_ends_where_the_library_says(folder: Path, family: str, eps: float):
    from sdesampling.sde import SDES as LIBRARY

    text = replaced("sampler: {kind: predictor_corrector, predictor: reverse_diffusion, corrector: none}")
    (configuration,) = sweep_of(folder, text, model=family).configurations
    assert isinstance(configuration.sampler, PredictorCorrector)
    arguments = {key: value for key, value in SDES[family].items() if key != "family"}
    assert configuration.sampler.eps == eps == LIBRARY[family](**arguments).sampling_eps


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "sampler: {kind: predictor_corrector, predictor: ancestrall, corrector: none}",
            "sampler.predictor: 'ancestrall' is not one of ancestral, reverse_diffusion, euler_maruyama, "
            "probability_flow, none; did you mean 'ancestral'?",
        ),
        (
            "sampler: {kind: predictor_corector, predictor: none}",
            "sampler.kind: 'predictor_corector' is not one of predictor_corrector, ode, dpm_solver, edm, "
            "annealed_langevin, inpainting, colourisation, annealed_langevin_inpainting, ddls, prior, noise, "
            "real; did you mean 'predictor_corrector'?",
        ),
        (
            "sampler: {steps: 3}",
            "sampler.kind: missing; one of predictor_corrector, ode, dpm_solver, ",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: none, corrector: none}",
            "sampler.corrector: 'none' with predictor 'none' samples nothing; set one of them",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: ancestral}",
            "sampler.corrector: missing; one of langevin, annealed_langevin, none",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: none, snr: 0}",
            "sampler.snr: 0 must be above 0.0",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: none, snr: .nan}",
            "sampler.snr: NaN is not a finite number",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: none, step: 3}",
            "sampler.step: unknown key; did you mean 'steps'?",
        ),
        ("samples: 0", "samples: 0 must be at least 1"),
        ("samples: 1000000000000", "samples: 1000000000000 must be below 1000000000000"),
        (
            "samples: 99999999999",
            "shard_size: 99999999999 samples in shards of 1024 are more than 10,000,000",
        ),
        (
            "sampler: {kind: predictor_corrector, predictor: ancestral, corrector: none, steps: 1000001}",
            "sampler.steps: 1000001 must be at most 1000000",
        ),
        ("samples: '50'", "samples: '50' is not a whole number"),
        ("samples: 1e3", "samples: 1000.0 is not a whole number; write 1000"),
        ("samples: true", "samples: true is not a whole number"),
        ("seed: -1", "seed: -1 must be at least 0"),
        ("shard_size: 1000", "shard_size: 1000 is no multiple of group_size 1024; for example 1024, or auto"),
        ("shard_size: 3000", "shard_size: 3000 is no multiple of group_size 1024; for example 2048 or 3072"),
        ("shard_size: large", "shard_size: 'large' is neither a whole number nor 'auto'"),
        ("group_size: 300000", "group_size: 300000 is more than one shard may hold (262144)"),
        ("stages: [10, 2000]", "stages: 2000 lies beyond the last step, 1000"),
        ("stages: [ten]", "stages[0]: 'ten' is not a whole number"),
        ("precision: float16", "precision: 'float16' is not one of float32, bfloat16, auto; did you mean"),
        (
            "metrics: [fid, is, kidd]",
            "metrics[2]: 'kidd' is not one of fid, fid_infinity, is, kid, precision_recall, density_coverage",
        ),
        ("reference: []", "reference: missing: fid is given beside real images; name a data set"),
        ("reference: [digits, digits]", "reference: names one twice"),
        ("metrics: [fid, fid]", "metrics: names one twice"),
        (
            "extractor: mnist-lenet\nmetrics: fid_infinity",
            "metrics: fid_infinity needs at least 1,020 images, there are 1,000",
        ),
        ("extractor: []", "extractor: missing: fid needs features; name one, or set metrics: []"),
        (
            "extractor: digits-cn",
            "extractor: unknown extractor: 'digits-cn' is not one of digits-cnn, mnist-lenet, "
            "cifar10-resnet20, inception; did you mean 'digits-cnn'?",
        ),
        (
            "reference: digits-trian",
            "reference: unknown reference 'digits-trian' is not one of digits, "
            "digits-train, digits-heldout; did you mean 'digits-train'?",
        ),
        ("reference: {name: x, path: models/ve.safetensors}", "reference.path: x: "),
        ("reference: {name: x, path: no/such}", "reference.path: 'no/such': nothing is at "),
        ("reference: {name: ../x, path: no}", "reference.name: '../x' is no name here: it must match "),
        ("model: ../../etc/passwd", "model: '../../etc/passwd' is no name here: it must match "),
        ("model: vee", "model: unknown model: 'vee' is not one of "),
        ("model: {weights: no/such}", "model.weights: 'no/such': nothing is at "),
        ("model: {weights: a, name: b}", 'model: {"weights": "a", "name": "b"} must give one of name, '),
        ("model: {network: mnist_mlp, weights: {a: b}}", "model.network: 'mnist_mlp' is not one of mnist_ml"),
        (
            "model: {network: mnist_mlp_gan, weights: {generator: a}}",
            "model.weights: mnist_mlp_gan has the files generator, discriminator; got generator",
        ),
        ("name: ../escape", "name: '../escape' is no name here: it must match ^[a-z0-9][a-z0-9._-]*$"),
        ("name: models", "name: 'models' is a folder that all sweeps of a store share; take another name"),
        ("name: probes", "name: 'probes' is a folder that all sweeps of a store share; take another name"),
        ("resources: {wokers: 3}", "resources.wokers: unknown key; did you mean 'workers'?"),
        ("resources: {gpus: -1}", "resources.gpus: -1 must be at least 0.0"),
        ("resources: {gpus: many}", "resources.gpus: 'many' is neither a number nor 'auto'"),
        ("resources: {gpus: 1.5}", "resources.gpus: 1.5 is neither a fraction of one device nor a whole"),
        ("resources: {workers: 0}", "resources.workers: 0 must be at least 1"),
        ("resources: {workers: many}", "resources.workers: 'many' is neither a whole number, nor 'auto', "),
        ("resources: {workers: {min: 3, max: 2}}", 'resources.workers: {"min": 3, "max": 2} has a min above'),
        ("resources: {memory: 4 GB}", "resources.memory: '4 GB' is not a number"),
        ("resources: {labels: {kind: in()}}", "resources.labels.kind: 'in()' is no name here"),
        ("resources: {driver: {gpus: 1}}", "resources.driver.gpus: unknown key; did you mean"),
        ("smaples: 3", "smaples: unknown key; did you mean 'samples'?"),
        ("samples: 1", "metrics: fid needs at least 2 images, there are 1"),
        ("steps: 100", "steps: unknown key; did you mean 'sampler.steps'?"),
        (
            "sampler.steps: 100",
            "['sampler.steps']: unknown key; dots are for axes and --set, here ",
        ),
        ("metrics: [FID]", "metrics[0]: 'FID' is not one of "),
        ("metrics:", "metrics: null is no list of metrics; write [] for none"),
        ("name: 123", 'name: 123 is not text; write "123"'),
        (
            "name: My Sweep",
            "name: 'My Sweep' is no name here: it must match ^[a-z0-9][a-z0-9._-]*$; for exam",
        ),
        ("model: [ve, vp]", 'model: ["ve", "vp"] is neither a name nor a mapping'),
        ("extractor: 3", "extractor: 3 is neither a name nor a mapping"),
        (
            "sampler: ancestral",
            "sampler: 'ancestral' is not a mapping; write {kind: KIND, ...}, wher",
        ),
        ("sampler: {kind: [ode]}", 'sampler.kind: ["ode"] is not one of '),
        ("store: ''", "store: a store has a name: a folder such as 'runs'"),
        ("store: http://x/y", "store: the store 'http://x/y' is of no known kind"),
        ("store: s3://", "store: the store 's3://' names no place"),
        (
            "sweep: {axes: {seed: [1]}, exclude: {seed: 1}}",
            "sweep: has no cells: exclude leaves none",
        ),
        (
            "sweep: {axes: {predictors: [none]}}",
            "sweep.axes.predictors: a list sets the key that the axis",
        ),
    ],
)
def test_refused_with_key_path_value_and_remedy(folder: Path, line: str, problem: str):
    found = problems_of(folder, replaced(line))
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("model", "sampler", "problem"),
    [
        (
            "subvp",
            "{kind: predictor_corrector, predictor: ancestral, corrector: none}",
            "sampler.predictor: 'ancestral' is defined for VE and VP only",
        ),
        (
            "vp",
            "{kind: predictor_corrector, predictor: reverse_diffusion, corrector: none, steps: 20}",
            "sampler.steps: 20 is too few: VP needs more steps than beta_max = 20",
        ),
        (
            "ve",
            "{kind: ddls, steps: 10, step_size: 0.1}",
            "sampler.kind: 'ddls' samples from a GAN, and ve is a score model: its kind is 'predictor",
        ),
        (
            "gan",
            "{kind: predictor_corrector, predictor: ancestral, corrector: none}",
            "sampler.kind: 'predictor_corrector' samples from a score model, and gan is a GAN: its kind",
        ),
        ("gan", "{kind: real}", "sampler.kind: 'real' samples from a data set, and gan is a GAN"),
        (
            "digits-heldout",
            "{kind: real}",
            "samples: 1000 is more than digits-heldout holds, 549 images",
        ),
        (
            "gan",
            "{kind: ddls, steps: 10, step_size: 0.1, kept: 3}",
            "group_size: 1024 is no multiple of sampler.kept 3: a chain's images share a group",
        ),
        (
            "gan",
            "{kind: ddls, steps: 10, step_size: 0.1, kept: 8, thin: 2}",
            "sampler.steps: 10 is too few to keep 8 states 2 apart: at least 14",
        ),
        (
            "gan",
            "{kind: ddls, steps: 10, step_size: 0.1, kept: 4, thin: 2, burn_in: 5}",
            "sampler.burn_in: 5 is not steps - (kept - 1) thin = 4; leave it out",
        ),
    ],
)
def test_impossible_combinations_are_refused(folder: Path, model: str, sampler: str, problem: str):
    found = problems_of(folder, replaced(f"sampler: {sampler}"), model=model)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        ("subvp", "{kind: predictor_corrector, predictor: euler_maruyama, corrector: langevin}"),
        ("vp", "{kind: predictor_corrector, predictor: none, corrector: annealed_langevin, steps: 21}"),
        ("gan", "{kind: ddls, steps: 0, step_size: 0.1}"),
        ("gan", "{kind: ddls, steps: 14, step_size: 0.1, kept: 8, thin: 2, decay: {factor: 0.5, every: 5}}"),
        ("ve", "{kind: noise}"),
        ("digits", "{kind: real}"),
    ],
)
def test_what_is_possible_is_accepted_by_the_sampling_library_too(folder: Path, model: str, sampler: str):
    from sdesampling.samplers import planned_evaluations

    (configuration,) = sweep_of(folder, replaced(f"sampler: {sampler}"), model=model).configurations
    assert planned_evaluations(**configuration.sampler.model_dump()) >= 0


def test_everything_wrong_is_reported_at_once(folder: Path):
    text = """
name: Trial
sampler: {kind: predictor_corrector, predictor: ancestrall, corrector: langevin, snr: -1}
samples: 0
"""
    text += "model: vee\nextractor: digits-cn\nreference: dgits\nextra: 1\npublished: {values: 3}\n"
    assert [line.partition(":")[0] for line in problems_of(folder, text)] == [
        "extra",
        "name",
        "published.source",
        "published.values",
        "sampler.predictor",
        "sampler.snr",
        "samples",
        "model",
        "extractor",
        "reference",
    ]


def test_files_that_are_no_spec_are_refused(folder: Path):
    with pytest.raises(SpecError, match="neither a file nor a spec of the catalogue"):
        load_spec(folder / "absent.yaml")
    with pytest.raises(SpecError, match="did you mean 'digits-demo'"):
        load_spec("digits-dmo")
    (folder / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_spec(folder / "latin.yaml")
    (folder / "large.yaml").write_text("#" * 300_000)
    with pytest.raises(SpecError, match="at most 250,000"):
        load_spec(folder / "large.yaml")
    with pytest.raises(SpecError, match="is a training spec, for `sdesweep train train-digits-ve`"):
        load_spec("train-digits-ve")
    (folder / "mine.yaml").write_text(GOOD)
    with pytest.raises(SpecError, match=r"did you mean '.*mine\.yaml'"):
        load_spec(folder / "mine")


def test_overrides_win_and_their_errors_name_them(folder: Path):
    sweep = sweep_of(folder, GOOD, samples=64, sampler__steps=10, name="other", store="elsewhere")
    assert (sweep.name, sweep.store) == ("other", "elsewhere")
    assert sweep.configurations[0].samples == 64
    assert sweep.configurations[0].stages == (10,)
    assert problems_of(folder, GOOD, samples=0) == ["--set samples: 0 must be at least 1"]
    assert problems_of(folder, GOOD, smaples=3) == ["--set smaples: unknown key; did you mean 'samples'?"]


def test_paths_start_at_the_spec_and_take_variables(folder: Path, monkeypatch: pytest.MonkeyPatch):
    write_model(folder / "nested", "mine", family="score", sde=SDES["ve"])
    first = sweep_of(folder, replaced("model: {weights: nested/mine.safetensors}"))
    monkeypatch.setenv("PLACE", str(folder / "nested"))
    second = sweep_of(folder, replaced("model: {weights: '${PLACE}/mine.safetensors'}"))
    assert first.configurations[0].fingerprint == second.configurations[0].fingerprint
    (digest,) = first.configurations[0].model.weights.values()
    assert first.files[str(digest)] == str(folder / "nested" / "mine.safetensors")


def test_weights_of_another_kind_are_refused(folder: Path):
    (folder / "text.safetensors").write_text("hello, I am no tensor")
    found = problems_of(folder, replaced("model: {weights: text.safetensors}"))
    assert "is no safetensors file" in found[0]
    found = problems_of(folder, replaced("model: {weights: models}"))
    assert "is a folder" in found[0]
    write_model(folder, "strange", family="strange")
    found = problems_of(folder, replaced("model: {weights: strange.safetensors}"))
    assert "describes no model that this version knows" in found[0]
    (folder / "cut.safetensors").write_bytes((folder / "strange.safetensors").read_bytes()[:-9])
    found = problems_of(folder, replaced("model: {weights: cut.safetensors}"))
    assert "only the beginning" in found[0]


def test_what_is_known_but_not_here_can_be_planned(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    text = replaced("reference: {name: cifar10-train, path: '${NOT_SET}/train.parquet'}")
    sweep = sweep_of(folder, text, model="vp/cifar10_ddpm")
    assert sweep.missing == (
        "the weights of vp/cifar10_ddpm are not here: "
        "`sdesweep models add FILE --as vp/cifar10_ddpm` brings them in",
        "set the environment variable NOT_SET: it leads to cifar10-train",
    )
    assert sweep.configurations[0].model.missing
    assert sweep.configurations[0].model.shape == (3, 32, 32)


def test_errors_cross_processes(folder: Path):
    error = SpecError("source", SpecError("x", []).problems)
    with pytest.raises(SpecError) as caught:
        load_spec(folder / "absent.yaml")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.problems == caught.value.problems
    assert str(again) == str(caught.value)
    assert pickle.loads(pickle.dumps(error)).source == "source"


def test_schema_is_json_and_knows_every_key():
    schema = json.loads(json.dumps(spec_schema()))
    assert schema["required"] == ["name"]
    for key in (
        "name",
        "model",
        "sampler",
        "samples",
        "sweep",
        "published",
        "extractor",
        "store",
        "resources",
    ):
        assert key in schema["properties"]
    references = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            references.add(node.get("$ref"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(schema)
    assert references - {None} <= {f"#/$defs/{name}" for name in schema["$defs"]}
