"""The launcher's files are what Ray accepts, and open nothing without a token."""

import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported

ROOT = Path(__file__).parents[2]


FILES = ("ray_cluster.yaml", "deploy/clouds/aws.yaml", "deploy/clouds/gcp.yaml")


def load(name: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


def prepared(name: str) -> dict[str, Any]:
    """As the launcher reads a file; raises when it is not what the launcher accepts."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load(name))
    validate_config(config)
    return config


@pytest.fixture(scope="module", params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_the_launcher_accepts_the_file_for_own_machines():
    (node_type,) = prepared("ray_cluster.yaml")["available_node_types"].values()
    addresses = load("ray_cluster.yaml")["provider"]["worker_ips"]
    assert node_type["min_workers"] == node_type["max_workers"] == len(addresses)


@pytest.mark.parametrize("name", FILES[1:])
def test_the_launcher_accepts_the_files_for_clouds_and_their_workers_come_and_go(name: str):
    config = prepared(name)
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"]["CPU"] == 0  # the driver lives there, no worker
    worker = types["spot-gpu"]
    assert worker["min_workers"] == 0 < worker["max_workers"]
    assert worker["resources"]["GPU"] >= 1
    assert config["idle_timeout_minutes"] <= 10


def test_workers_in_clouds_are_spot_machines():
    aws = load("deploy/clouds/aws.yaml")["available_node_types"]
    assert aws["spot-gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in aws["head"]["node_config"]
    gcp = load("deploy/clouds/gcp.yaml")["available_node_types"]
    assert gcp["spot-gpu"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "scheduling" not in gcp["head"]["node_config"]


def test_every_machine_on_aws_may_reach_the_bucket():
    """Ray gives a role of its own to the head alone."""
    types = load("deploy/clouds/aws.yaml")["available_node_types"].values()
    (profile,) = {each["node_config"]["IamInstanceProfile"]["Arn"] for each in types}
    assert profile.startswith("arn:aws:iam::")


def test_the_launcher_refuses_what_it_does_not_know():
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config({**load("deploy/clouds/aws.yaml"), "max_wokers": 3}))


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
