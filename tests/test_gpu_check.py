"""The acceptance script for GPUs, on the CPU: it passes what is right and fails what is not."""

import importlib.util
import itertools
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from jobs.models.catalog import WEIGHTS
from jobs.scores.results import SweepResults
from jobs.scores.summary import gather_cell
from sdesampling.models import load_model

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu_check():
    description = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(description)
    sys.modules["gpu_check"] = module
    description.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


@pytest.fixture
def model():
    return load_model(WEIGHTS / "digits-ve.safetensors")


def test_everything_but_rates_and_cell_passes_on_the_cpu(gpu_check, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "SHIPPED", ("digits-ve",))
    arguments = ["--device", "cpu", "--model", "", "--images", "2", "--steps", "4", "--cell", "0"]
    assert gpu_check.main([*arguments, "--no-rates"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "7 checks, all passed"
    assert all(line.startswith("pass") for line in lines[:-1])


def test_a_device_that_computes_otherwise_fails_by_name(gpu_check, model, monkeypatch):
    honest = gpu_check.on_device

    def wrong(model, device):
        moved = honest(model, device)
        moved.network.all_modules[4].Conv_0.weight.data.mul_(-1)
        return moved

    monkeypatch.setattr(gpu_check, "on_device", wrong)
    found = {each.name: each.passed for each in gpu_check.correctness("m", model, CPU, 2, 3)}
    assert found == {"m: scores": False, "m: bfloat16": False, "m: 3 steps": False}


def test_a_device_that_does_not_repeat_itself_fails(gpu_check, model, monkeypatch):
    honest, calls = gpu_check.on_device, itertools.count()

    def drifting(model, device):
        moved = honest(model, device)
        score = moved.score
        monkeypatch.setattr(type(moved), "score", lambda self, x, t: score(x, t) * (1 + 1e-6 * next(calls)))
        return moved

    monkeypatch.setattr(gpu_check, "on_device", drifting)
    found = [each.passed for each in gpu_check.bits("m", model, CPU, 2, 4)]
    assert found == [False, False]


def test_a_step_that_waits_is_named_with_its_sampler(gpu_check, model, monkeypatch):
    @contextmanager
    def strict(device):
        with monkeypatch.context() as inside:
            inside.setattr(type(model.sde), "time_of", refuse)
            yield

    def refuse(sde, ratio):
        raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(gpu_check, "errors_where_the_host_waits", strict)
    (check,) = gpu_check.waiting("m", model, CPU)
    assert not check.passed
    assert set(check.found) == {"edm"}  # the one that asks for a time by its noise


def test_infinite_numbers_are_no_agreement(gpu_check):
    expected = torch.ones(3)
    assert gpu_check.relative_error(torch.tensor([1.0, float("nan"), 1.0]), expected) == float("inf")
    assert gpu_check.relative_error(expected, expected) == 0


def test_scores_further_apart_than_their_errors_allow_are_told(gpu_check, tmp_path, monkeypatch):
    scores = iter([(5.0, 0.3), (6.0, 0.4)])
    monkeypatch.setattr(gpu_check, "run_command", lambda spec, store: next(scores))
    (check,) = gpu_check.cell(1000, 50, "1", tmp_path)
    assert check.passed  # 1.0 is less than 3 times 0.5
    assert "gpus: 1" in (tmp_path / "device.yaml").read_text()
    assert "gpus: 0" in (tmp_path / "cpu.yaml").read_text()
    scores = iter([(5.0, 0.1), (6.0, 0.1)])
    (check,) = gpu_check.cell(1000, 50, "1", tmp_path)
    assert not check.passed


def test_the_score_of_a_cell_is_read_from_what_the_command_prints(gpu_check, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent / "jobs")
    from test_results import result

    cell = gather_cell([result(value=3.5, error=0.25)], expected=1)
    results = SweepResults(sweep="s", description="", rows=("row",), columns=("column",), cells=(cell,))
    printed = json.dumps({"exit_code": 0, "results": json.loads(results.model_dump_json())})
    assert gpu_check.score_in(printed) == (3.5, 0.25)


def test_without_a_gpu_it_says_so(gpu_check, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "--device cpu" in capsys.readouterr().err
