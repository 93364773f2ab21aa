"""Sweeps on a simulated three-node cluster under random kills: each ends with the bits of a quiet run.

    python tests/e2e/chaos.py --minutes 30 [--seed 7] [--json]

Workers and nodes are killed, nodes are frozen (the cluster takes them for dead while their workers still
write), nodes join, the driver is killed or told to stop and resumed, with other shard sizes from round to
round. The seed decides the order of events; their moments depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from killable_cluster import KillableCluster
from real_runs import SPEC, Content, Site, finish, kill_all

NODES = 3
PAUSE = (1.0, 6.0)  # seconds between two events
FREEZE = (3.0, 12.0)  # seconds that a frozen node's workers go on
ATTEMPTS = 60  # of the driver in one round
EVENTS = {"worker killed": 4, "node killed": 2, "node frozen": 1, "driver killed": 2, "driver stopped": 1}


class Chaos:
    """Random events against one cluster and one driver."""

    def __init__(
        self, cluster: KillableCluster, generator: random.Random, say: Callable[[str], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._generator = generator
        self._say = say
        self._frozen: dict[int, float] = {}  # node -> when it is killed

    def round(self, site: Site, until: float) -> None:
        """Run the site's sweep to its end, disturbed until a moment of `time.monotonic`."""
        shards = self._generator.choice([8, 16, 24])
        for _ in range(ATTEMPTS):
            process = site.begin("--address", self._cluster.address, "--set", f"shard_size={shards}")
            try:
                self._disturb(process, until)
                code, output = finish(process)
            finally:
                kill_all(process)
            if code == 0:
                return
            if code not in (1, 75, -signal.SIGKILL, -signal.SIGTERM) or "Traceback" in output:
                raise AssertionError(f"the run ended with {code}:\n{output}")
            self.counts["resumed"] += 1
        raise AssertionError(f"not done after {ATTEMPTS} attempts")

    def _disturb(self, process: subprocess.Popen[str], until: float) -> None:
        """Events until the driver has ended or the time is over; then only nodes that the work needs."""
        while process.poll() is None:
            if self._wait(process, self._generator.uniform(*PAUSE)):
                return
            self._end_frozen()
            while len(self._cluster.nodes) < NODES:
                self._cluster.add_node()
                self._happened("node joined")
            if time.monotonic() < until:
                self._strike(process)

    def _strike(self, process: subprocess.Popen[str]) -> None:
        event = self._generator.choices(list(EVENTS), list(EVENTS.values()))[0]
        sound = sorted(self._cluster.nodes.keys() - self._frozen.keys())
        node = self._generator.choice(sound) if sound else None
        workers = sorted(self._cluster.workers())
        if event == "worker killed" and workers:
            os.kill(self._generator.choice(workers), signal.SIGKILL)
        elif event == "node killed" and node is not None:
            self._cluster.kill_node(node)
        elif event == "node frozen" and node is not None:
            self._cluster.freeze_node(node)
            self._frozen[node] = time.monotonic() + self._generator.uniform(*FREEZE)
        elif event == "driver killed" and workers:
            process.send_signal(signal.SIGKILL)
        elif event == "driver stopped" and workers:
            process.send_signal(signal.SIGTERM)
        else:  # there is nobody to strike
            return
        self._happened(event)

    def _end_frozen(self) -> None:
        for node, moment in list(self._frozen.items()):
            if time.monotonic() >= moment:
                del self._frozen[node]
                self._cluster.kill_node(node)

    def _happened(self, event: str) -> None:
        self.counts[event] += 1
        self._say(event)

    @staticmethod
    def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
        """Whether the process ended meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        return process.poll() is not None


def run_chaos(minutes: float, seed: int, folder: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Rounds until the time is over, at least one. Raises AssertionError when bits differ."""

    def make_site(name: str, extra: dict[str, str]) -> Site:
        site = Site(folder / name, extra)
        site.folder.mkdir()
        site.spec.write_text(SPEC)
        return site

    quiet = make_site("quiet", {})
    code, output = quiet.run("--workers", "2")
    assert code == 0, output
    expected: Content = quiet.content()
    say("the quiet run is done")
    began = time.monotonic()
    generator = random.Random(seed)
    rounds = 0
    with KillableCluster(NODES) as cluster:
        chaos = Chaos(cluster, generator, say)
        while rounds == 0 or time.monotonic() < began + 60 * minutes:
            rounds += 1
            site = make_site(f"round-{rounds}", cluster.environment)
            chaos.round(site, began + 60 * minutes)
            assert site.content() == expected, f"round {rounds} of seed {seed} ended with other bits"
            say(f"round {rounds}: the same bits")
    return {
        "seed": seed,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "rounds": rounds,
        "images": len(expected.pixels),
        "events": dict(sorted(chaos.counts.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="drawn, and printed, where it is not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    began = time.monotonic()

    def say(text: str) -> None:
        if not options.json:
            print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        found = run_chaos(options.minutes, seed, Path(folder), say)
    print(json.dumps(found, indent=1) if options.json else f"every round ended with the same bits: {found}")


if __name__ == "__main__":
    main()
