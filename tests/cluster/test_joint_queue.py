"""Several sweeps in one queue: their order, pauses, what a worker keeps, and whole runs of them."""

from __future__ import annotations

import json
from collections import Counter, deque
from itertools import pairwise

import pytest
from driven import Notebook
from fake_pool import FakePool
from local_pool import Lines, LocalPool

from cluster import joint_observer
from cluster.account import Account, Tally
from cluster.driver import Driver
from cluster.joint_queue import JointQueue
from cluster.queue import ConfigurationWork, WorkQueue
from cluster.run import run_sweeps
from jobs.compute.assignment import Assignment
from jobs.paths import SweepPaths
from jobs.report import write_report
from jobs.scores.results import SweepResults
from jobs.storage import runrecord
from jobs.storage.queue_state import (
    QueueState,
    UnknownSweepError,
    begin_queue,
    queue_names,
    read_queue,
    write_queue,
)
from jobs.store_local import LocalStore


def work(name: str, shards: int, model: str = "m", priority: int = 0) -> ConfigurationWork:
    return ConfigurationWork(
        name, model, priority, 1.0, deque(range(8 * i, 8 * i + 8) for i in range(shards))
    )


def joint(**sweeps: list[ConfigurationWork]) -> JointQueue:
    return JointQueue({name: WorkQueue(name, works) for name, works in sweeps.items()})


def take(queue: JointQueue, worker: int = 0) -> str:
    assignment = queue.take(worker)
    assert assignment is not None
    return assignment.configuration


def test_sweeps_are_served_in_order_and_a_later_one_fills_the_tail():
    queue = joint(one=[work("a", 2)], two=[work("a", 1), work("b", 1)])
    assert [take(queue, worker) for worker in range(4)] == ["one/a", "one/a", "two/a", "two/b"]
    assert queue.take(0) is None


def test_priorities_between_configurations_hold_within_their_sweep():
    queue = joint(one=[work("low", 1), work("high", 1, priority=5)], two=[work("higher", 1, priority=9)])
    assert [take(queue) for _ in range(3)] == ["one/high", "one/low", "two/higher"]


def test_the_order_and_pauses_may_change_at_any_time():
    queue = joint(one=[work("a", 3)], two=[work("a", 3)])
    assert take(queue) == "one/a"
    queue.arrange(["two", "unknown", "one"], [])
    assert take(queue) == "two/a"
    queue.arrange(["two", "one"], ["two"])
    assert take(queue) == "one/a"
    queue.arrange(["two", "one"], ["two", "one"])
    assert queue.take(0) is None
    assert len(queue) == 3
    assert (queue.left("one"), queue.left("two")) == (1, 2)
    queue.arrange([], [])
    assert take(queue) == "two/a"


def test_what_comes_back_goes_to_its_own_sweep_although_configurations_have_one_fingerprint():
    queue = joint(one=[work("a", 1)], two=[work("a", 1)])
    first, second = queue.take(0), queue.take(1)
    assert first is not None
    assert second is not None
    assert (first.fingerprint, first.sweep, second.sweep) == (second.fingerprint, "one", "two")
    queue.add(second)
    assert queue.take(2) == second
    assert queue.take(2) is None


def test_a_worker_that_changes_sweeps_counts_no_more_in_the_first():
    queue = joint(one=[work("a", 10, "m1"), work("b", 8, "m2")], two=[work("c", 1)])
    assert take(queue, 0) == "one/a"
    queue.arrange(["two", "one"], [])
    assert take(queue, 0) == "two/c"
    assert take(queue, 1) == "one/a"  # 9 shards without a worker, against 8


def test_fair_by_remaining_work_and_models_reused_whatever_workers_do():
    """Shares follow the work; a worker changes models only where its own has nothing left."""
    shards = {"a": 60, "b": 30, "c": 6}
    works = [work(name, count, f"model {name}") for name, count in shards.items()]
    queue = joint(sweep=works)
    account = Account(
        {
            f"sweep/{name}": Tally(Assignment("reduce", "sweep", name, 0, 1), unfinished=count)
            for name, count in shards.items()
        }
    )
    pool = FakePool(16)
    assert Driver(pool, queue, account, Notebook(), pool.clock).run().complete
    first = Counter(done[0].fingerprint for done in pool.by_worker.values())
    assert first == {"a": 10, "b": 5, "c": 1}
    changes = sum(
        before.fingerprint != after.fingerprint
        for done in pool.by_worker.values()
        for before, after in pairwise(done)
        if before.kind == after.kind == "sample"
    )
    assert changes <= 16


def test_the_state_of_a_queue_is_kept_and_refuses_unknown_names(store):
    begun = begin_queue(store, "night", ["one", "two", "three"])
    assert begun == QueueState(name="night", sweeps=("one", "two", "three"))
    changed = begun.first(["three"]).pause(["one"])
    write_queue(store, changed)
    assert begin_queue(store, "night", ["one", "two", "three"]) == changed
    assert changed.sweeps == ("three", "one", "two")
    assert changed.pause([]).paused == ("three", "one", "two")
    assert changed.unpause([]).paused == ()
    assert begin_queue(store, "night", ["one", "four"]).sweeps == ("one", "four")
    assert queue_names(store) == ["night"]
    assert read_queue(store, "other") is None
    with pytest.raises(UnknownSweepError, match="no sweep 'five', but three, one, two"):
        changed.pause(["five"])


