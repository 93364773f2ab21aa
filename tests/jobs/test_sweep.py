"""Sweeps: which cells a matrix gives, in which order, with which settings, and what is refused."""

import time
from pathlib import Path

import pytest
from spec_files import problems_of, sweep_of, write_models

from jobs.planning.plan import costs
from jobs.planning.plan_report import plan_json
from jobs.planning.sweep import Sweep
from jobs.specs.configuration import Configuration
from jobs.specs.layers import Layers, nest
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import WorkerCount

BASE = """
name: trial
sampler: {kind: predictor_corrector, predictor: ancestral, corrector: langevin, steps: 100}
samples: 1000
extractor: digits-cnn
reference: digits-train
"""

TABLE = (
    BASE
    + """
sweep:
  axes:
    predictor:
      ancestral: {sampler.predictor: ancestral}
      reverse diffusion: {sampler.predictor: reverse_diffusion}
    model:
      VE: {model: ve}
      VP: {model: vp}
    mode:
      P100: {sampler: {corrector: none}}
      C100: {sampler: {predictor: none}}
      PC50: {sampler.steps: 50}
  rows: predictor
  columns: [model, mode]
  exclude:
    - {predictor: reverse diffusion, mode: C100}
  override:
    - {when: {model: VE, mode: [C100]}, set: {sampler.snr: 0.22}}
    - {when: {mode: PC50}, set: {sampler.snr: 0.1, seed: 5}}
    - {when: {model: VP, mode: PC50}, set: {sampler: {snr: 0.01}}}
  include:
    - {row: GAN, column: DDLS 10, set: {model: gan, sampler: {kind: ddls, steps: 10, step_size: 0.01}}}
published:
  source: a paper
  values:
    ancestral: {VE P100: [4.98, 0.06], VP PC50: 3}
"""
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    write_models(tmp_path / "models")
    return tmp_path


def cell(sweep: Sweep, row: str, column: str) -> Configuration:
    (found,) = [each for each in sweep.configurations if (each.row, each.column) == (row, column)]
    return found


def sampler(configuration: Configuration) -> PredictorCorrector:
    assert isinstance(configuration.sampler, PredictorCorrector)
    return configuration.sampler


def test_a_table_in_the_order_of_its_axes(folder: Path):
    sweep = sweep_of(folder, TABLE)
    assert sweep.rows == ("ancestral", "reverse diffusion", "GAN")
    assert sweep.columns == ("VE P100", "VE C100", "VE PC50", "VP P100", "VP C100", "VP PC50", "DDLS 10")
    assert [each.name for each in sweep.configurations] == [
        "ancestral / VE P100",
        "ancestral / VE C100",
        "ancestral / VE PC50",
        "ancestral / VP P100",
        "ancestral / VP C100",
        "ancestral / VP PC50",
        "reverse diffusion / VE P100",
        "reverse diffusion / VE PC50",
        "reverse diffusion / VP P100",
        "reverse diffusion / VP PC50",
        "GAN / DDLS 10",
    ]


def test_later_axes_and_overrides_win(folder: Path):
    sweep = sweep_of(folder, TABLE)
    corrector_only = sampler(cell(sweep, "ancestral", "VE C100"))
    assert (corrector_only.predictor, corrector_only.corrector, corrector_only.snr) == (
        "none",
        "langevin",
        0.22,
    )
    assert sampler(cell(sweep, "ancestral", "VP C100")).snr == 0.16
    assert sampler(cell(sweep, "ancestral", "VE PC50")).snr == 0.1
    assert sampler(cell(sweep, "ancestral", "VP PC50")).snr == 0.01
    assert cell(sweep, "ancestral", "VP PC50").seed == 5
    assert sampler(cell(sweep, "reverse diffusion", "VP PC50")).steps == 50
    assert cell(sweep, "GAN", "DDLS 10").sampler.kind == "ddls"


def test_published_values_sit_in_their_cells(folder: Path):
    sweep = sweep_of(folder, TABLE)
    (value,) = cell(sweep, "ancestral", "VE P100").published
    assert (value.value, value.std, value.source, value.metric) == (4.98, 0.06, "a paper", "fid")
    assert cell(sweep, "ancestral", "VP PC50").published[0].std is None
    assert cell(sweep, "reverse diffusion", "VE P100").published == ()


def test_two_sources_of_published_values(folder: Path):
    text = TABLE[: TABLE.index("published:")] + (
        "published:\n"
        "  - {source: one, values: {ancestral: {VE P100: 1}}}\n"
        "  - {source: two, values: {ancestral: {VE P100: [2, 0.5]}}}\n"
    )
    assert [each.source for each in cell(sweep_of(folder, text), "ancestral", "VE P100").published] == [
        "one",
        "two",
    ]


def test_replicates_are_configurations_beside_each_other(folder: Path):
    sweep = sweep_of(folder, BASE + "model: ve\nreplicates: 3\n")
    assert [each.replicate for each in sweep.configurations] == [0, 1, 2]
    assert [each.name for each in sweep.configurations] == [
        "trial / score",
        "trial / score #1",
        "trial / score #2",
    ]
    assert len({each.fingerprint for each in sweep.configurations}) == 3


def test_lists_are_axes_over_values_of_a_key(folder: Path):
    text = BASE + "model: ve\nsweep:\n  axes:\n    seed: [1, 2]\n    sampler.steps: [10, 1000]\n"
    sweep = sweep_of(folder, text)
    assert (sweep.rows, sweep.columns) == (("seed 1", "seed 2"), ("steps 10", "steps 1000"))
    assert [(each.seed, sampler(each).steps) for each in sweep.configurations] == [
        (1, 10),
        (1, 1000),
        (2, 10),
        (2, 1000),
    ]
    names = BASE + "sweep: {axes: {model: [ve, vp], seed: [1, 2]}, exclude: [{model: vp, seed: 2}]}\n"
    sweep = sweep_of(folder, names)
    assert [each.name for each in sweep.configurations] == ["ve / seed 1", "ve / seed 2", "vp / seed 1"]


def test_an_axis_that_is_neither_row_nor_column_joins_the_rows(folder: Path):
    text = (
        BASE
        + "sweep: {axes: {model: [ve, vp], seed: [1, 2], sampler.steps: [30, 40]}, columns: sampler.steps}\n"
    )
    sweep = sweep_of(folder, text)
    assert sweep.rows == ("ve seed 1", "ve seed 2", "vp seed 1", "vp seed 2")
    assert sweep.columns == ("steps 30", "steps 40")


def test_one_axis_makes_one_column(folder: Path):
    sweep = sweep_of(folder, BASE + "sweep: {axes: {model: [ve, vp]}}\n")
    assert [each.name for each in sweep.configurations] == ["ve / score", "vp / score"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("sampler.predictor: ancestral}", "sampler.predictor: ancestrall}"),
            "sweep.axes.predictor.ancestral.sampler.predictor: 'ancestrall' is not one of ancestral, "
            "reverse_diffusion, euler_maruyama, probability_flow, none; did you mean 'ancestral'? "
            "(cell 'ancestral / VE P100' and 3 more)",
        ),
        (
            ("{sampler: {corrector: none}}", "{sampler: {corrector: none, predictor: none}}"),
            "sweep.axes.mode.P100.sampler.corrector: 'none' with predictor 'none' samples nothing; set one "
            "of them (cell 'ancestral / VE P100' and 3 more)",
        ),
        (
            ("VP: {model: vp}", "VP: {model: subvp}"),
            "sweep.axes.predictor.ancestral.sampler.predictor: 'ancestral' is defined for VE and VP only, "
            "and this model is sub-VP; try 'reverse_diffusion' (cell 'ancestral / VP P100' and 1 more)",
        ),
        (
            ("{sampler.steps: 50}", "{sampler.steps: 15}"),
            "sweep.axes.mode.PC50.sampler.steps: 15 is too few: VP needs more steps than beta_max = 20 "
            "(cell 'ancestral / VP PC50' and 1 more)",
        ),
        (
            ("seed: 5}", "sead: 5}"),
            "sweep.override[1].set.sead: unknown key; did you mean 'seed'? (cell 'ancestral / VE PC50' and 3",
        ),
        (
            ("set: {model: gan,", "set: {model: ve,"),
            "sweep.include[0].set.sampler.kind: 'ddls' samples from a GAN, and ve is a score model: its kind "
            "is 'predictor_corrector' or ",
        ),
        (
            ("rows: predictor", "rows: predicter"),
            "sweep.rows: 'predicter' is not one of predictor, model, mode",
        ),
        (("mode: C100}", "mode: C10}"), "sweep.exclude[0].mode: 'C10' is not one of P100, C100, PC50; "),
        (("mode: [C100]}", "mood: [C100]}"), "sweep.override[0].when: axis 'mood' is not one of predictor, "),
        (
            ("{model: VE, mode: [C100]}", "{predictor: reverse diffusion, mode: C100}"),
            "sweep.override[0].when: matches no cell",
        ),
        (("{row: GAN, column: DDLS 10", "{row: ancestral, column: VE P100"), "sweep: two cells are called "),
        (
            ("    ancestral: {VE P100: [4", "    ancestrel: {VE P100: [4"),
            "published.values.ancestrel: row 'ancestrel' is not one of ancestral, reverse diffusion, GAN",
        ),
        (("VP PC50: 3}", "VP PC5: 3}"), "published.values.ancestral['VP PC5']: column 'VP PC5' is not"),
        (("VP PC50: 3}", "VP PC50: [1, 2, 3]}"), "published.values.ancestral['VP PC50']: [1, 2, 3] is nei"),
        (("  rows:", "  row:"), "sweep.row: unknown key; did you mean 'rows'?"),
        (("{row: GAN, column: DDLS 10, ", "{row: GAN, "), "sweep.include[0].column: missing"),
    ],
)
def test_refused_where_it_is_written(folder: Path, change: tuple[str, str], problem: str):
    assert TABLE.count(change[0]) == 1
    assert problems_of(folder, TABLE.replace(*change))[0].startswith(problem)


