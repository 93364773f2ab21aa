"""Whatever is killed, and whenever: the same command again gives the same pixels and the same scores.

Real processes, real SIGKILLs, found among the children of the run itself. Tests compare decoded pixels and
scores with those of one undisturbed run.
"""

from __future__ import annotations

import os
import signal
import time

from processes import descendants, frozen, name_of
from real_runs import TIMEOUT, finish, kill_all, wait_until, worker_processes

from cluster.story import story
from jobs.paths import SweepPaths


def test_an_undisturbed_run_makes_exactly_what_was_asked(undisturbed):
    found = {
        name: sorted({index for row, _, index in undisturbed.pixels if row == name}) for name in ("GAN", "VE")
    }
    assert found == {"GAN": list(range(48)), "VE": list(range(21))}
    assert sorted({step for row, step, _ in undisturbed.pixels if row == "GAN"}) == [50, 300]
    assert undisturbed.scores["VE"][0]["fid"]["value"] > 0


def test_workers_killed_with_another_shard_size(site, running, undisturbed):
    run = running("--workers", "2", "--set", "shard_size=8")
    wait_until(lambda: site.files("snapshots"), run)
    for victim in worker_processes(run):  # one of them wrote the snapshot
        os.kill(victim, signal.SIGKILL)
    done = len(site.files("features"))
    wait_until(lambda: len(site.files("features")) > done and worker_processes(run), run)
    os.kill(worker_processes(run)[0], signal.SIGKILL)
    code, output = finish(run)
    assert code == 0, output
    assert "worker lost during" in output
    assert "its process ended or cannot be reached" in output
    assert "resumed from a snapshot at step" in output
    assert site.content() == undisturbed
    assert site.status()["last_run"]["retries"]["machine"] >= 1


def test_driver_killed_then_run_with_one_worker_and_another_shard_size(site, running, undisturbed):
    run = running("--workers", "2")
    wait_until(lambda: site.files("images") and site.files("snapshots"), run)
    workers = worker_processes(run)
    assert workers
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert site.status()["driver"]["state"] == "dead"
    told = [sentence.text for sentence in story(site.store, SweepPaths(str(site.status()["sweep"])))]
    assert any(text.startswith("2 workers ready on ") for text in told)  # its log survives it
    assert "it was killed" in told[-1]
    end = time.monotonic() + TIMEOUT
    while any(name_of(pid).startswith("ray::ShardWorker") for pid in workers):
        assert time.monotonic() < end, "workers outlive their driver"
        time.sleep(0.1)
    code, output = site.run(
        "--workers", "1", "--set", "shard_size=24"
    )  # takes the dead driver's lease at once
    assert code == 0, output
    assert site.content() == undisturbed


def test_interrupted_then_everything_killed_then_resumed_without_the_spec(site, running, undisturbed):
    run = running("--workers", "2")
    wait_until(lambda: site.files("snapshots"), run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does it: the signal reaches every process
    code, output = finish(run)
    assert code == 75, output
    assert "worker lost" not in output
    assert site.files("snapshots")
    site.spec.unlink()

    done = len(site.files("features"))
    run = running("--workers", "2", command="resume")
    wait_until(lambda: len(site.files("features")) > done and site.files("snapshots"), run)
    assert descendants(run.pid)
    kill_all(run)
    run.wait()

    code, output = site.run("--workers", "2", command="resume")
    assert code == 0, output
    assert site.content() == undisturbed


def test_two_drivers_and_a_drain(site, running, undisturbed):
    run = running("--workers", "2")
    wait_until(lambda: site.files("snapshots"), run)
    with frozen(worker_processes(run)):  # else they might be done before the second driver has started
        code, output = site.run()
        assert site.status()["driver"]["state"] == "running"
        os.kill(run.pid, signal.SIGTERM)
    assert code == 75
    assert f"process {run.pid} on" in output
    assert len(output.strip().splitlines()) == 1, output

    code, output = finish(run)
    assert code == 75, output
    assert "sdesweep resume tiny" in output
    assert site.files("snapshots")
    status = site.status()
    assert status["driver"]["state"] == "ended"
    assert status["last_run"]["outcome"] == "incomplete"

    code, output = site.run("--workers", "2", command="resume")
    assert code == 0, output
    assert "resumed from a snapshot at step" in output
    assert site.content() == undisturbed
