"""What must be right before work goes to a cluster: each check with what was found and what to do about it.

`sdesweep submit` refuses where one fails, `sdesweep doctor` tells them all. What a machine itself is like is
in `cluster/machine_checks.py`. It changes nothing but a trial file in the store, which it removes.
"""

from __future__ import annotations

import errno
import importlib.metadata
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster import head
from cluster.access import Token
from cluster.demand import GIB, UNDECIDED, Demand, describe_machines
from cluster.head import Cluster, HeadError
from jobs.paths import StorePaths
from jobs.specs.sections import Resources
from jobs.store import Store, StoreError, open_store
from jobs.store_local import LocalStore

Verdict = Literal["ok", "warning", "failed"]

OLDEST_RAY = (2, 60)
CLOCK_LIMIT = 5.0  # seconds; leases are judged by clocks, at three heartbeats of ten
SPACE_WANTED = 10.0  # GiB
SPACE_NEEDED = 0.5  # GiB, with less of which even a small sweep does not come to its end
WRITERS = 8  # of one name at once

TUNNEL = "`ray dashboard ray_cluster.yaml` or `ssh -N -L 8265:127.0.0.1:8265 HEAD` makes a tunnel to it"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def failures(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.verdict == "failed"]


def token_checks(find: Callable[[], Token | None]) -> tuple[Token | None, list[Check]]:
    """The token of this user, and whether others can read it."""
    try:
        token = find()
    except OSError as error:
        remedy = "set RAY_AUTH_TOKEN_PATH to the file that holds the cluster's token"
        return None, [Check("token", "failed", f"the token cannot be read: {error}", remedy)]
    if token is None:
        remedy = (
            "copy the cluster's token to ~/.ray/auth_token (mode 0600), or set RAY_AUTH_TOKEN_PATH; a new "
            "one is made by "
            "(umask 077 && ray get-auth-token --generate > /dev/null) && chmod 600 ~/.ray/auth_token"
        )
        return None, [Check("token", "warning", "there is none", remedy)]
    if not token.value:
        return token, [
            Check("token", "failed", f"{token.source} is empty", "write the cluster's token to it")
        ]
    if token.readable_by_others:
        found = f"{token.source} can be read or changed by others, who could then run code on the cluster"
        return token, [Check("token", "failed", found, f"chmod 600 {token.source}, and make a new token")]
    return token, [Check("token", "ok", f"from {token.source}, for its user alone")]


def cluster_checks(
    address: str, token: Token | None, *, tolerate_open: bool = False, tolerate_here: bool = False
) -> tuple[Cluster | None, list[Check]]:
    """Ask the head at http://HOST:PORT whatever can be asked; None where it does not tell.

    tolerate_open: a head that asks nobody for a token is worth a warning only; tolerate_here: where it was
        reached on loopback and listens there alone.
    """
    try:
        address = head.parse_address(address)
        guarded = head.refuses_strangers(address)
    except HeadError as error:
        question = "is the head running, with its dashboard (--include-dashboard), and is this its address?"
        remedy = f"{question} {TUNNEL}"
        if address.startswith("https://"):
            remedy = f"Ray's dashboard itself speaks http: write http://...; {remedy}"
        return None, [Check("reachable", "failed", f"no Ray head answers at {address}: {error}", remedy)]
    checks = [Check("reachable", "ok", address)]
    if guarded and token is None:
        remedy = "copy the head's token to ~/.ray/auth_token (mode 0600), or set RAY_AUTH_TOKEN_PATH"
        checks.append(_authentication(guarded, tolerate_open))
        return None, [*checks, Check("access", "failed", "the head asks for a token; there is none", remedy)]
    try:
        cluster = head.describe(address, token.value if guarded and token else None)
    except HeadError as error:
        return None, [*checks, _authentication(guarded, tolerate_open), _refusal(error, token)]
    here = head.on_loopback(address) and head.on_loopback(f"http://{cluster.dashboard or address}")
    checks.append(_authentication(guarded, tolerate_open or (tolerate_here and here)))
    checks.append(Check("access", "ok", "the token is accepted" if guarded else "no token is asked for"))
    checks += [
        Check("machines", "ok", describe_machines(cluster.machines)),
        _version(cluster),
        _python(cluster),
        *_dashboard(cluster),
        *_clock(cluster.ahead, "the head's"),
    ]
    return cluster, checks


