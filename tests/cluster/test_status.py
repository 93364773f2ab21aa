"""`status --watch`: looks again until the sweep is complete, in every form."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from local_pool import LocalPool

from cluster.cli import main
from cluster.cli.status import _looks
from cluster.display import Silence
from cluster.run import run_sweep
from jobs.paths import SweepPaths
from jobs.storage.lease import held


def test_watching_ends_when_the_sweep_is_complete(store, make_sweep):
    calls = []
    closed = run_sweep(
        store,
        make_sweep(),
        LocalPool(store, calls.append).open,
        Silence(),
        ["run"],
        lambda: "closed" if len(calls) > 4 else "",
    )
    assert closed.closed

    def sleep(seconds: float) -> None:
        assert seconds == 7.0
        run_sweep(store, make_sweep(), LocalPool(store).open, Silence(), ["run"])

    looks = [found for found, _ in _looks(store, "tiny", 7.0, sleep)]
    assert [found.complete for found in looks] == [False, True]


def test_watching_goes_on_while_a_driver_is_at_work(filled):
    slept = []
    with held(filled, SweepPaths("tiny")) as lease:
        for found, _ in _looks(filled, "tiny", 1.0, slept.append):
            assert found.driver.state == "running"
            if len(slept) == 2:
                break
        assert lease.holder
    assert len(slept) == 2


def test_watching_as_data_prints_a_line_for_every_look(filled):
    result = CliRunner().invoke(main, ["status", "tiny", "--store", filled.url, "--watch", "--json"])
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    found = json.loads(line)
    assert found["complete"]
    assert found["hours"] == ""
    (use,) = found["last_run"]["nodes"].values()
    assert use["images"] == 80


def test_watching_without_a_terminal_prints_blocks(filled):
    result = CliRunner().invoke(main, ["status", "tiny", "--store", filled.url, "--watch", "--every", "0.5"])
    assert result.exit_code == 0
    assert "complete" in result.output
    assert "3/3" in result.output


def test_a_key_ends_watching_without_an_error(filled, monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cluster.status.status_of", interrupted)
    result = CliRunner().invoke(main, ["status", "tiny", "--store", filled.url, "--watch"])
    assert result.exit_code == 0


def test_status_says_when_the_window_opens(store, make_sweep):
    window = {"from": "00:00", "until": "00:05", "timezone": "UTC", "days": ["mon"]}
    sweep = make_sweep(window=window)
    run_sweep(store, sweep, LocalPool(store).open, Silence(), ["run"], lambda: "closed")
    result = CliRunner().invoke(main, ["status", "tiny", "--store", store.url])
    assert "window: 00:00 to 00:05 UTC, mon; " in result.output


@pytest.mark.parametrize("every", ["0", "-1", "soon"])
def test_intervals_that_are_none_are_refused(filled, every):
    result = CliRunner().invoke(main, ["status", "tiny", "--store", filled.url, "--watch", "--every", every])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("file", "command", "what"),
    [
        ("tiny/runs/20990101T000000-0.json", ["status", "tiny"], "record of a run"),
        ("tiny/runs/20990101T000000-0.json", ["events", "tiny"], "record of a run"),
        ("queues/night.json", ["queue", "show", "night"], "queue"),
    ],
)
def test_a_damaged_file_is_named_with_its_remedy(filled, call, file, command, what):
    filled.put(file, b'{"version": 2}')
    code, _, errors = call(*command, "--store", filled.url)
    assert code == 2
    assert f"{file} in the store {filled.url} is no {what} that this version knows" in errors
    assert "; remove it, " in errors
