"""Sweeps as jobs, without a cluster: ids, commands, how an end is judged, logs through lost connections."""

from __future__ import annotations

import asyncio
import json
import shlex
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from commands import invoke
from fake_head import answers, fake_head

from cluster import jobs_api
from cluster.checks import failures
from cluster.cli.submitting import follow_job
from cluster.head import Cluster
from cluster.jobs_api import Job, Jobs, JobsError
from cluster.submission import (
    MARK,
    STORE,
    entrypoint,
    jobs_of,
    judge,
    look_before,
    next_attempt,
    packages,
    records_of,
    submit,
    taken_ids,
)
from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.storage import runrecord
from jobs.storage.lease import LeaseHeldError, held
from jobs.storage.queue_state import read_queue


def job(name: str, status: str = "RUNNING", sweeps: str = "tiny", message: str = "") -> Job:
    return Job(name, status, message, {MARK: sweeps, STORE: "/store"}, 1.0, None)


class Server:
    """A job server that remembers."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)
        self.submitted: list[tuple[str, str, dict[str, object]]] = []

    def all(self) -> list[Job]:
        return self.jobs

    def submit(self, name: str, command: str, **options: object) -> None:
        self.submitted.append((name, command, options))


HEAD = Cluster(True, "2.60.0", "3.11.9", (), False, "/opt/venv/bin/python")


@pytest.mark.parametrize(
    ("taken", "number"),
    [
        ([], 1),
        (["tiny-a1", "tiny-a2"], 3),
        (["tiny-a9", "tiny-a10"], 11),
        (["tiny-a1-a7", "other-a5", "tiny-ax", "tiny-b-a3"], 1),
    ],
)
def test_an_id_is_never_used_twice(taken, number):
    assert next_attempt("tiny", taken) == number


def test_attempts_that_only_the_store_remembers_count(store, monkeypatch):
    """The cluster was started anew and has forgotten them."""
    config = {"metadata": {"job_submission_id": "tiny-a4"}}
    monkeypatch.setenv(runrecord.RAY_JOB, json.dumps(config))
    record = runrecord.begin(store, SweepPaths("tiny"), ["sdesweep"])
    assert record.job == "tiny-a4"
    assert taken_ids(Server(job("tiny-a1")), store, ["tiny"]) == {"tiny-a1", "tiny-a4"}
    assert records_of(store, job("tiny-a4")) == [record]
    assert records_of(store, job("tiny-a1")) == []


def test_what_is_submitted_is_code_a_command_and_names(store, make_sweep):
    sweeps = [make_sweep(name=name) for name in ("one", "two")]
    sweeps = [
        _with_driver(sweep, {"cpus": 2.0, "memory": 0.5, "labels": [{"zone": "a"}]}) for sweep in sweeps
    ]
    server = Server(job("night-a1"))
    assert submit(server, HEAD, store, sweeps, "night", ["--until", "07:00"]) == "night-a2"
    ((name, command, options),) = server.submitted
    assert name == "night-a2"
    words = shlex.split(command)
    assert words[:6] == ["exec", "/opt/venv/bin/python", "-m", "cluster.cli", "resume", "one"]
    assert words[-4:] == ["--queue", "night", "--until", "07:00"]
    assert words[words.index("--store") + 1] == store.url
    assert options["metadata"] == {MARK: "one two", STORE: store.url}
    assert (options["cpus"], options["memory"], options["labels"]) == (2.0, 2**29, {"zone": "a"})
    state = read_queue(store, "night")
    assert state is not None
    assert state.sweeps == ("one", "two")
    for sweep in sweeps:  # the store has all that the driver needs
        paths = SweepPaths(sweep.name)
        assert Sweep.from_json(store.get(paths.resolved)).configurations == sweep.configurations
        assert all(store.size(f"models/{digest}") for digest in sweep.files)


def _with_driver(sweep: Sweep, driver: dict[str, object]) -> Sweep:
    resources = type(sweep.resources).model_validate({"driver": driver})
    return sweep.model_copy(update={"resources": resources})


def test_only_code_of_this_project_is_uploaded(tmp_path):
    """As Ray packs it: no weights, no compiled files, but all that the code reads of its own."""
    from ray._private.runtime_env.packaging import create_package

    names: list[str] = []
    for number, path in enumerate(packages()):
        target = tmp_path / f"{number}.zip"
        create_package(
            str(path), target, include_gitignore=True, include_parent_dir=True, excludes=jobs_api.EXCLUDED
        )
        assert target.stat().st_size < 2**20
        names += zipfile.ZipFile(target).namelist()
    assert {name.partition("/")[0] for name in names} == {"cluster", "fid", "jobs", "sdesampling"}
    assert not [name for name in names if name.endswith((".safetensors", ".pyc", ".pth"))]
    assert {"cluster/cli/__main__.py", "jobs/catalog/digits-demo.yaml", "jobs/report/page.html.j2"} <= {
        *names
    }


def test_a_sweep_that_is_at_work_is_not_submitted_again(store, make_sweep):
    server = Server()
    with held(store, SweepPaths("tiny")), pytest.raises(LeaseHeldError, match="is being run by process"):
        submit(server, HEAD, store, [make_sweep()], "tiny", [])
    assert server.submitted == []


def test_a_sweep_whose_job_has_not_begun_yet_is_not_submitted_again(store, make_sweep):
    """Its driver holds no lease so far."""
    waiting = Job("tiny-a1", "PENDING", "", {MARK: "other tiny", STORE: store.url}, None, None)
    server = Server(waiting)
    with pytest.raises(
        JobsError, match=r"tiny-a1 is not over there \(PENDING\) and does tiny.*sdesweep stop"
    ):
        submit(server, HEAD, store, [make_sweep()], "tiny", [])
    assert not server.submitted
    server.jobs = [replace(waiting, status="STOPPED"), replace(waiting, id="x-a1", metadata={MARK: "tiny"})]
    assert submit(server, HEAD, store, [make_sweep()], "tiny", []) == "tiny-a2"


def test_names_with_blanks_and_quotes_reach_the_driver_whole():
    command = entrypoint("/a b/python", ["one"], "/runs; rm -rf 'x'", "night", [])
    assert shlex.split(command)[1] == "/a b/python"
    assert "/runs; rm -rf 'x'" in shlex.split(command)


def test_jobs_of_a_sweep_a_queue_or_an_id():
    jobs = [job("night-a1", sweeps="one two"), job("two-a1", sweeps="two"), job("x")]
    foreign = Job("one-a1", "RUNNING", "", {}, None, None)  # somebody else's
    server = Server(*jobs, foreign)
    assert jobs_of(server, "two") == jobs[:2]
    assert jobs_of(server, "night") == jobs[:1]
    assert jobs_of(server, "night-a1") == jobs[:1]
    assert jobs_of(server, "nobody") == []


@pytest.mark.parametrize(
    ("status", "outcomes", "code", "words"),
    [
        ("SUCCEEDED", ["done"], 0, "tiny done"),
        ("SUCCEEDED", ["incomplete"], 75, "tiny incomplete"),
        ("SUCCEEDED", ["done", "failed"], 1, "tiny done, tiny1 failed"),
        ("FAILED", ["failed"], 1, "tiny failed"),
        ("STOPPED", ["incomplete"], 75, "ended as STOPPED"),
        ("FAILED", ["running"], 75, "its driver was killed in the middle of it"),
        ("FAILED", [], 75, "before its driver began: no module named cluster"),
    ],
)
def test_an_end_is_judged_from_the_job_and_the_run_records(store, status, outcomes, code, words):
    records = []
    for number, outcome in enumerate(outcomes):
        record = runrecord.begin(store, SweepPaths(f"tiny{number or ''}"), ["sdesweep"])
        record.outcome = outcome
        records.append(record)
    ending = judge(job("tiny-a1", status, message="traceback\nno module named cluster"), records)
    assert ending.exit_code == code
    assert words in ending.text


# --- following ----------------------------------------------------------------------------------------------


class Client:
    """Ray's client, for a job that prints five lines; each call of the tail ends as it is told."""

    LINES = tuple(f"line {number}\n" for number in range(5))

    def __init__(self, *tails: int | Exception, status: tuple[str | Exception, ...]) -> None:
        self.tails = list(tails)
        self.statuses = list(status)

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        end = self.tails.pop(0)
        if isinstance(end, Exception):
            raise end
        for line in self.LINES[: abs(end)]:
            yield line
        if end < 0:
            await asyncio.sleep(3600)

    def get_job_logs(self, name: str) -> str:
        return "".join(self.LINES)

    def get_job_info(self, name: str) -> object:
        status = self.statuses.pop(0)
        if isinstance(status, Exception):
            raise status

        class Details:
            submission_id, message, metadata, start_time, end_time = name, "", {}, 1, None
            value = status

        Details.status = Details
        return Details


