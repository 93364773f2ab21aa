"""JSON logs: every line can be read by a machine and says sweep, configuration and shard."""

from __future__ import annotations

import json
import logging

from click.testing import CliRunner
from local_pool import LocalPool

from cluster.account import Account, Running, Tally
from cluster.cli import main
from cluster.logs import JsonLines
from cluster.pool import Event, Failed
from cluster.prepare import Goal
from cluster.run import run_sweep
from jobs.compute.assignment import Assignment

KEYS = {"time", "level", "sweep", "configuration", "shard", "event", "message"}


class FailingOnce(LocalPool):
    """The first shard fails at its first attempt."""

    failed = False

    def wait(self, timeout: float) -> list[Event]:
        if not self.failed and self._waiting and self._waiting[0].kind == "sample":
            self.failed = True
            return [Failed(0, self._waiting.pop(), "code", "ValueError: injected", "Traceback: injected")]
        return super().wait(timeout)


def lines_of(written: list[str]) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in written]
    assert all(line.keys() >= KEYS for line in lines)
    return lines


def test_a_whole_run_is_told_in_lines(store, make_sweep):
    written: list[str] = []
    with JsonLines(written.append, "tiny") as log:
        run_sweep(store, make_sweep(), LocalPool(store).open, log, ["run"])
    lines = lines_of(written)
    assert {line["sweep"] for line in lines} == {"tiny"}
    events = [line["event"] for line in lines]
    assert events[0] == "began"
    assert events[-1] == "ended"
    assert events.count("scored") == 2
    assert "joined" in events
    scored = {line["configuration"] for line in lines if line["event"] == "scored"}
    assert scored == {item.name for item in make_sweep().configurations}
    assert logging.getLogger().handlers.count(log) == 0


def test_a_failure_names_its_shard_and_is_a_warning(store, make_sweep):
    written: list[str] = []
    run_sweep(store, make_sweep(), FailingOnce(store).open, JsonLines(written.append, "tiny"), ["run"])
    (failed,) = [line for line in lines_of(written) if line["event"] == "failed"]
    assert failed["level"] == "warning"
    assert failed["shard"] == "[0, 16)"
    assert failed["cause"] == "code"
    assert failed["configuration"]


def test_libraries_log_in_the_same_form():
    written: list[str] = []
    with JsonLines(written.append, "tiny"):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            logging.getLogger("jobs.storage.lease").warning("no heartbeat in epoch %d", 3, exc_info=True)
    (line,) = lines_of(written)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "log", "jobs.storage.lease")
    assert line["message"] == "no heartbeat in epoch 3"
    assert "No space left on device" in str(line["traceback"])


def test_progress_comes_as_numbers():
    now = [0.0]
    written: list[str] = []
    log = JsonLines(written.append, "s", lambda: now[0])
    log.begin({"s/a": Goal("a", samples=100, done=0, shards=10, shards_done=0, evaluations=1)})
    account = Account({"s/a": Tally(None, unfinished=10)})
    account.running[0] = Running(Assignment("sample", "s", "a", 0, 10), 0.0)
    for second in range(25):
        now[0] = float(second)
        log.tick(account)
    lines = lines_of(written)
    assert [line["event"] for line in lines] == ["progress"] * 2
    assert (lines[0]["shards"], lines[0]["samples"]) == (10, 100)


def test_the_command_keeps_its_result_apart_from_the_log(filled, spec):
    command = ["run", str(spec), "--store", filled.url, "--json", "--log-format", "json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["exit_code"] == 0
    lines = lines_of(result.stderr.splitlines())
    assert [line["event"] for line in lines] == ["began", "ended"]


def test_the_environment_can_ask_for_it(filled, spec):
    command = ["run", str(spec), "--store", filled.url]
    result = CliRunner().invoke(main, command, env={"SDESWEEP_LOG_FORMAT": "json"})
    assert [line["event"] for line in lines_of(result.stderr.splitlines())] == ["began", "ended"]
