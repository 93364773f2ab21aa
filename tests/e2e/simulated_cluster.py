"""A Ray cluster of several nodes on this machine, in a process of its own: GPUs and labels are made up.

Started as a script with a dashboard port and the head's CPUs. Prints one JSON line when it is up, then obeys
lines on its standard input: a JSON object adds a node with these arguments; their end ends the cluster.
"""

from __future__ import annotations

import json
import sys

OBJECT_STORE = 80 * 2**20


def main(port: int, cpus: int) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": OBJECT_STORE})
    print(json.dumps({"gcs": cluster.address}), flush=True)
    for line in sys.stdin:
        cluster.add_node(object_store_memory=OBJECT_STORE, **json.loads(line))
        print(json.dumps({"nodes": 1 + len(cluster.worker_nodes)}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