def follow(client: Client, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str], Job]:
    monkeypatch.setattr(jobs_api, "RETRY", 0.0)
    monkeypatch.setattr(jobs_api, "TAIL_SILENCE", 0.2)
    server = Jobs.__new__(Jobs)
    server._client = client
    written, notes = [], []
    ended = server.follow("tiny-a1", written.append, notes.append)
    return "".join(written), notes, ended


def test_of_a_failure_within_the_head_the_reason_is_told():
    """As Ray answers the second of two that submit the same id at the same moment."""
    text = (
        "Request failed with status code 500: Traceback (most recent call last):\n"
        '  File "job_head.py", line 463, in submit_job\n'
        "ValueError: Job with submission_id tiny-a1 already exists.\n."
    )

    def refuse() -> None:
        raise RuntimeError(text)

    with pytest.raises(JobsError, match=r"^ValueError: Job with submission_id tiny-a1 already exists"):
        jobs_api._asked(refuse)


@pytest.mark.parametrize(
    "tails",
    [(5,), (2, 5), (0, 3, 3, 4), (2, RuntimeError("closed"), 5), (-3, 5), (ConnectionResetError("x"), 1)],
    ids=str,
)
def test_every_line_is_shown_once_however_often_the_connection_ends(tails, monkeypatch):
    status = ("RUNNING",) * (len(tails) - 1) + ("SUCCEEDED",)
    text, notes, ended = follow(Client(*tails, status=status), monkeypatch)
    assert text == "".join(Client.LINES)
    assert notes == []
    assert ended.status == "SUCCEEDED"