def _authentication(guarded: bool, tolerate_open: bool) -> Check:
    if guarded:
        return Check("authentication", "ok", "a request without a token is turned away")
    found = "the head takes jobs from anybody: whoever reaches it can run code there (CVE-2023-48022)"
    remedy = "start Ray with RAY_AUTH_MODE=token and a token file on every machine, as ray_cluster.yaml does"
    if tolerate_open:
        return Check("authentication", "warning", found, remedy)
    return Check("authentication", "failed", found, f"{remedy}; `submit` has --allow-unauthenticated")


def _refusal(error: HeadError, token: Token | None) -> Check:
    if error.status in (401, 403):
        source = token.source if token else "none"
        remedy = "copy the head's token again: it was changed, or belongs to another cluster"
        return Check("access", "failed", f"the head refuses the token from {source}", remedy)
    return Check("access", "failed", str(error), f"is it the dashboard of Ray {_text(OLDEST_RAY)} or later?")


def _version(cluster: Cluster) -> Check:
    here = importlib.metadata.version("ray")
    found = f"Ray {cluster.ray} there, {here} here"
    if _numbers(cluster.ray) < OLDEST_RAY:
        remedy = f"install Ray {_text(OLDEST_RAY)} or later on every machine of the cluster"
        return Check("version", "failed", found, remedy)
    if cluster.ray != here:
        return Check("version", "warning", found, f"install Ray {cluster.ray} here, or {here} there")
    return Check("version", "ok", found)


def _python(cluster: Cluster) -> Check:
    found = f"Python {cluster.python} there, {platform.python_version()} here"
    if _numbers(cluster.python) < (3, 11):
        return Check("python", "failed", found, "run Ray there with Python 3.11 or later")
    return Check("python", "ok", found)


def _dashboard(cluster: Cluster) -> Iterator[Check]:
    if cluster.dashboard is None:
        return
    if head.on_loopback(f"http://{cluster.dashboard}"):
        yield Check("dashboard", "ok", f"listens on loopback alone ({cluster.dashboard})")
    else:
        found = f"listens on the network ({cluster.dashboard})"
        remedy = f"start the head with --dashboard-host=127.0.0.1; {TUNNEL}"
        yield Check("dashboard", "warning", found, remedy)


def _clock(ahead: float | None, whose: str) -> Iterator[Check]:
    """ahead: of ours, in seconds, as well as whole seconds tell."""
    if ahead is None:
        return
    found = f"{whose} clock is {abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    if abs(ahead) > CLOCK_LIMIT:
        remedy = "set the clocks by NTP: leases and windows go by them"
        yield Check("clock", "failed", found, remedy)
    else:
        yield Check("clock", "ok", found)


def resource_check(cluster: Cluster, demand: Demand) -> Check:
    """Whether the cluster can ever hold the workers that are asked for."""
    room = demand.room(cluster.machines)
    needed = demand.least or 1
    there = describe_machines(cluster.machines)
    if room >= needed:
        return Check("resources", "ok", f"room for {room} workers that take {demand}; there are {there}")
    found = f"room for {room} of at least {needed} workers that take {demand}; there are {there}"
    if cluster.autoscaled and demand.least is None:
        remedy = "give --workers N, or `resources.workers`: machines come for those that are waited for"
        return Check("resources", "failed", found, remedy)
    if cluster.autoscaled:
        remedy = "the autoscaler may bring machines; if none of its kinds fits, the workers wait for ever"
        return Check("resources", "warning", found, remedy)
    remedy = "change `resources` in the spec, give --workers, or add machines to the cluster"
    if room:
        return Check("resources", "warning", f"{found}; work begins with those that fit", remedy)
    return Check("resources", "failed", found, remedy)


