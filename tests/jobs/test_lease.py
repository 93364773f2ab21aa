"""One driver for each sweep: who holds the lease, who is dead, who notices."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jobs.paths import SweepPaths
from jobs.storage import lease as lease_module
from jobs.storage.lease import Heartbeat, Holder, LeaseHeldError, LeaseLostError, acquire, held, inspect
from jobs.store import StoreError
from jobs.store_local import LocalStore

PATHS = SweepPaths("sweep")

DRIVER = textwrap.dedent(
    """
    import sys, time
    from jobs.storage.lease import held
    from jobs.paths import SweepPaths
    from jobs.store import StoreError
    from jobs.store_local import LocalStore
    with held(LocalStore(sys.argv[1]), SweepPaths("sweep"), interval=60.0):
        print("held", flush=True)
        time.sleep(60)
    """
)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def driver(store):
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(store.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def plant(store, epoch=1, beaten=None, released=False, **changes):
    """A lease as another driver left it."""
    holder = Holder(
        epoch=epoch,
        host="elsewhere",
        pid=4321,
        namespace="another machine",
        process_started=1,
        acquired=time.time() - 1000,
        interval=10.0,
    ).model_copy(update=changes)
    store.put(PATHS.lease(epoch), holder.model_dump_json().encode())
    if beaten is not None:
        beat = Heartbeat(beaten=beaten, released=released)
        store.put(PATHS.heartbeat(epoch), beat.model_dump_json().encode())


def test_a_free_sweep_is_taken_and_released(store):
    assert inspect(store, PATHS) is None
    lease = acquire(store, PATHS)
    state = inspect(store, PATHS)
    assert state.alive
    assert state.holder == lease.holder
    assert state.holder.pid == os.getpid()
    lease.release()
    assert not inspect(store, PATHS).alive
    assert acquire(store, PATHS).holder.epoch == 2


def test_a_second_driver_is_refused_with_host_pid_and_age(store, driver):
    with pytest.raises(LeaseHeldError, match=rf"process {driver.pid} on \S+ since .*last heard of \d+ s ago"):
        acquire(store, PATHS)


def test_a_killed_driver_is_replaced_at_once(store, driver):
    driver.send_signal(signal.SIGKILL)  # not waited for: a zombie is dead as well
    deadline = time.monotonic() + 10
    while inspect(store, PATHS).alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert acquire(store, PATHS).holder.pid == os.getpid()


def test_a_driver_that_ends_releases(store):
    with held(store, PATHS, interval=60.0):
        assert inspect(store, PATHS).alive
    assert not inspect(store, PATHS).alive
    with pytest.raises(RuntimeError), held(store, PATHS, interval=60.0):
        raise RuntimeError
    assert not inspect(store, PATHS).alive


def test_a_reused_pid_is_not_the_holder(store):
    mine = acquire(store, PATHS)
    started = mine.holder.process_started
    plant(
        store,
        epoch=1,
        beaten=time.time(),
        pid=os.getpid(),
        namespace=mine.holder.namespace,
        process_started=started - 1,
    )
    assert not inspect(store, PATHS).alive


@pytest.mark.parametrize(("age", "alive"), [(1, True), (29, True), (31, False)])
def test_elsewhere_three_missed_heartbeats_are_death(store, age, alive):
    plant(store, beaten=time.time() - age)
    assert inspect(store, PATHS).alive == alive
    if alive:
        with pytest.raises(LeaseHeldError, match=r"process 4321 on elsewhere"):
            acquire(store, PATHS)
    else:
        assert acquire(store, PATHS).holder.epoch == 2


def test_a_holder_that_has_not_beaten_yet_is_alive(store):
    plant(store, acquired=time.time())
    assert inspect(store, PATHS).alive


def test_a_lease_that_cannot_be_read_is_named_with_the_remedy(store):
    plant(store)
    store.put(PATHS.heartbeat(1), b"no heartbeat")
    assert not inspect(store, PATHS).alive  # it was taken long ago
    store.put(PATHS.lease(1), b"no lease")
    with pytest.raises(StoreError, match=r"00000001\.json .* is damaged; remove it if no driver is at work"):
        acquire(store, PATHS)


def test_a_replaced_holder_notices_at_its_next_heartbeat(store):
    old = acquire(store, PATHS)
    old.heartbeat()
    plant(store, epoch=2, beaten=time.time())
    old.check()
    with pytest.raises(LeaseLostError, match="taken over by process 4321 on elsewhere"):
        old.heartbeat()
    with pytest.raises(LeaseLostError):
        old.check()
    old.release()
    assert inspect(store, PATHS).holder.epoch == 2
    assert inspect(store, PATHS).alive


def check_until(lease, deadline):
    while time.monotonic() < deadline:
        lease.check()
        time.sleep(0.01)


def test_the_thread_beats_and_tells_of_a_loss(store):
    with held(store, PATHS, interval=0.02) as lease:
        first = inspect(store, PATHS).heartbeat.beaten
        deadline = time.monotonic() + 10
        while inspect(store, PATHS).heartbeat.beaten == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert inspect(store, PATHS).heartbeat.beaten > first
        lease.check()
        plant(store, epoch=lease.holder.epoch + 1, beaten=time.time())
        with pytest.raises(LeaseLostError):
            check_until(lease, deadline)


def test_storage_that_fails_for_a_moment_does_not_end_the_heartbeats(store, monkeypatch):
    put, failures = store.put, iter([True, True])
    with held(store, PATHS, interval=0.02):
        first = inspect(store, PATHS).heartbeat.beaten

        def flaky(name, data):
            if next(failures, False):
                raise OSError("storage is away")
            put(name, data)

        monkeypatch.setattr(store, "put", flaky)
        deadline = time.monotonic() + 10
        while inspect(store, PATHS).heartbeat.beaten == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert inspect(store, PATHS).heartbeat.beaten > first


def test_of_many_contenders_for_a_dead_lease_one_wins(store):
    plant(store, beaten=time.time() - 1000)
    script = textwrap.dedent(
        """
        import sys, time
        from jobs.storage.lease import LeaseHeldError, acquire
        from jobs.paths import SweepPaths
        from jobs.store import StoreError
        from jobs.store_local import LocalStore
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            acquire(LocalStore(sys.argv[1]), SweepPaths("sweep"))
            print("won", flush=True)
            time.sleep(60)
        except LeaseHeldError:
            print("refused", flush=True)
        """
    )
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(store.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        assert [contender.stdout.readline() for contender in contenders] == ["ready\n"] * 4
        for contender in contenders:
            contender.stdin.write("\n")
            contender.stdin.flush()
        answers = sorted(contender.stdout.readline() for contender in contenders)
        assert answers == ["refused\n"] * 3 + ["won\n"]
    finally:
        for contender in contenders:
            contender.kill()
            contender.communicate()


def test_a_slow_contender_cannot_take_an_epoch_that_is_past(store, monkeypatch):
    """It saw epoch 1 dead; meanwhile epoch 2 came and went, was tidied up, and 3 holds: 2 is free again."""
    plant(store, epoch=1, beaten=time.time() - 1000)
    states = [inspect(store, PATHS)]
    store.delete(PATHS.lease(1))
    plant(store, epoch=3, beaten=time.time())
    real = inspect
    monkeypatch.setattr(
        lease_module, "inspect", lambda store, paths: states.pop() if states else real(store, paths)
    )
    with pytest.raises(LeaseHeldError, match="elsewhere"):
        acquire(store, PATHS)
    assert real(store, PATHS).holder.epoch == 3


def test_old_epochs_are_tidied_up(store):
    for _ in range(3):
        acquire(store, PATHS).release()
    assert sorted(entry.name for entry in store.list(PATHS.lease_folder)) == [
        PATHS.heartbeat(3),
        PATHS.lease(3),
    ]