def test_a_head_that_is_away_for_a_while_is_asked_again_and_that_is_said_once(monkeypatch):
    away = ConnectionError("Failed to connect to Ray")
    client = Client(2, away, away, 5, status=("RUNNING", away, away, "FAILED"))
    text, notes, ended = follow(client, monkeypatch)
    assert text == "".join(Client.LINES)
    assert len(notes) == 1
    assert "Failed to connect to Ray" in notes[0]
    assert ended.status == "FAILED"


def test_a_head_that_stays_away_ends_the_following_not_the_job(monkeypatch):
    monkeypatch.setattr(jobs_api, "PATIENCE", -1.0)
    away = ConnectionError("Failed to connect to Ray")
    with pytest.raises(JobsError, match="Failed to connect"):
        follow(Client(away, status=(away,)), monkeypatch)


# --- the command --------------------------------------------------------------------------------------------


def call(*arguments: object) -> tuple[int, str]:
    result = invoke(*arguments)
    return result.exit_code, result.output


@pytest.fixture
def no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_token")
def test_a_failed_check_begins_nothing_and_says_what_to_do(spec, store, make_sweep, monkeypatch):
    with fake_head(answers()) as address:
        before = look_before(store, [make_sweep()], address, None, False)
        assert not failures(before.checks)  # it was reached on loopback
    with fake_head(answers(dashboard="0.0.0.0:8265")) as address:  # where others reach it too
        assert not failures(look_before(store, [make_sweep()], address, None, True).checks)
        code, output = call("submit", spec, "--store", store.url, "--address", address)
        assert code == 2
        assert "failed: authentication: the head takes jobs from anybody" in output
        assert "--allow-unauthenticated" in output
        code, output = call("submit", spec, "--store", store.url, "--address", address, "--json")
        assert code == 2
        failed = [check["name"] for check in json.loads(output)["checks"] if check["verdict"] == "failed"]
        assert failed == ["authentication"]
    assert not list(store.list("tiny"))


