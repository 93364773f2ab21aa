"""ray_cluster.yaml is what Ray's launcher accepts, and opens nothing without a token."""

import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))


def test_the_launcher_accepts_it(config: dict[str, Any]):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == node_type["max_workers"] == len(config["provider"]["worker_ips"])


def test_every_start_command_asks_for_the_token_and_hides_the_dashboard(config: dict[str, Any]):
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    for command in (*head, *worker):
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/.ray/auth_token" in command
        assert command.index("RAY_AUTH_MODE") < command.index("ray start")
    (start,) = head
    assert "--dashboard-host=127.0.0.1" in start
    assert "--port=6379" in start
    assert "--address=$RAY_HEAD_IP:6379" in worker[0]


def test_the_token_travels_and_is_readable_by_its_owner_alone(config: dict[str, Any]):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert config["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"


def test_nothing_stops_the_ray_of_others(config: dict[str, Any]):
    assert "ray stop" not in str(config)


def test_set_up_is_the_makefile_s(config: dict[str, Any]):
    assert "make -C ~/sdesweep setup" in config["setup_commands"]
    assert "\nsetup:" in (ROOT / "Makefile").read_text(encoding="utf-8")
