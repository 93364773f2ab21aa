"""Every small file of a store damaged in turn: commands go on rightly, or name the file and what to do.

Never a traceback, never another score. Images and features have tests of their own (`test_verify.py`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import invoke
from local_pool import LocalPool

from cluster.display import Silence
from cluster.run import run_sweep
from jobs.paths import StorePaths, SweepPaths
from jobs.planning.sweep import Sweep
from jobs.storage.ledger import Failure, set_aside
from jobs.store import StoreError
from jobs.store_local import LocalStore

PATHS = SweepPaths("tiny")
COMMANDS = [
    ("status", "tiny", "--json"),
    ("events", "tiny"),
    ("report", "tiny"),
    ("verify", "tiny", "--dry-run"),
    ("gc", "--dry-run"),
    ("queue", "show"),
    ("reference", "list"),
]


def of_the_future(content: bytes) -> bytes:
    """The same record, had a later version written it; what is no JSON is cut instead."""
    try:
        return json.dumps({**json.loads(content), "version": 99, "later": 1}).encode()
    except (ValueError, TypeError):
        return content[: len(content) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes] | None] = {
    "truncated": lambda content: content[: len(content) // 2],
    "future": of_the_future,
    "missing": None,
}
FILES = {  # by a pattern of their names below the store
    "spec as written": PATHS.written,
    "sweep": PATHS.resolved,
    "results": PATHS.results,
    "configuration": "tiny/*/spec.json",
    "scores": "tiny/*/results/*.json",
    "failed shard": "tiny/*/failed/*/*.json",
    "snapshot": "tiny/*/snapshots/*/*.safetensors",
    "run record": f"{PATHS.runs_folder}/*.json",
    "events": "tiny/events/*/*.jsonl",
    "attempts": "tiny/attempts/*/*.jsonl",
    "lease": PATHS.lease(1),
    "heartbeat": PATHS.heartbeat(1),
    "queue": StorePaths().queue("tiny"),
    "reference's record": "references/index/*.json",
    "reference's moments": "references/*/moments/*.npz",
    "reference's marker": "references/*/features/*/*/*.json",
    "marker": "tiny/*/images/*/*.json",
}


@pytest.fixture(scope="module")
def whole(finished_store: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """The finished store, of long ago, with a shard that was set aside and a snapshot."""
    store = LocalStore(tmp_path_factory.mktemp("whole") / "store")
    shutil.copytree(finished_store.root, store.root)
    sweep = Sweep.from_json(store.get(PATHS.resolved))
    own = PATHS.configuration(sweep.configurations[0].fingerprint)
    set_aside(store, own, Failure(range(16), 3, "ValueError: of an earlier run"))
    store.put(own.snapshots.attempt(range(8), "a" * 32, "safetensors"), b"a snapshot")
    lease = json.loads(store.get(PATHS.lease(1)))  # of this process: without a heartbeat it counts as held
    store.put(PATHS.lease(1), json.dumps({**lease, "acquired": 0.0}).encode())  # unless it was taken long ago
    return store


@pytest.fixture
def damaged(whole: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[LocalStore, str]:
    """A copy in which one file is damaged or, by the damage None, missing; and the file's name."""
    pattern, damage = request.param
    store = LocalStore(tmp_path / "store")
    shutil.copytree(whole.root, store.root)
    path = min(store.root.glob(pattern))
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    return store, path.relative_to(store.root).as_posix()


def cases(*kinds: str) -> list[object]:
    """Every file with each of these damages."""
    return [
        pytest.param((pattern, DAMAGES[kind]), id=f"{what}, {kind}")
        for what, pattern in FILES.items()
        for kind in kinds
    ]


@pytest.mark.parametrize("damaged", cases("truncated", "future"), indirect=True)
def test_commands_go_on_or_name_the_file_and_the_remedy(damaged):
    store, name = damaged
    for command in COMMANDS:
        result = invoke(*command, "--store", store.url)
        if result.exit_code == 2:
            assert name in result.output or "no sweep 'tiny'" in result.output, (command, result.output)
            assert "remove it" in result.output or "sdesweep run" in result.output, (command, result.output)
        else:
            found = result.exit_code == 1 and command[0] == "verify"
            assert found or result.exit_code == 0, (command, result.output)


REFUSED = ("queue", "lease")  # by a run too, unless they are missing


@pytest.mark.parametrize("damaged", cases("truncated", "missing"), indirect=True)
def test_a_run_makes_the_same_scores_again_or_names_the_file(damaged, whole, make_sweep, request):
    store, name = damaged
    for path in store.root.glob("tiny/*/results/*.json"):
        path.unlink()

    def run() -> None:
        assert run_sweep(store, make_sweep(), LocalPool(store).open, Silence(), ["run"]).exit_code == 0

    if request.node.callspec.id.startswith(REFUSED) and store.size(name) is not None:
        with pytest.raises(StoreError, match=rf"{re.escape(name)} in .*remove it"):
            run()
        store.delete(name)  # as it says
    run()
    assert scores(store) == scores(whole)


def scores(store: LocalStore) -> list[object]:
    return [cell["summaries"] for cell in json.loads(store.get(PATHS.results))["cells"]]
