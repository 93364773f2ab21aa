"""The driver's loop against a pool in simulated time: what is promised whatever happens to workers."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from driven import SHARD, Run, first_attempts, reduction, sample, shard
from fake_pool import FakePool, Fault

from cluster.driver import BACKOFF
from cluster.pool import PoolError
from cluster.retries import HOPELESS, MAX_DIVERGED, MAX_FAILURES, MAX_LOSSES, MAX_REPAIRS
from jobs.compute.assignment import Assignment


def test_everything_is_done_once_and_each_configuration_reduced_once():
    run = Run(FakePool(3), {"a": 10, "b": 5})
    outcome = run()
    assert outcome.complete
    assert outcome.exit_code == 0
    assert run.done() == run.everything
    assert run.done("reduce") == {"a": [0], "b": [0]}
    assert run.account.tallies["sweep/a"].images == 10 * SHARD


def test_a_reduction_follows_its_last_shard():
    run = Run(FakePool(2), {"a": 4, "b": 4})
    run()
    order = [receipt.assignment for receipt in run.notebook.receipts]
    for name in "ab":
        last_shard = max(order.index(sample(name, number)) for number in range(4))
        reduction = next(
            i for i, item in enumerate(order) if item.kind == "reduce" and item.fingerprint == name
        )
        assert reduction > last_shard


def test_a_worker_keeps_the_configuration_it_holds():
    pool = FakePool(2)
    Run(pool, {"a": 20, "b": 20})()
    for assignments in pool.by_worker.values():
        names = [item.fingerprint for item in assignments if item.kind == "sample"]
        switches = sum(one != other for one, other in pairwise(names))
        assert switches <= 1


@pytest.mark.parametrize("kind", ["code", "storage", "lost"])
def test_a_shard_that_fails_once_is_done_by_another_try(kind):
    pool = FakePool(2, fault=first_attempts(a3=Fault(kind), b0=Fault(kind)))
    run = Run(pool, {"a": 6, "b": 6})
    assert run().exit_code == 0
    assert run.done() == run.everything
    cause = "machine" if kind == "lost" else kind
    assert run.account.retries == {cause: 2}


def test_code_that_fails_three_times_sets_its_shard_aside_and_the_rest_goes_on():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("code") if assignment == sample("a", 2) else None

    run = Run(FakePool(2, fault=fault), {"a": 6, "b": 6})
    outcome = run()
    assert outcome.exit_code == 1
    assert outcome.complete
    assert run.pool.attempts[sample("a", 2)] == MAX_FAILURES
    assert run.notebook.aside == [(sample("a", 2), MAX_FAILURES, "Traceback: injected")]
    assert run.done() == {"a": [0, 1, 3, 4, 5], "b": list(range(6))}
    assert run.done("reduce") == {"a": [], "b": [0]}  # no score of an incomplete configuration


def test_a_sampler_that_diverges_is_tried_once_more_only():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("diverged") if assignment == sample("a", 2) else None

    run = Run(FakePool(2, fault=fault), {"a": 6})
    assert run().exit_code == 1
    assert run.pool.attempts[sample("a", 2)] == MAX_DIVERGED == 2


@pytest.mark.parametrize("workers", [1, 4])
def test_a_configuration_that_always_fails_is_set_aside_and_the_rest_goes_on(workers):
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("code") if assignment.fingerprint == "a" else None

    run = Run(FakePool(workers, fault=fault), {"a": 500, "b": 20})
    outcome = run()
    assert (outcome.exit_code, outcome.failed) == (1, 500)
    assert run.done()["b"] == list(range(20))
    assert run.done("reduce") == {"a": [], "b": [0]}
    tally = run.account.tallies["sweep/a"]
    assert (tally.unfinished, tally.failed, tally.done) == (0, 500, 0)
    tried = sum(count for item, count in run.pool.attempts.items() if item.fingerprint == "a")
    assert tried <= MAX_FAILURES * (HOPELESS + workers)
    assert any("set aside untried" in note for note in run.notebook.notes)


def test_a_configuration_that_fails_now_and_then_is_not_given_up():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("code") if assignment.fingerprint == "a" and assignment.first // SHARD % 2 else None

    run = Run(FakePool(2, fault=fault), {"a": 20})
    assert run().failed == 10
    assert run.done()["a"] == list(range(0, 20, 2))


def test_damage_that_a_reduction_meets_is_made_again_in_the_same_run():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("damage") if assignment.kind == "reduce" and attempt == 0 else None

    run = Run(FakePool(2, fault=fault), {"a": 4}, left=[shard(1), shard(3)])
    assert run().exit_code == 0
    assert run.done()["a"] == [0, 1, 1, 2, 3, 3]
    assert run.done("reference") == {"a": [0]}
    assert run.done("reduce") == {"a": [0]}
    order = [receipt.assignment for receipt in run.notebook.receipts]
    assert order[-1] == reduction("a")


def test_damage_that_comes_back_sets_the_reduction_aside():
    run = Run(
        FakePool(2, fault=lambda worker, item, attempt: Fault("damage") if item.kind == "reduce" else None),
        {"a": 4},
        left=[shard(1)],
    )
    assert run().exit_code == 1
    assert run.pool.attempts[reduction("a")] == MAX_REPAIRS + 1


def test_storage_that_fails_while_gaps_are_planned_delays_and_heals():
    run = Run(FakePool(1, fault=first_attempts(a0=Fault("overlap"))), {"a": 3}, [range(4, 8)])
    answers = iter([OSError("storage is away")])
    replan = run.notebook.replan

    def flaky(assignment: Assignment) -> list[range]:
        for error in answers:
            raise error
        return replan(assignment)

    run.notebook.replan = flaky
    run.pool._fault = lambda worker, item, attempt: (
        Fault("overlap") if item == sample("a", 0) and attempt < 2 else None
    )
    assert run().exit_code == 0
    assert run.pool.now > BACKOFF[0]
    assert run.done("reduce") == {"a": [0]}


def test_losses_do_not_count_as_failures_of_the_code():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("lost") if assignment == sample("a", 2) and attempt < MAX_LOSSES - 1 else None

    run = Run(FakePool(2, fault=fault), {"a": 4})
    assert run().exit_code == 0
    assert run.account.retries == {"machine": MAX_LOSSES - 1}


def test_a_shard_that_takes_every_worker_down_is_set_aside():
    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        return Fault("lost") if assignment == sample("a", 2) else None

    run = Run(FakePool(2, fault=fault), {"a": 4})
    assert run().exit_code == 1
    (aside,) = run.notebook.aside
    assert aside[1] == MAX_LOSSES
    assert "last line: of a log" in aside[2]


def test_a_lost_worker_is_named_with_its_shard_and_its_end():
    run = Run(FakePool(2, fault=first_attempts(a1=Fault("lost"))), {"a": 4})
    run()
    (note,) = run.notebook.notes
    assert note == f"worker lost during {sample('a', 1).name}: killed by signal 9; last line: of a log"


def test_workers_that_die_before_they_take_anything_end_the_run():
    class Deadly(FakePool):
        def wait(self, timeout):
            from cluster.pool import Lost

            self.now += 1.0
            return [Lost(0, None, "ImportError: no module")]

    run = Run(Deadly(1), {"a": 1})
    with pytest.raises(PoolError, match="ImportError: no module"):
        run()


def test_storage_that_fails_once_delays_and_heals():
    run = Run(FakePool(2, fault=first_attempts(a0=Fault("storage"))), {"a": 4})
    assert run().exit_code == 0
    assert run.pool.now > BACKOFF[0]


def test_storage_that_keeps_failing_ends_incomplete_with_a_reason():
    pool = FakePool(4, fault=lambda worker, assignment, attempt: Fault("storage"))
    outcome = Run(pool, {"a": 8})()
    assert outcome.exit_code == 75
    assert "storage keeps failing" in outcome.reason
    assert sum(BACKOFF) <= pool.now < sum(BACKOFF) + 60


def test_a_range_that_was_partly_done_meanwhile_is_planned_again():
    left = [range(4, 8)]
    run = Run(FakePool(2, fault=first_attempts(a0=Fault("overlap"))), {"a": 3}, left)
    assert run().exit_code == 0
    finished = {(r.assignment.first, r.assignment.last) for r in run.notebook.receipts}
    assert finished == {(4, 8), (8, 16), (16, 24), (0, 1000)}
    assert run.done("reduce") == {"a": [0]}


def test_a_range_that_was_wholly_done_meanwhile_still_brings_the_reduction():
    run = Run(FakePool(1, fault=first_attempts(a0=Fault("overlap"))), {"a": 1}, [])
    assert run().exit_code == 0
    assert run.done("reduce") == {"a": [0]}


@pytest.mark.parametrize("seed", range(20))
def test_random_faults_lose_nothing_and_double_nothing(seed):
    generator = random.Random(seed)

    def fault(worker: int, assignment: Assignment, attempt: int) -> Fault | None:
        kind = generator.choices(["code", "storage", "lost", None], [1, 0.2, 3, 12])[0]
        if kind is None or (kind == "code" and attempt >= MAX_FAILURES - 1):
            return None
        return Fault(kind, generator.random())

    pool = FakePool(5, seconds=lambda worker, item: generator.uniform(0.5, 4.0), fault=fault)
    run = Run(pool, {"a": 30, "b": 11, "c": 1})
    outcome = run()
    assert outcome.complete
    done = run.done()
    aside = {
        name: [a.first // SHARD for a, _, _ in run.notebook.aside if a.fingerprint == name] for name in "abc"
    }
    for name, numbers in run.everything.items():
        assert sorted(done[name] + aside[name]) == numbers
        assert run.done("reduce")[name] == ([] if aside[name] else [0])


def test_many_shards_are_cheap():
    """Linear in the number of shards: 40,000 in 100 configurations within seconds of CPU time."""
    run = Run(FakePool(64), {f"c{i:03d}": 400 for i in range(100)})
    start = time.process_time()
    assert run().exit_code == 0
    assert time.process_time() - start < 10


def test_a_reduction_waits_for_its_reference():
    pool = FakePool(2, seconds=lambda worker, item: 30.0 if item.kind == "reference" else 1.0)
    run = Run(pool, {"a": 2, "b": 2})
    reference = Assignment("reference", "sweep", "a", 0, 1000)
    run.account.tallies["sweep/a"].reference = reference
    run.queue.add(reference)
    assert run().exit_code == 0
    order = [receipt.assignment for receipt in run.notebook.receipts]
    assert order.index(reduction("b")) < order.index(reference) < order.index(reduction("a"))


def test_without_its_reference_a_configuration_is_sampled_but_not_reduced():
    pool = FakePool(2, fault=lambda w, item, attempt: Fault("code") if item.kind == "reference" else None)
    run = Run(pool, {"a": 2, "b": 2})
    reference = Assignment("reference", "sweep", "a", 0, 1000)
    run.account.tallies["sweep/a"].reference = run.account.tallies["sweep/b"].reference = reference
    run.queue.add(reference)
    assert run().exit_code == 1
    assert run.done() == run.everything
    assert run.done("reduce") == {"a": [], "b": []}


def test_what_only_lacks_its_reduction_is_reduced_and_what_has_results_is_not():
    run = Run(FakePool(1), {"a": 0, "b": 0})
    run.account.tallies["sweep/b"].reduction = None
    assert run().exit_code == 0
    assert [receipt.assignment for receipt in run.notebook.receipts] == [reduction("a")]
    assert run.account.tallies["sweep/a"].reduced
