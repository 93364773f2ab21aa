"""The catalogue: every ready spec can be planned where nothing but the package is, and says what it lacks."""

import csv
import io
import json
import pwd
import re
from pathlib import Path

import pytest
from rich.console import Console
from spec_files import SDES, sweep_of, write_model

from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import read_dataset
from jobs.inputs.modelfiles import UnresolvedError, locate, safetensors_metadata
from jobs.models import catalog
from jobs.models.resolve import resolve_extractor, resolve_model
from jobs.planning.plan import costs
from jobs.planning.plan_report import bytes_text, count_text, plan_json, render_plan
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.specs.configuration import Configuration
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.spec import ExtractorSection, ModelSection

# Song et al. 2020 (arXiv 2011.13456), CIFAR-10: FID of Table 1 (C2000: one value a column), r of Table 5.
TABLE_1 = """
row,P1000,P2000,C2000,PC1000
ancestral sampling VE*,4.98±.06,4.88±.06,20.43±.07,3.62±.03
ancestral sampling VP,3.24±.02,3.24±.02,19.06±.06,3.21±.02
reverse diffusion VE*,4.79±.07,4.74±.08,,3.60±.02
reverse diffusion VP,3.21±.02,3.19±.02,,3.18±.01
probability flow VE*,15.41±.15,10.54±.08,,3.51±.04
probability flow VP,3.59±.04,3.23±.03,,3.06±.03
"""
TABLE_5 = {
    ("ancestral sampling", "VE* PC1000"): 0.17,
    ("reverse diffusion", "VE* PC1000"): 0.16,
    ("probability flow", "VE* PC1000"): 0.17,
    ("ancestral sampling", "VE* C2000"): 0.22,
    ("ancestral sampling", "VP PC1000"): 0.01,
    ("reverse diffusion", "VP PC1000"): 0.01,
    ("probability flow", "VP PC1000"): 0.04,
    ("ancestral sampling", "VP C2000"): 0.27,
}
#: steps and corrector steps
STEPS = {"P1000": (1000, 1), "P2000": (2000, 1), "C1000": (1000, 1), "C2000": (1000, 2), "PC1000": (1000, 1)}
PREDICTORS = {
    "ancestral sampling": "ancestral",
    "reverse diffusion": "reverse_diffusion",
    "probability flow": "probability_flow",
}


@pytest.fixture(autouse=True)
def nothing_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("SDESWEEP_DATA", raising=False)
    return tmp_path / "models"


@pytest.mark.parametrize("name", catalog.spec_names())
def test_every_ready_spec_can_be_planned(name: str):
    sweep = expand(load_spec(name))
    assert sweep.name == name
    assert sweep.description
    planned = costs(sweep)
    assert len(planned.configurations) == len(sweep.configurations)
    assert all(cost.left == cost.shards for cost in planned.configurations)
    assert Sweep.from_json(sweep.to_json()) == sweep


@pytest.mark.parametrize("name", ["digits-demo", "digits-table1"])
def test_specs_of_the_embedded_default_lack_nothing(name: str):
    sweep = expand(load_spec(name))
    assert sweep.missing == ()
    for digest, path in sweep.files.items():
        assert file_sha256(Path(path)) == digest


def test_the_demo_has_what_it_promises():
    sweep = expand(load_spec("digits-demo"))
    by_kind: dict[str, list[Configuration]] = {}
    for configuration in sweep.configurations:
        by_kind.setdefault(configuration.sampler.kind, []).append(configuration)
    modes = {
        (each.model.sde, each.sampler.predictor != "none", each.sampler.corrector != "none")
        for each in by_kind["predictor_corrector"]
        if isinstance(each.sampler, PredictorCorrector)
    }
    assert modes == {
        (sde, *mode) for sde in ("ve", "vp") for mode in ((True, False), (False, True), (True, True))
    }
    assert min(each.stages[-1] for each in by_kind["ddls"]) == 0
    assert max(each.stages[-1] for each in by_kind["ddls"]) > 0
    assert {"noise", "real"} <= by_kind.keys()
    sampled = [each for each in sweep.configurations if each.sampler.kind != "real"]
    assert len(sampled) >= 8
    assert min(each.samples for each in sampled) >= 1000