@pytest.mark.usefixtures("no_token")
def test_auto_asks_for_the_gpus_that_the_cluster_has(store, make_sweep):
    nodes = ({"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0})
    with fake_head(answers(nodes=nodes)) as address:
        found = look_before(store, [make_sweep()], address, None, False).checks
        fixed = look_before(store, [make_sweep(**{"resources.gpus": 0})], address, None, False).checks
    (auto,) = (check.found for check in found if check.name == "resources")
    (cpus,) = (check.found for check in fixed if check.name == "resources")
    assert auto.startswith("room for 2 workers that take 1 CPUs, 1 GPUs;")
    assert cpus.startswith("room for 16 workers that take 1 CPUs;")


@pytest.mark.usefixtures("no_token")
def test_what_was_asked_of_the_run_reaches_the_driver(spec, store, monkeypatch):
    server = Server(
        job("large-a2", sweeps="large"), job("old-a1", "SUCCEEDED"), Job("x", "RUNNING", "", {}, 1, None)
    )
    server.address = "http://127.0.0.1:8265"
    monkeypatch.setattr(jobs_api, "Jobs", lambda *arguments: server)
    asked = ("--workers", "3", "--log-format", "json", "--wait", "--until", "2999-01-01T00:00+00:00")
    with fake_head(answers()) as address:
        code, output = call("submit", spec, "--store", store.url, "--address", address, *asked)
    assert code == 0, output
    assert "warning: company: large-a2 at work there: workers of this job begin where those leave" in output
    ((_, command, _),) = server.submitted
    passed = shlex.split(command.partition("--queue tiny ")[2])
    assert passed == [
        *("--workers", "3", "--until", "2999-01-01T00:00:00+00:00", "--wait", "--log-format", "json")
    ]


@pytest.mark.usefixtures("no_token")
def test_doctor_ends_with_one_when_something_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.machine_checks.ray_processes", list)
    code, output = call("doctor", "--store", tmp_path / "store", "--json")
    assert (code, json.loads(output)["failed"]) == (0, 0)
    with fake_head(answers(dashboard="0.0.0.0:8265"), "secret") as address:
        code, output = call("doctor", "--address", address)
    assert code == 1
    assert "failed: access: the head asks for a token; there is none" in output
    assert "copy the head's token to ~/.ray/auth_token" in output


def test_ctrl_c_while_following_leaves_the_job_alone(store, capsys):
    class Interrupted(Server):
        address = "http://127.0.0.1:8265"

        def follow(self, *arguments: object) -> Job:
            raise KeyboardInterrupt

    server = Interrupted()
    assert follow_job(server, store, job("tiny-a1"), as_json=False) == 75
    assert "tiny-a1 goes on: `sdesweep stop tiny-a1" in capsys.readouterr().err


def test_the_queue_command_shows_reorders_and_pauses(store, make_sweep):
    from jobs.storage.queue_state import begin_queue

    begin_queue(store, "night", ["one", "two", "three"])
    at = ("--store", store.url)
    assert call("queue", "first", "night", "three", *at)[0] == 0
    code, output = call("queue", "pause", "night", "one", *at, "--json")
    assert json.loads(output)["paused"] == ["one"]
    code, output = call("queue", "show", *at)
    assert code == 0
    assert output.splitlines() == ["night:", "  1. three", "  2. one (paused)", "  3. two"]
    assert json.loads(call("queue", "continue", "night", *at, "--json")[1])["paused"] == []
    code, output = call("queue", "first", "night", "four", *at)
    assert code == 2
    assert "holds no sweep 'four'" in output
    code, output = call("queue", "show", "day", *at)
    assert code == 2
    assert "no queue 'day'" in output


def test_sweeps_that_cannot_share_workers_are_refused(spec, store, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(spec.read_text().replace("name: tiny", "name: other\nresources: {cpus: 2}"))
    code, output = call("run", spec, other, "--store", store.url)
    assert code == 2
    assert "resources.cpus differs between tiny and other" in output
    code, output = call("run", spec, spec, "--store", store.url)
    assert code == 2
    assert "two specs have one name" in output
    code, output = call("run", spec, "--store", store.url, "--address", "http://127.0.0.1:8265")
    assert code == 2
    assert "sdesweep submit" in output