def gpus_check(cluster: Cluster, resources: Resources, demand: Demand) -> Iterator[Check]:
    """Whether `gpus: auto` can be decided by the machines that are there, where it is open."""
    if resources.gpus is not None or not cluster.autoscaled:
        return
    machine = demand.preferred(cluster.machines)
    if machine is None:
        yield Check("gpus", "failed", UNDECIDED, "`resources: {gpus: 1}`, or --set resources.gpus=1")
    elif not machine.resources.get("GPU"):
        found = "`resources.gpus: auto` means none: of the machines that are there now none has a GPU"
        yield Check(
            "gpus", "warning", found, "write the number into the spec to have machines with GPUs started"
        )


def driver_check(cluster: Cluster, demand: Demand) -> Check:
    """Whether the driver of a job fits, where it reserves anything. demand: what it takes."""
    if demand.room(cluster.machines) or cluster.autoscaled:
        return Check("driver", "ok", "fits on a machine")
    found = f"no machine has room for a driver that takes {demand}"
    return Check("driver", "failed", found, "change `resources.driver` in the spec, or leave it out")


def store_checks(url: str) -> list[Check]:
    """Whether a store can be written, knows the one atomic operation, has room, and a clock like ours."""
    trial, marker = (StorePaths().trial(uuid.uuid4().hex) for _ in range(2))
    try:
        store = open_store(url)
        new = isinstance(store, LocalStore) and not store.root.exists()
        store.put(trial, b"1")
        if store.get(trial) != b"1":
            return [Check("store", "failed", f"{store.url}: what was written reads differently", "repair it")]
    except (StoreError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = (
            "make room" if full else "give a store that this user may write to, the same on every machine"
        )
        return [Check("store", "failed", f"{url} cannot be written: {error}", remedy)]
    checks = [_atomicity(store, marker), *_clock(_ahead(store, trial), "the store's")]
    if isinstance(store, LocalStore):
        checks.append(_space(store.root))
    try:
        store.delete(trial)
        store.delete(marker)
    except OSError as error:
        remedy = "give the right to remove files: runs remove snapshots and leases that are over"
        return [
            Check("store", "failed", f"nothing can be removed from {store.url}: {error}", remedy),
            *checks,
        ]
    if new:
        remedy = "is its file system mounted? The folder must be the same on every machine"
        return [Check("store", "warning", f"{store.url} was not there, and has been made", remedy), *checks]
    return [Check("store", "ok", f"{store.url} can be written and read"), *checks]


def _ahead(store: Store, trial: str) -> float | None:
    """How far the store's clock is ahead of ours, by a file that was written just now; in seconds."""
    written = [entry.modified for entry in store.list(trial.rpartition("/")[0]) if entry.name == trial]
    return written[0] - time.time() if written else None


def _atomicity(store: Store, name: str) -> Check:
    """Several writers of one name at once: exactly one may win."""
    try:
        with ThreadPoolExecutor(WRITERS) as threads:
            won = sum(threads.map(lambda number: store.put_if_absent(name, b"%d" % number), range(WRITERS)))
    except OSError as error:
        remedy = "use a server that honours If-None-Match, in a newer version or another one"
        if isinstance(store, LocalStore):
            remedy = "use a file system with hard links (most have them; FAT and some FUSE mounts do not)"
        return Check("atomic", "failed", f"a marker cannot be written: {error}", remedy)
    if won != 1:
        found = f"of {WRITERS} writers of one marker {won} were told that they won"
        return Check("atomic", "failed", found, "this store cannot keep shards exactly once; use another one")
    return Check("atomic", "ok", f"of {WRITERS} writers of one marker exactly one wins")


def _space(root: Path) -> Check:
    free = shutil.disk_usage(root).free / GIB
    found = f"{free:.1f} GiB free at {root}"
    if free < SPACE_WANTED:
        verdict: Verdict = "warning" if free >= SPACE_NEEDED else "failed"
        return Check("space", verdict, found, "make room; `sdesweep plan SPEC` says how much a sweep needs")
    return Check("space", "ok", found)


def _numbers(version: str) -> tuple[int, ...]:
    """The first two of a version; none where it begins with none."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
