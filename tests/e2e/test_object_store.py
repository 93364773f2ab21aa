"""A whole sweep on an object store, killed in the middle: the pixels and scores of one on a folder."""

from __future__ import annotations

import os
import signal

from real_runs import finish, wait_until, worker_processes

from jobs.store import open_store


def test_a_sweep_on_s3_killed_and_resumed(site, s3, s3_url, running, undisturbed):
    site.url, site.extra = s3_url, s3.environment
    store = open_store(s3_url)

    def markers(kind: str) -> int:
        return sum(f"/{kind}/" in entry.name for entry in store.list("tiny"))

    run = running("--workers", "2")
    wait_until(lambda: markers("snapshots") and worker_processes(run), run)
    os.kill(worker_processes(run)[0], signal.SIGKILL)
    wait_until(lambda: markers("features") >= 2, run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert site.status()["driver"]["state"] == "dead"
    code, output = finish(running("--workers", "2", "--set", "shard_size=24"))
    assert code == 0, output
    assert site.content() == undisturbed