def test_several_sweeps_run_on_one_pool_and_each_leaves_its_own_results(store, make_sweep):
    """The second has the first one's very configurations: each sweep has its own images of them."""
    sweeps = [make_sweep(name="one"), make_sweep(name="two")]
    pool, lines = LocalPool(store), Lines()
    outcome = run_sweeps(store, sweeps, pool.open, lines, ["sdesweep", "run"], "one")
    assert outcome.exit_code == 0
    assert "one is done; two left" in lines.notes
    order = [assignment.sweep for assignment in pool.performed if assignment.kind == "sample"]
    assert order == ["one"] * 6 + ["two"] * 6
    for name in ("one", "two"):
        paths = SweepPaths(name)
        assert SweepResults.model_validate_json(store.get(paths.results)).complete
        (record,) = runrecord.runs(store, paths)
        assert (record.outcome, record.shards, record.shards_done, record.images) == ("done", 6, 6, 80)


def test_a_queue_is_resumed_by_its_name_and_shows_every_table(store, make_sweep, call):
    sweeps = [make_sweep(name="one"), make_sweep(name="two")]
    run_sweeps(store, sweeps, LocalPool(store).open, Lines(), ["sdesweep", "run"], "night")
    code, output, _ = call("resume", "night", "--store", store.url)
    assert code == 0
    assert output.count("FID[digits-cnn] against digits-train") == 2
    assert output.index("one:") < output.index("two:")
    code, output, _ = call("resume", "two", "one", "--store", store.url, "--json")
    found = json.loads(output)
    assert (code, found["queue"], [each["sweep"] for each in found["sweeps"]]) == (0, "two", ["two", "one"])


def test_a_change_of_the_queue_is_picked_up_while_it_runs(store, make_sweep, monkeypatch):
    monkeypatch.setattr(joint_observer, "LOOK_INTERVAL", 0.0)

    def change(assignment: Assignment) -> None:
        state = read_queue(store, "one")
        assert state is not None
        if len(pool.performed) == 3:
            write_queue(store, state.first(["two"]).pause(["one"]))
        elif assignment.sweep == "two" and state.paused and len(pool.performed) == 6:
            write_queue(store, state.unpause([]))

    pool, lines = LocalPool(store, change), Lines()
    sweeps = [make_sweep(name="one"), make_sweep(name="two")]
    outcome = run_sweeps(store, sweeps, pool.open, lines, ["sdesweep", "run"], "one")
    assert outcome.exit_code == 0
    assert "the queue was changed: two, one; paused: one" in lines.notes
    begun = list(dict.fromkeys(assignment.sweep for assignment in pool.performed))
    assert begun == ["one", "two"]
    finished = [note for note in lines.notes if "is done;" in note]
    assert finished == ["two is done; one left"]
    state = json.loads(store.get("queues/one.json"))
    assert (state["sweeps"], state["paused"]) == (["two", "one"], [])


def test_results_that_cannot_be_written_at_once_are_written_at_the_end(store, make_sweep, monkeypatch):
    failing = {"one"}

    def write(store: LocalStore, name: str) -> str:
        if name in failing:
            failing.remove(name)
            raise OSError(28, "No space left on device")
        return write_report(store, name)

    monkeypatch.setattr("jobs.report.write_report", write)
    sweeps, lines = [make_sweep(name="one"), make_sweep(name="two")], Lines()
    outcome = run_sweeps(store, sweeps, LocalPool(store).open, lines, ["sdesweep"], "one")
    assert outcome.exit_code == 0
    assert any("one is done; its results are written at the end" in note for note in lines.notes)
    for name in ("one", "two"):
        assert SweepResults.model_validate_json(store.get(SweepPaths(name).results)).complete
        assert runrecord.runs(store, SweepPaths(name))[0].outcome == "done"


def test_a_stopped_run_says_which_sweeps_are_done(store, make_sweep):
    def interrupt(assignment: Assignment) -> None:
        if assignment.sweep == "two" and assignment.kind == "sample":
            raise KeyboardInterrupt

    sweeps = [make_sweep(name="one"), make_sweep(name="two")]
    with pytest.raises(KeyboardInterrupt):
        run_sweeps(store, sweeps, LocalPool(store, interrupt).open, Lines(), ["sdesweep"], "one")
    outcomes = [runrecord.runs(store, SweepPaths(name))[0].outcome for name in ("one", "two")]
    assert outcomes == ["done", "incomplete"]
    again = run_sweeps(store, sweeps, LocalPool(store).open, Lines(), ["sdesweep"], "one")
    assert again.exit_code == 0
