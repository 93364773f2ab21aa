"""The night's story: what belongs together is one sentence, and a killed driver is told of too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from driven import Run
from fake_pool import FakePool, Fault
from local_pool import LocalPool

from cluster.cli import main
from cluster.display import Silence
from cluster.pool import Event as PoolEvent
from cluster.pool import Lost, NodeJoined, NodeLost, Ready
from cluster.run import run_sweep
from cluster.story import story
from jobs.compute.assignment import Assignment
from jobs.paths import SweepPaths
from jobs.storage import runrecord
from jobs.storage.events import Event, attempts_of, event_log
from jobs.storage.lease import acquire

PATHS = SweepPaths("tiny")
NIGHT = datetime(2026, 11, 21, 1, 14, tzinfo=UTC)


class LosingPool(LocalPool):
    """Loses its worker, then its machine, at the second shard."""

    losses = 0

    def wait(self, timeout: float) -> list[PoolEvent]:
        if not self._started:
            self._started = True
            return [NodeJoined("gpu-03", "1 GPUs"), Ready(0, "gpu-03, process 7", "gpu-03", "NVIDIA A100")]
        if not self.losses and self._waiting and self._waiting[0].first == 16:
            self.losses = 1
            self._again = False
            return [Lost(0, self._waiting.pop(), "its process ended"), NodeLost("gpu-03")]
        if self.losses == 1:
            self.losses = 2
            return [Ready(0, "gpu-07, process 9", "gpu-07", "NVIDIA A100")]
        return super().wait(timeout)


@pytest.fixture
def told(store, make_sweep) -> list[str]:
    pool = LosingPool(store)
    assert run_sweep(store, make_sweep(), pool.open, Silence(), ["run"]).complete
    return [sentence.text for sentence in story(store, PATHS)]


def test_a_lost_machine_is_one_sentence_with_its_shards_and_what_they_cost(told):
    (lost,) = [text for text in told if "lost" in text]
    assert lost.startswith("node gpu-03 lost with 1 worker, 1 shard re-queued, 0 s of work lost")


def test_the_story_begins_and_ends(told):
    assert told[0].startswith("run began on ")
    assert told[0].endswith("6 shards left")
    assert "1 worker ready on gpu-03 (NVIDIA A100)" in told
    assert "1 worker ready on gpu-07 (NVIDIA A100)" in told
    assert told[-1] == "run ended done: 6 of 6 shards, 80 images"


def test_every_attempt_is_kept_with_its_machine(told, store):
    (record,) = runrecord.runs(store, PATHS)
    attempts = list(attempts_of(store, PATHS, record.run_id))
    assert [each.how for each in attempts].count("finished") == 9  # 6 shards, a reference, 2 scores
    (lost,) = [each for each in attempts if each.how == "lost"]
    assert (lost.first, lost.node, lost.device, lost.cause) == (16, "gpu-03", "NVIDIA A100", "machine")
    assert record.attempts == {"finished": 9, "lost": 1}
    assert record.nodes["gpu-03"].workers_lost == 1
    assert record.nodes["gpu-07"].device == "NVIDIA A100"
    assert sum(use.images for use in record.nodes.values()) == record.images == 80
    assert record.nodes["gpu-03"].seconds > 0


def log_of(store, *events: tuple[float, dict[str, object]]) -> list[str]:
    """Sentences of a run with these events, each so many seconds after 01:14."""
    record = runrecord.begin(store, PATHS, ["run"])
    log = event_log(store, PATHS, record.run_id)
    for seconds, fields in events:
        log.add(Event.model_validate({"at": NIGHT + timedelta(seconds=seconds), "text": "", **fields}))
    log.flush()
    runrecord.end(store, PATHS, record, "done", 0)
    return [sentence.text for sentence in story(store, PATHS)]


def lost(worker: int, node: str, seconds_lost: float, requeued: int = 1) -> dict[str, object]:
    return {
        "kind": "lost",
        "worker": worker,
        "node": node,
        "requeued": requeued,
        "seconds_lost": seconds_lost,
    }


def test_workers_of_a_machine_are_one_sentence_and_those_of_another_are_not(store):
    told = log_of(
        store,
        (0, lost(1, "gpu-03", 20.5)),
        (1, lost(2, "gpu-03", 20.5)),
        (1, lost(8, "gpu-04", 5.0)),
        (2, lost(3, "gpu-03", 0.0, requeued=0)),
        (19, {"kind": "node_lost", "node": "gpu-03"}),
        (300, lost(9, "gpu-04", 5.0)),
    )
    assert told == [
        "node gpu-03 lost with 3 workers, 2 shards re-queued, 41 s of work lost",
        "1 worker lost on gpu-04, 1 shard re-queued, 5 s of work lost",
        "1 worker lost on gpu-04, 1 shard re-queued, 5 s of work lost",
    ]


def test_workers_that_come_up_together_are_one_sentence(store):
    def joined(worker: int, node: str, device: str) -> dict[str, object]:
        return {"kind": "joined", "worker": worker, "node": node, "device": device}

    told = log_of(
        store,
        (0, joined(0, "a", "NVIDIA A100")),
        (1, joined(1, "b", "NVIDIA L4")),
        (2, lost(0, "a", 1.0)),
        (8, joined(0, "b", "NVIDIA L4")),
    )
    assert told[0] == "2 workers ready on 2 machines (NVIDIA A100, NVIDIA L4)"
    assert told[2] == "1 worker ready on b (NVIDIA L4)"


def test_a_killed_driver_is_told_of_once_somebody_else_is_sure(store):
    record = runrecord.begin(store, PATHS, ["run"])
    record.under_way, record.seconds_at_risk = 3, 41.0
    runrecord.save(store, PATHS, record)
    lease = acquire(store, PATHS)
    assert story(store, PATHS) == []  # it is at work
    lease.release()
    (sentence,) = story(store, PATHS)
    assert sentence.kind == "killed"
    assert sentence.text.endswith("it was killed with 3 shards under way, about 41 s of work lost")


def test_lost_work_is_counted_from_the_last_snapshot():
    """The pool says at a quarter of a shard that 3 s are not saved; the worker dies at half of it."""
    from cluster.pool import Advanced

    class Reporting(FakePool):
        def wait(self, timeout: float) -> list[PoolEvent]:
            return [
                Advanced(event.worker, event.images, event.evaluations, unsaved=3.0)
                if isinstance(event, Advanced)
                else event
                for event in super().wait(timeout)
            ]

    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("lost") if attempt == 0 and assignment.kind == "sample" else None

    run = Run(Reporting(1, seconds=lambda worker, assignment: 100.0, fault=fault), {"a": 1})
    run()
    (incident,) = [each for each in run.notebook.incidents if each.kind == "lost"]
    assert incident.seconds_lost == pytest.approx(3.0 + 25.0, abs=1.5)
    assert incident.requeued == 1
    (attempt,) = [each for each in run.notebook.attempts if each.how == "lost"]
    assert attempt.seconds == pytest.approx(50.0, abs=1.5)


def test_the_command_tells_it_in_sentences_and_as_data(told, store):
    result = CliRunner().invoke(main, ["events", "tiny", "--store", store.url])
    assert result.exit_code == 0
    day, first, *_ = result.output.splitlines()
    assert datetime.now().strftime("%a %d %b %Y") in day
    assert first[5:].startswith(" run began on")
    result = CliRunner().invoke(main, ["events", "tiny", "--store", store.url, "--run", "last", "--json"])
    sentences = json.loads(result.output)["sentences"]
    assert [sentence["text"] for sentence in sentences] == told
    (lost,) = [sentence for sentence in sentences if sentence["kind"] == "node_lost"]
    assert {event["kind"] for event in lost["events"]} == {"lost", "node_lost"}
    result = CliRunner().invoke(main, ["events", "tiny", "--store", store.url, "--attempts", "--json"])
    assert len(json.loads(result.output)["attempts"]) == 10
    result = CliRunner().invoke(main, ["events", "tiny", "--store", store.url, "--attempts"])
    assert "worker 0 on gpu-03 (NVIDIA A100): lost, machine after" in result.output


def test_a_run_that_is_not_there_is_refused(told, store):
    result = CliRunner().invoke(main, ["events", "tiny", "--store", store.url, "--run", "2020"])
    assert result.exit_code == 2
    assert "there are 20" in result.stderr


def test_logs_survive_a_kill_of_the_driver(store, make_sweep):
    """What was told up to the kill is there, whole; nothing was written at the end."""

    class Killed(BaseException):
        pass

    def kill(assignment: Assignment) -> None:
        if assignment.first == 16:
            raise Killed

    import cluster.run_observer as observer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observer.RunObserver, "end", lambda self, outcome: None)
        with pytest.raises(Killed):
            run_sweep(store, make_sweep(), LocalPool(store, kill).open, Silence(), ["run"])
    told = [sentence.text for sentence in story(store, PATHS)]
    assert told[0].startswith("run began on")
    assert "it was killed" in told[-1]