def test_what_is_wrong_everywhere_is_reported_once(folder: Path):
    assert problems_of(folder, TABLE.replace("samples: 1000", "samples: 0")) == [
        "samples: 0 must be at least 1"
    ]


def test_cells_with_the_same_images_must_want_the_same_of_them(folder: Path):
    text = BASE + "model: ve\nsweep: {axes: {samples: [100, 200]}}\n"
    assert problems_of(folder, text) == [
        "sweep: cells 'samples 100 / score' and 'samples 200 / score' make the same images and want them "
        "with other samples; make these equal, or exclude one of them"
    ]


def test_cells_with_the_same_images_share_them(folder: Path):
    """A step-size ratio cannot matter without a corrector."""
    text = BASE + "model: ve\nsweep: {axes: {sampler.corrector: [none, langevin], sampler.snr: [0.1, 0.2]}}\n"
    sweep = sweep_of(folder, text)
    first, second, *others = sweep.configurations
    assert first.fingerprint == second.fingerprint
    assert first.differences(second) == []
    assert len({each.fingerprint for each in (first, *others)}) == 3
    planned = costs(sweep)
    assert [each.shared for each in planned.configurations] == ["", "none / snr 0.1", "", ""]
    assert plan_json(planned)["totals"]["configurations"] == 3
    assert plan_json(planned)["totals"]["samples"] == 3000


