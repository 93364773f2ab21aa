"""Logs of events and attempts: appended to in whole files, readable after any kill, no line lost or twice."""

from __future__ import annotations

import pytest

from jobs.paths import SweepPaths
from jobs.storage.events import (
    CHUNK,
    Attempt,
    Event,
    Journal,
    attempt_log,
    attempts_of,
    event_log,
    events_of,
    utc_now,
)
from jobs.store import StoreError
from jobs.store_local import LocalStore

PATHS = SweepPaths("tiny")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path)


def event(text: str) -> Event:
    return Event(at=utc_now(), kind="note", text=text)


def test_events_come_back_as_they_were(store):
    lost = Event(
        at=utc_now(),
        kind="lost",
        text="worker lost\n  last line: Bokmål",
        configuration="VE / PC100",
        first=0,
        last=64,
        worker=3,
        node="gpu-03 (1a2b3c)",
        device="NVIDIA A100",
        cause="machine",
        requeued=1,
        seconds_lost=41.25,
    )
    log = event_log(store, PATHS, "run1")
    log.add(lost)
    log.add(event("next"))
    log.flush()
    assert events_of(store, PATHS, "run1")[0] == lost
    assert lost.shard == "[0, 64)"
    assert [each.text for each in events_of(store, PATHS, "run1")][1:] == ["next"]
    assert events_of(store, PATHS, "run2") == []


def test_attempts_have_a_log_of_their_own(store):
    attempt = Attempt(
        at=utc_now(),
        kind="sample",
        fingerprint="f" * 64,
        first=0,
        last=64,
        worker=1,
        node="a",
        device="cpu",
        seconds=1.5,
        how="finished",
    )
    log = attempt_log(store, PATHS, "run1")
    log.add(attempt)
    log.flush()
    assert list(attempts_of(store, PATHS, "run1")) == [attempt]
    assert events_of(store, PATHS, "run1") == []


def test_files_are_written_once_a_second_and_begun_anew_when_full(store):
    clock = Clock()
    names: list[int] = []
    log = Journal(store, lambda number: names.append(number) or PATHS.events("run1", number), clock)
    count = 3 * CHUNK + 10
    for number in range(count):
        log.add(event(str(number)))
        clock.now += 0.25
        log.flush()
    log.flush(at_once=True)
    log.flush(at_once=True)  # nothing new: no write
    assert [each.text for each in events_of(store, PATHS, "run1")] == [str(n) for n in range(count)]
    assert len(names) == pytest.approx(count / 4, abs=3)
    sizes = [len(store.get(entry.name).splitlines()) for entry in store.list("tiny/events")]
    assert max(sizes) < CHUNK + 8
    assert len(sizes) == 4


def test_nothing_is_lost_while_the_store_is_away(store, monkeypatch):
    clock = Clock()
    log = Journal(store, lambda number: PATHS.events("run1", number), clock)
    log.add(event("a"))

    def full(name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", full)
        with pytest.raises(OSError, match="No space"):
            log.flush()
        log.add(event("b"))
        log.flush()  # not tried again within a second
    clock.now = 1.0
    log.flush()
    assert [each.text for each in events_of(store, PATHS, "run1")] == ["a", "b"]


@pytest.mark.parametrize(
    "content", [b"{not json}\n", b'{"at": "2026-01-01T00:00:00Z", "kind": "x"}\n', b"\xff\n"]
)
def test_a_file_that_is_no_log_is_named(store, content):
    store.put(PATHS.events("run1", 1), content)
    with pytest.raises(StoreError, match=r"00000001.jsonl in the store .* is no log of events"):
        events_of(store, PATHS, "run1")
