"""The command line: help, errors in plain words, exit codes, and both forms of every answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from cluster.cli import main
from jobs.paths import SweepPaths
from jobs.storage.lease import held

LEAVES = [
    (f"{name} {leaf}" if isinstance(command, click.Group) else name, found)
    for name, command in main.commands.items()
    for leaf, found in (command.commands if isinstance(command, click.Group) else {"": command}).items()
]


@pytest.mark.parametrize(("name", "command"), LEAVES)
def test_every_command_has_json_and_an_example(name, command):
    assert any(option.name == "as_json" for option in command.params)
    assert f"sdesweep {name}" in command.help


def test_help_and_command_loading_wait_for_no_heavy_library():
    heavy = ("torch", "ray", "pyarrow", "numpy", "matplotlib", "pydantic", "sklearn")
    code = f"import sys, cluster.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_output_that_nobody_reads_ends_a_command_without_a_word():
    """As `sdesweep ... | head` does; nor is it taken for the exit code of a failure."""
    command = [sys.executable, "-m", "cluster.cli", "version"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_a_locale_that_lacks_a_character_is_no_reason_to_fail():
    code = "import click, cluster.cli as c; c.main.command('say')(lambda: click.echo('± †')); c.main(['say'])"
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, b"\xb1 \\u2020")


def test_a_wrong_spec_names_every_problem(call, spec):
    spec.write_text(spec.read_text().replace("samples: 40", "samples: 0\nsedd: 3"))
    code, output, errors = call("plan", spec)
    assert code == 2
    assert output == ""
    assert "2 problems" in errors
    assert "did you mean 'seed'?" in errors
    code, output, _ = call("run", spec, "--json")
    assert code == 2
    found = json.loads(output)
    assert {problem["path"] for problem in found["problems"]} == {"samples", "sedd"}


def test_a_spec_that_is_nowhere_names_the_ready_ones(call):
    code, _, errors = call("plan", "digits-dmo")
    assert code == 2
    assert "did you mean 'digits-demo'?" in errors


@pytest.mark.parametrize("command", ["status", "resume", "report", "reduce", "verify"])
def test_a_sweep_that_is_not_there_is_one_clear_line(call, tmp_path, command):
    code, output, errors = call(command, "nobody", "--store", tmp_path)
    assert code == 2
    assert output == ""
    assert errors.startswith("error: no sweep 'nobody' in the store")
    assert len(errors.splitlines()) == 1
    code, output, _ = call(command, "nobody", "--store", tmp_path, "--json")
    assert (code, json.loads(output)["exit_code"]) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "{spec}", "--set", "samples"), "write --set KEY=VALUE"),
        (("plan", "{spec}", "--set", "samples=["), "--set samples=["),
        (("plan", "{spec}", "--store", "{spec}"), "is a file; give a folder"),
        (("plan", "{spec}", "--store", "gs://bucket"), "is of no known kind"),
        (("status", "../tiny", "--store", "{folder}"), "the store refuses the name"),
        (("train", "nothing"), "no training spec 'nothing'"),
        (("models", "add", "{folder}/absent", "--as", "mine"), "no such file"),
    ],
)
def test_wrong_requests_are_told_in_a_line(call, spec, tmp_path, arguments, message):
    code, _, errors = call(*(part.format(spec=spec, folder=tmp_path) for part in arguments))
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


def test_plan_in_both_forms(call, spec, tmp_path):
    code, output, _ = call("plan", spec, "--store", tmp_path / "store", "--set", "samples=64", "--json")
    assert code == 0
    totals = json.loads(output)["totals"]
    assert (totals["samples"], totals["shards"], totals["left"]) == (128, 8, 8)
    code, output, _ = call("plan", spec, "--store", tmp_path / "store")
    assert code == 0
    assert "noise" in output


def test_plan_counts_what_is_there(call, filled, spec):
    _, output, _ = call("plan", spec, "--store", filled.url, "--set", "samples=56", "--json")
    totals = json.loads(output)["totals"]
    assert (totals["shards"], totals["left"]) == (8, 4)  # [40, 48) up to the boundary, then [48, 56)


def test_status_in_both_forms(call, filled):
    code, output, _ = call("status", "tiny", "--store", filled.url, "--json")
    assert code == 0
    found = json.loads(output)
    assert found["complete"]
    assert found["driver"]["state"] == "ended"
    assert [item["shards_done"] for item in found["configurations"]] == [3, 3]
    assert found["last_run"]["outcome"] == "done"
    code, output, _ = call("status", "tiny", "--store", filled.url)
    assert code == 0
    assert "complete" in output
    assert "3/3" in output


def test_run_of_a_finished_sweep_prints_its_table_and_page(call, filled, spec):
    code, output, _ = call("run", spec, "--store", filled.url)
    assert code == 0
    assert "FID[digits-cnn]" in output
    page = (filled.root / SweepPaths("tiny").report("index.html")).as_uri()
    assert f"page: {page}" in output
    code, output, _ = call("resume", "tiny", "--store", filled.url, "--json")
    assert code == 0
    found = json.loads(output)
    assert found["page"] == page
    assert len(found["results"]["cells"]) == 2


def test_run_is_refused_while_another_driver_is_at_work(call, spec, store):
    with held(store, SweepPaths("tiny")):
        code, _, errors = call("run", spec, "--store", store.url)
    assert code == 75
    assert "is being run by process" in errors


def test_report_in_every_format(call, filled):
    heads = {"terminal": "FID[digits-cnn]", "markdown": "| ", "csv": "row,", "latex": "\\begin{tab"}
    for form, head in heads.items():
        code, output, _ = call("report", "tiny", "--store", filled.url, "--format", form)
        assert code == 0
        assert head in output


def test_reduce_computes_the_same_scores_again(call, filled):
    def scores() -> list[bytes]:
        return [path.read_bytes() for path in sorted(filled.root.glob("tiny/*/results/*.json"))]

    before = scores()
    assert len(before) == 2
    for path in filled.root.glob("tiny/*/results/*.json"):
        path.unlink()
    code, _, _ = call("reduce", "tiny", "--store", filled.url)
    assert code == 0
    assert scores() == before


def test_reduce_leaves_out_what_is_incomplete(call, filled):
    next(filled.root.glob("tiny/*/images/**/*.json")).unlink()
    code, output, _ = call("reduce", "tiny", "--store", filled.url, "--json")
    assert code == 75
    assert len(json.loads(output)["left_out"]) == 1


def test_verify_finds_what_sizes_do_not_show(call, filled):
    code, output, _ = call("verify", "tiny", "--store", filled.url, "--json")
    assert code == 0
    assert json.loads(output)["intact"]
    damaged = next(filled.root.glob("tiny/*/images/**/*.parquet"))
    content = bytearray(damaged.read_bytes())
    for place in range(len(content) // 4, len(content) // 2):
        content[place] ^= 1
    damaged.write_bytes(content)
    code, output, _ = call("verify", "tiny", "--store", filled.url)
    assert code == 1
    assert "quarantined as" in output
    assert not damaged.exists()


def test_gc_says_what_it_removes(call, filled):
    orphan = next(filled.root.glob("tiny/*/images/*/")) / f"000000000000-000000000016-{'0' * 32}.parquet"
    orphan.write_bytes(b"x" * 2_000_000)
    os.utime(orphan, (0, 0))
    code, output, _ = call("gc", "--store", filled.url, "--dry-run")
    assert code == 0
    assert output.splitlines()[-1] == "1 files of 2.0 MB would be removed"
    code, output, _ = call("gc", "--store", filled.url, "--json")
    assert code == 0
    assert json.loads(output)["kinds"] == {"orphan": {"files": 1, "bytes": 2_000_000}}
    assert not orphan.exists()
    assert call("verify", "tiny", "--store", filled.url)[0] == 0


def test_help_names_every_command_with_a_whole_line(call):
    _, output, _ = call("--help")
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ") and line[2] != " "]
    assert set(main.commands) <= set(listed)
    assert "..." not in output.partition("COMMAND [ARGS]...")[2]
    assert max(map(len, output.splitlines())) <= 80


def test_catalog_lists_what_specs_can_name(call):
    code, output, _ = call("catalog", "--json")
    assert code == 0
    found = json.loads(output)
    assert "digits-demo" in found["specs"]
    assert "digits-ve" in found["models"]
    assert "digits-cnn" in found["extractors"]
    assert call("catalog")[0] == 0


def test_version_names_what_it_is_made_of(call):
    code, output, _ = call("version", "--json")
    assert code == 0
    assert {"sdesweep", "torch", "ray", "python"} <= json.loads(output).keys()