def test_workers_are_the_same_for_all_cells(folder: Path):
    axes = "model: ve\nsweep: {axes: {size: {small: {}, large: {seed: 1, resources: {%s}}}}}\n"
    message = "differs between cells, and workers serve all of them: set it once, at the top level"
    assert problems_of(folder, BASE + axes % "gpus: 1, workers: 2") == [
        f"resources.workers: {message}",
        f"resources.gpus: {message}",
    ]
    sweep = sweep_of(folder, BASE + "resources: {gpus: 0.5, workers: 3}\n" + axes % "micro_batch: 64")
    assert (sweep.resources.gpus, sweep.resources.workers) == (0.5, WorkerCount(min=3, max=3))
    assert [each.resources.micro_batch for each in sweep.configurations] == [None, 64]


def test_a_value_that_is_there_twice_is_refused(folder: Path):
    found = problems_of(folder, BASE + "model: ve\nsweep: {axes: {seed: [1, 2, 1]}}\n")
    assert found == ["sweep: axis seed has 1 twice"]


def test_a_list_axis_must_be_named_after_a_key(folder: Path):
    assert problems_of(folder, BASE + "model: ve\nsweep: {axes: {sead: [1, 2]}}\n") == [
        "sweep.axes.sead: a list sets the key that the axis is named after, and there is no key 'sead'; "
        "did you mean 'seed'?"
    ]