def test_song2020_table1_has_every_cell_with_its_r_and_its_published_value():
    sweep = expand(load_spec("song2020-table1"))
    cells = {(each.row, each.column): each for each in sweep.configurations}
    published: dict[tuple[str, str], tuple[float, float]] = {}
    for line in csv.DictReader(io.StringIO(TABLE_1.strip())):
        row, _, model = line.pop("row").rpartition(" ")
        for mode, text in line.items():
            if text:
                value, std = map(float, text.split("±"))
                published[row, f"{model} {mode}"] = (value, std)
    replication = {("ancestral sampling", f"{model} C1000") for model in ("VE*", "VP")}
    assert cells.keys() == published.keys() | replication
    for place, configuration in cells.items():
        song = [each for each in configuration.published if "2011.13456" in each.source]
        assert [(each.value, each.std) for each in song] == ([published[place]] if place in published else [])
        sampler = configuration.sampler
        assert isinstance(sampler, PredictorCorrector)
        mode = place[1].split()[1]
        assert sampler.predictor == ("none" if mode in ("C1000", "C2000") else PREDICTORS[place[0]])
        assert (sampler.corrector == "none") == (mode in ("P1000", "P2000"))
        assert (sampler.steps, sampler.corrector_steps) == STEPS[mode]
        if place in TABLE_5:
            assert sampler.snr == TABLE_5[place]
        assert (configuration.samples, configuration.group_size) == (50_000, 1024)
        assert sampler.denoise
        assert sampler.labels == "interpolated"
    assert len(sweep.configurations) == 5 * len(cells)
    ve = next(each for each in sweep.configurations if each.model.sde == "ve")
    assert "ve/cifar10_ddpm" in ve.model.note


def test_the_digits_table_is_the_same_grid():
    def grid(name: str) -> set[tuple[str, str]]:
        cells = {(each.row, each.column.replace("*", "")) for each in expand(load_spec(name)).configurations}
        return {cell for cell in cells if cell[0] != "controls"}

    assert grid("digits-table1") == grid("song2020-table1")


def test_every_name_of_a_model_resolves(nothing_added: Path):
    write_model(nothing_added, "own/trained", family="score", sde=SDES["ve"], continuous=True)
    names = catalog.model_names()
    assert {"digits-ve", "vp/cifar10_ddpm", "digits-heldout", "own/trained"} <= set(names)
    for name in names:
        model = resolve_model(ModelSection(name=name), nothing_added).thing
        assert model.name == name
        assert model.shape is not None


def test_extractors_are_those_of_the_fid_package(nothing_added: Path):
    from fid.extractors import EXTRACTORS, identity_of, load_extractor

    assert set(catalog.EXTRACTORS) == set(EXTRACTORS)
    for name, entry in catalog.EXTRACTORS.items():
        assert identity_of(name)["dimension"] == entry.dimension
    resolved = resolve_extractor(ExtractorSection(name="digits-cnn"), nothing_added)
    (path,) = resolved.files.values()
    assert load_extractor("digits-cnn", path).dimension == resolved.thing.dimension


def test_conventions_and_weights_of_the_fid_inception(nothing_added: Path, tmp_path: Path, monkeypatch):
    section = ExtractorSection(name="inception-pool64-half-pixel")
    absent = resolve_extractor(section, nothing_added)
    assert (absent.thing.dimension, absent.thing.logits, absent.thing.weights) == (64, 0, None)
    assert "SDESWEEP_WEIGHTS_INCEPTION=FILE" in absent.missing[0]
    file = tmp_path / "downloaded.pth"
    file.write_bytes(b"weights")
    monkeypatch.setenv("SDESWEEP_WEIGHTS_INCEPTION", str(file))
    there = resolve_extractor(section, nothing_added)
    assert list(there.files.values()) == [file]
    monkeypatch.setenv("SDESWEEP_WEIGHTS_INCEPTION", str(file) + "x")
    with pytest.raises(UnresolvedError, match=r"SDESWEEP_WEIGHTS_INCEPTION leads to .*x, where no file is"):
        resolve_extractor(section, nothing_added)
    with pytest.raises(UnresolvedError, match="after `inception` come departures"):
        resolve_extractor(ExtractorSection(name="inception-sharp"), nothing_added)


