"""Nodes that are lost, freeze or join while a sweep runs: the same pixels and scores in the end."""

from __future__ import annotations

from killable_cluster import KillableCluster
from processes import frozen
from real_runs import finish, wait_until

from jobs.paths import SweepPaths
from jobs.storage.runrecord import runs


def test_the_head_dies_and_another_cluster_goes_on(site, running, undisturbed):
    with KillableCluster(1) as cluster:
        site.extra = cluster.environment
        run = running("--address", cluster.address, "--set", "shard_size=8")
        wait_until(lambda: site.files("snapshots") and cluster.workers(), run)
        with frozen(cluster.workers()):  # else it might be done before that is noticed
            cluster.kill_head()
            code, output = finish(run)
    assert code == 75, output
    assert "the head of the cluster" in output
    assert "`sdesweep resume` goes on" in output
    (record,) = runs(site.store, SweepPaths("tiny"))
    assert (record.outcome, record.exit_code) == ("incomplete", 75)
    site.extra = {}
    code, output = site.run("--workers", "2", command="resume")
    assert code == 0, output
    assert site.content() == undisturbed


def test_nodes_lost_frozen_and_joining(site, running, undisturbed):
    with KillableCluster(3) as cluster:
        site.extra = cluster.environment
        run = running("--address", cluster.address, "--set", "shard_size=8")
        wait_until(lambda: site.files("snapshots") and len(cluster.workers()) == 3, run)
        zombie, victim, survivor = cluster.nodes
        assert cluster.workers(zombie)
        cluster.freeze_node(zombie)  # taken for dead after some seconds, while its worker writes on
        cluster.kill_node(victim)
        with frozen(cluster.workers(survivor)):  # else it might be done before the other one is there
            newcomer = cluster.add_node()
            wait_until(lambda: cluster.workers(newcomer), run)
        code, output = finish(run)
    assert code == 0, output
    assert "worker lost during" in output
    assert site.content() == undisturbed