@pytest.mark.parametrize("section", ["{}", "{axes: {}}"])
def test_an_empty_sweep_is_refused(folder: Path, section: str):
    assert problems_of(folder, BASE + f"model: ve\nsweep: {section}\n") == [
        "sweep: has no cells: give axes or include"
    ]


def test_too_many_cells_are_counted_and_never_made(folder: Path):
    axes = ", ".join(f"a{n}: {{{', '.join(f'l{m}: {{seed: {m}}}' for m in range(50))}}}" for n in range(8))
    begin = time.process_time()
    found = problems_of(folder, BASE + f"model: ve\nsweep: {{axes: {{{axes}}}}}\n")
    assert found == [
        "sweep: 39,062,500,000,000 cells (50 x 50 x 50 x 50 x 50 x 50 x 50 x 50); at most 10,000: take fewer "
        "levels, or several specs"
    ]
    assert time.process_time() - begin < 10
    found = problems_of(folder, BASE + "model: ve\nreplicates: 10001\n")
    assert found == ["replicates: 10001 must be at most 10000"]
    found = problems_of(folder, BASE + "model: ve\nreplicates: 4000\nsweep: {axes: {seed: [1, 2, 3]}}\n")
    assert found == [
        "replicates: 12,000 configurations of 3 cells; at most 10,000: take fewer, or several specs"
    ]


def test_thousands_of_configurations_expand_in_seconds(folder: Path):
    text = BASE + f"model: ve\nsweep: {{axes: {{seed: {list(range(1000))}, quantisation: [floor, round]}}}}\n"
    begin = time.process_time()
    sweep = sweep_of(folder, text)
    assert len(sweep.configurations) == 2000
    assert time.process_time() - begin < 20  # about 1 s


def test_a_sweep_survives_sweep_json(folder: Path):
    sweep = sweep_of(folder, TABLE, samples=64)
    again = Sweep.from_json(sweep.to_json())
    assert again == sweep
    assert [each.fingerprint for each in again.configurations] == [
        each.fingerprint for each in sweep.configurations
    ]
    assert again.overrides == {"samples": 64}
    assert again.written == TABLE


def test_another_sampler_kind_replaces_the_section():
    layers = Layers()
    layers.add({"sampler": {"kind": "predictor_corrector", "snr": 0.1}, "model": {"weights": {"a": "b"}}}, ())
    layers.add({"sampler.kind": "ddls", "sampler.steps": 3}, ("there",))
    assert layers.settings["sampler"] == {"kind": "ddls", "steps": 3}
    layers.add({"sampler": {"kind": "ddls", "decay": {"every": 2}}}, ("later",))
    layers.add({"sampler.decay.factor": 0.5, "model": {"weights": {"c": "d"}}}, ("last",))
    assert layers.settings["sampler"] == {"kind": "ddls", "steps": 3, "decay": {"every": 2, "factor": 0.5}}
    assert layers.settings["model"] == {"weights": {"c": "d"}}
    assert layers.origin(("sampler", "steps")) == ("there",)
    assert layers.origin(("sampler", "decay", "every")) == ("later",)
    assert layers.origin(("sampler", "step_size")) == ("last",)


def test_dotted_keys_nest_beside_mappings():
    assert nest({"sampler.steps": 1, "sampler": {"snr": 2}, "a.b.c": 3}) == {
        "sampler": {"steps": 1, "snr": 2},
        "a": {"b": {"c": 3}},
    }
