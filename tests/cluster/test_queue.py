"""Who takes what next: held configuration, then the same model, then the most remaining work."""

from __future__ import annotations

import time
from collections import Counter, deque

from cluster.queue import ConfigurationWork, WorkQueue
from jobs.compute.assignment import Assignment


def work(name: str, shards: int, model: str = "m", priority: int = 0, cost: float = 1.0) -> ConfigurationWork:
    return ConfigurationWork(
        name, model, priority, cost, deque(range(8 * i, 8 * i + 8) for i in range(shards))
    )


def take(queue: WorkQueue, worker: int) -> str:
    assignment = queue.take(worker)
    assert assignment is not None
    return assignment.fingerprint


def test_shards_of_a_configuration_are_taken_in_order():
    queue = WorkQueue("s", [work("a", 3)])
    assert [queue.take(0) for _ in range(4)] == [
        Assignment("sample", "s", "a", 0, 8),
        Assignment("sample", "s", "a", 8, 16),
        Assignment("sample", "s", "a", 16, 24),
        None,
    ]
    assert len(queue) == 0


def test_a_worker_stays_with_its_configuration_then_with_its_model():
    queue = WorkQueue("s", [work("a", 2, "m1"), work("big", 50, "m2"), work("c", 1, "m1")])
    queue.add(Assignment("reduce", "s", "x", 0, 8))
    assert take(queue, 0) == "x"  # reductions first
    assert take(queue, 0) == "big"
    assert take(queue, 1) == "big"  # 50 shards for two workers are still more than the others have
    for _ in range(48):
        assert take(queue, 0) == "big"
    assert take(queue, 0) == "a"
    assert take(queue, 0) == "a"
    assert take(queue, 0) == "c"


def test_the_same_model_comes_before_more_work():
    queue = WorkQueue("s", [work("a", 3, "m1"), work("b", 2, "m1"), work("c", 2, "m2")])
    assert [take(queue, 0) for _ in range(7)] == ["a", "a", "a", "b", "b", "c", "c"]


def test_workers_spread_by_remaining_work():
    queue = WorkQueue("s", [work("a", 60, "m1"), work("b", 30, "m2"), work("c", 10, "m3", cost=3.0)])
    shares = Counter(take(queue, worker) for worker in range(8))
    assert shares == {"a": 4, "b": 2, "c": 2}


def test_a_higher_priority_goes_first_whatever_a_worker_holds():
    queue = WorkQueue("s", [work("low", 5), work("high", 1, priority=1)])
    assert take(queue, 0) == "high"
    assert take(queue, 0) == "low"
    queue.add(Assignment("sample", "s", "high", 0, 8))
    assert take(queue, 0) == "high"


def test_what_comes_back_goes_first():
    queue = WorkQueue("s", [work("a", 3)])
    first = queue.take(0)
    assert first is not None
    queue.add(first)
    assert queue.take(1) == first


def test_a_configuration_whose_worker_went_deserves_another():
    queue = WorkQueue("s", [work("a", 10, "m1"), work("b", 8, "m2")])
    assert take(queue, 0) == "a"
    queue.forget(0)
    assert take(queue, 1) == "a"  # 9 shards without a worker, against 8
    assert take(queue, 2) == "b"


def test_many_small_configurations_are_cheap():
    """No step looks at every configuration: 10,000 of them with a shard or two each."""
    queue = WorkQueue("s", [work(f"c{i}", 1 + i % 2, f"m{i % 50}") for i in range(10_000)])
    start = time.perf_counter()
    taken = 0
    while queue.take(taken % 64):
        taken += 1
    assert taken == 15_000
    assert time.perf_counter() - start < 3