def test_known_data_sets_are_as_they_are_read():
    for name, known in catalog.DATA_SETS.items():
        data = read_dataset(name)
        assert (len(data), data.images.shape[1:], data.content_hash) == (
            known.images,
            known.shape,
            known.content,
        )


@pytest.mark.parametrize("name", ["digits-ve", "digits-vp", "digits-gan", "digits-cnn"])
def test_shipped_weights_have_never_seen_the_held_out_images(name: str):
    record = json.loads((catalog.CATALOG / "weights" / f"{name}.json").read_text())
    weights = catalog.CATALOG / "weights" / f"{name}.safetensors"
    assert file_sha256(weights) == record["weights"]["sha256"]
    train, held_out = read_dataset("digits-train"), read_dataset("digits-heldout")
    assert record["data"] == {"name": "digits-train", "images": len(train), "sha256": train.content_hash}
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in held_out.images)


def test_header_of_a_shipped_file_is_read_without_tensors():
    from sdesampling.models import read_config

    for name in catalog.EMBEDDED_MODELS:
        path = catalog.WEIGHTS / f"{name}.safetensors"
        written, read = (
            json.loads(safetensors_metadata(path)["config"]),
            json.loads(read_config(path).to_json()),
        )
        assert read == {**read, **written}  # what was not written is a default


def test_a_plan_reads_well_and_as_json():
    planned = costs(expand(load_spec("song2020-table1")))
    content = json.loads(json.dumps(plan_json(planned)))
    assert content["totals"]["configurations"] == 110
    assert content["totals"]["images"] == 110 * 50_000
    assert content["totals"]["groups"] == content["totals"]["shards"] == 110 * 49
    pc = [each for each in content["configurations"] if each["column"] == "VP PC1000"]
    assert {each["evaluations"] for each in pc} == {2000}
    assert any("models add FILE --as vp/cifar10_ddpm" in sentence for sentence in content["missing"])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_plan(planned))
    text = console.export_text()
    for expected in (
        "song2020-table1: 110 configurations",
        "ancestral sampling",
        "VE* C2000 x5",
        "models add",
        "9.001 G",
    ):
        assert expected in text


def test_counts_and_bytes_in_units():
    assert [count_text(count) for count in (0, 9216, 1e6, 2.56e6, 9.001e9)] == [
        "0",
        "9,216",
        "1 M",
        "2.56 M",
        "9.001 G",
    ]
    assert [bytes_text(count) for count in (0, 1023, 1536, 2**40, 2**52)] == [
        "0 B", "1023 B", "1.5 KiB", "1.0 TiB", "4096.0 TiB",
    ]  # fmt: skip


def test_every_complete_spec_in_the_documentation_is_accepted(tmp_path: Path):
    page = Path(__file__).parents[2] / "docs" / "spec.md"
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    first, sweep, published, steps = blocks
    assert len(sweep_of(tmp_path, first).configurations) == 1
    assert len(sweep_of(tmp_path, steps).configurations) == 60
    base = first.replace("name: first-try", "name: both")
    table = sweep_of(tmp_path, base + sweep)
    assert table.columns == ("VE P100", "VE C100", "VE PC100", "VP P100", "VP C100", "VP PC100", "DDLS 100")
    assert len(table.configurations) == 2 * 2 * 5 + 1
    assert "VE P1000" in published
    readme = (page.parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert len(sweep_of(tmp_path, example).configurations) == 16


def test_a_user_whom_the_system_does_not_know_has_added_nothing(monkeypatch: pytest.MonkeyPatch):
    """As in containers that run under any number: there is no home folder."""

    def unknown(number: int):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME", "SDESWEEP_MODELS"):
        monkeypatch.delenv(name, raising=False)
    assert not catalog.added_folder().exists()
    assert set(catalog.EMBEDDED_MODELS) <= set(catalog.model_names())


def test_the_folder_of_a_user_who_is_not_there_is_nowhere(tmp_path: Path):
    with pytest.raises(UnresolvedError, match=r"'~nobody-here/x\.pth': nothing is at"):
        locate("~nobody-here/x.pth", tmp_path)
