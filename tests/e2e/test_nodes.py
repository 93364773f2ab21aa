"""Nodes that are lost, freeze or join while a sweep runs: the same pixels and scores in the end."""

from __future__ import annotations

from killable_cluster import KillableCluster
from processes import frozen
from real_runs import finish, wait_until


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
