"""How the driver's loop comes to its end: stragglers, the tail, stops and drains, workers that never come."""

from __future__ import annotations

from driven import SHARD, Run, first_attempts, sample
from fake_pool import FakePool, Fault

from cluster.driver import DRAIN_GRACE
from cluster.duplicates import STRAGGLER_SECONDS


def test_a_straggler_gets_one_duplicate_and_the_first_to_finish_counts():
    pool = FakePool(2, fault=first_attempts(a5=Fault("hang")))
    run = Run(pool, {"a": 6})
    assert run().exit_code == 0
    assert run.done() == run.everything
    assert pool.attempts[sample("a", 5)] == 2
    assert run.account.tallies["sweep/a"].done == 6


def test_a_shard_that_is_over_soon_gets_no_duplicate():
    pool = FakePool(2, seconds=lambda worker, item: STRAGGLER_SECONDS - 1 if item == sample("a", 5) else 1.0)
    run = Run(pool, {"a": 6})
    assert run().exit_code == 0
    assert pool.attempts[sample("a", 5)] == 1


def test_every_straggler_of_the_tail_gets_a_duplicate_of_its_own():
    hanging = {f"a{number}": Fault("hang") for number in (4, 5, 6)}
    pool = FakePool(8, fault=first_attempts(**hanging))
    run = Run(pool, {"a": 24})
    assert run().exit_code == 0
    assert [pool.attempts[sample("a", number)] for number in range(3, 8)] == [1, 2, 2, 2, 1]


def test_a_duplicate_that_finishes_late_is_not_counted_twice():
    slow = FakePool(
        2, seconds=lambda worker, item: 25.0 if item == sample("a", 5) else 1.0, ready_after=lambda w: 0.1 * w
    )
    run = Run(slow, {"a": 6, "b": 12})
    assert run().exit_code == 0
    assert run.done() == run.everything
    assert run.account.tallies["sweep/a"].done == 6


def test_the_tail_gives_workers_back():
    pool = FakePool(16, seconds=lambda worker, item: 1.0 + (item.first // SHARD) * 0.1)
    run = Run(pool, {"a": 17})
    assert run().exit_code == 0
    assert len(pool.released) >= 12


def test_workers_that_are_not_there_at_the_tail_are_not_waited_for():
    pool = FakePool(4, ready_after=lambda worker: 1.0 if worker < 2 else 1000.0)
    run = Run(pool, {"a": 6})
    assert run().exit_code == 0
    assert pool.dropped == {2, 3}
    assert pool.now < 20


def test_a_stop_drains_and_says_incomplete():
    pool = FakePool(2)
    run = Run(pool, {"a": 50})
    pool.call_at(10.2, run.driver.stop)
    outcome = run()
    assert outcome.exit_code == 75
    assert not outcome.complete
    assert pool.now < 13
    assert 0 < len(run.done()["a"]) < 50
    assert not run.account.running


def test_a_second_stop_does_not_wait():
    pool = FakePool(2, fault=lambda worker, assignment, attempt: Fault("hang"))
    pool.drain = lambda: None  # workers that do not answer
    run = Run(pool, {"a": 50})
    pool.call_at(10.0, run.driver.stop)
    pool.call_at(12.0, run.driver.stop)
    assert run().exit_code == 75
    assert pool.now < 14


def test_a_drain_waits_for_a_worker_only_so_long():
    pool = FakePool(2, fault=lambda worker, assignment, attempt: Fault("hang"))
    pool.drain = lambda: None
    run = Run(pool, {"a": 50})
    pool.call_at(10.0, run.driver.stop)
    assert run().exit_code == 75
    assert DRAIN_GRACE <= pool.now - 10 < DRAIN_GRACE + 3


def test_a_stop_before_any_worker_is_ready_ends_at_once():
    pool = FakePool(2, ready_after=lambda worker: 1000.0)
    run = Run(pool, {"a": 5})
    pool.call_at(1.5, run.driver.stop)
    assert run().exit_code == 75
    assert pool.now < 5


def test_a_drain_that_finds_all_done_is_complete():
    pool = FakePool(1)
    run = Run(pool, {"a": 1})
    pool.drain = lambda: None
    pool.call_at(3.5, run.driver.stop)  # during the reduction
    assert run().exit_code == 0


def test_a_long_wait_for_workers_is_explained():
    run = Run(FakePool(1, ready_after=lambda worker: 130.0), {"a": 1})
    assert run().exit_code == 0
    assert [note.split(":")[0] for note in run.notebook.notes] == ["no worker for 60 s"] * 2
