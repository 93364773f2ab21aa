"""What deploy/ holds: objects have the fields that their kinds know, commands the options that ours have."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import zoneinfo
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cluster.cli import main
from cluster.driver import DRAIN_GRACE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TYPES = json.loads((ROOT / "tests" / "golden" / "kubernetes_fields.json").read_text(encoding="utf-8"))[
    "types"
]
OBJECTS = {
    "kuberay/rayjob.yaml": ("RayJob", "ray.io/v1", "RayJob"),
    "kuberay/raycronjob.yaml": ("RayCronJob", "ray.io/v1", "RayCronJob"),
    "kuberay/networkpolicy.yaml": ("V1NetworkPolicy", "networking.k8s.io/v1", "NetworkPolicy"),
    "kubernetes/cronjob.yaml": ("V1CronJob", "batch/v1", "CronJob"),
}
PLAIN = {"string": str, "integer": int, "boolean": bool, "number": (int, float)}

#: Directives by section, as systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and
#: systemd.timer(5) know them: those that a unit for a batch job may want.
DIRECTIVES = {
    "Unit": {"Description", "Documentation", "Wants", "Requires", "After", "Before"}
    | {"StartLimitIntervalSec", "StartLimitBurst", "ConditionPathExists"},
    "Service": {"Type", "User", "Group", "UMask", "Environment", "EnvironmentFile", "WorkingDirectory"}
    | {"ExecStart", "ExecStartPre", "SuccessExitStatus", "Restart", "RestartSec", "RestartPreventExitStatus"}
    | {"RestartForceExitStatus"}
    | {"KillMode", "KillSignal", "TimeoutStopSec", "TimeoutStartSec", "LimitNOFILE", "NoNewPrivileges"}
    | {"ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths", "Nice", "MemoryMax"},
    "Timer": {"OnCalendar", "AccuracySec", "Persistent", "RandomizedDelaySec", "Unit", "OnBootSec"},
    "Install": {"WantedBy", "RequiredBy"},
}
SBATCH = {"job-name", "nodes", "ntasks", "cpus-per-task", "gpus-per-node", "mem", "time", "requeue"} | {
    "open-mode",
    "signal",
    "output",
    "partition",
    "account",
    "begin",
}


def load(name: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load((DEPLOY / name).read_text(encoding="utf-8"))


def misfits(value: Any, kind: str, path: str) -> list[str]:
    """Where a value is not what a type of the API says."""
    if kind == "any":
        return []
    if kind in PLAIN:
        fits = isinstance(value, PLAIN[kind]) and (kind == "boolean" or not isinstance(value, bool))
        return [] if fits else [f"{path}: {value!r} is no {kind}"]
    if kind.startswith(("[", "{")):
        wanted = list if kind[0] == "[" else dict
        if not isinstance(value, wanted):
            return [f"{path}: {value!r} is no {wanted.__name__}"]
        items = enumerate(value) if wanted is list else value.items()
        return [line for key, item in items for line in misfits(item, kind[1:-1], f"{path}.{key}")]
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no {kind}"]
    known = TYPES[kind]
    found = [f"{path}.{key}: missing" for key in known["required"] if key not in value]
    for key, item in value.items():
        if key not in known["fields"]:
            found.append(f"{path}.{key}: unknown in {kind}")
        else:
            found += misfits(item, known["fields"][key], f"{path}.{key}")
    return found


def requests(job: dict[str, Any]) -> dict[str, Any]:
    """What a worker of Ray's takes."""
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    return container["resources"]["requests"]


@pytest.mark.parametrize(("name", "kinds"), OBJECTS.items())
def test_objects_have_the_fields_of_their_kind(name, kinds):
    kind, version, word = kinds
    document = load(name)
    assert (document["apiVersion"], document["kind"]) == (version, word)
    assert misfits(document, kind, word) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job["spec"].update(entryPoint="x"), "RayJob.spec.entryPoint: unknown in RayJobSpec"),
        (lambda job: job["spec"].update(backoffLimit="2"), "RayJob.spec.backoffLimit: '2' is no integer"),
        (lambda job: job["spec"].update(suspend=1), "RayJob.spec.suspend: 1 is no boolean"),
        (
            lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec"),
            "RayJob.spec.rayClusterSpec.headGroupSpec: missing",
        ),
        (
            lambda job: requests(job).update(cpu=4),
            "template.spec.containers.0.resources.requests.cpu: 4 is no string",
        ),
    ],
)
def test_the_check_of_fields_finds_mistakes(change, message):
    job = load("kuberay/rayjob.yaml")
    change(job)
    assert any(line.endswith(message) for line in misfits(job, "RayJob", "RayJob"))


def test_the_cron_job_of_kuberay_starts_the_job_of_kuberay():
    assert load("kuberay/raycronjob.yaml")["spec"]["jobTemplate"] == load("kuberay/rayjob.yaml")["spec"]


def test_rays_version_is_the_pinned_one():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned
    assert load("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]


def test_clusters_on_kubernetes_ask_for_a_token():
    for spec in (load("kuberay/rayjob.yaml")["spec"], load("kuberay/raycronjob.yaml")["spec"]["jobTemplate"]):
        assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", ["kuberay/raycronjob.yaml", "kubernetes/cronjob.yaml"])
def test_schedules_are_five_fields_in_a_time_zone_that_there_is(name):
    spec = load(name)["spec"]
    assert_cron(spec["schedule"])
    assert spec["timeZone"] in zoneinfo.available_timezones()


def assert_cron(schedule: str) -> None:
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    fields = schedule.split()
    assert len(fields) == len(limits), schedule
    for field, (least, most) in zip(fields, limits, strict=True):
        for number in re.findall(r"\d+", field.partition("/")[0]):
            assert least <= int(number) <= most, schedule
        assert re.fullmatch(r"(\*|\d+(-\d+)?)(/\d+)?(,\d+(-\d+)?)*", field), schedule


def test_a_closed_window_is_retried_by_nobody():
    job = load("kubernetes/cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    assert "--batch" in job["template"]["spec"]["containers"][0]["command"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    (service,) = unit("sdesweep@.service")["Service"]["ExecStart"]
    assert "--batch" in service
    assert "--batch" in (DEPLOY / "cron" / "sdesweep").read_text(encoding="utf-8")


def test_a_run_that_lost_its_cluster_or_its_store_is_tried_again_the_same_night():
    """With --batch such a run alone ends with 75."""
    service = unit("sdesweep@.service")["Service"]
    assert service["RestartForceExitStatus"] == ["75"]
    assert service["SuccessExitStatus"] == ["75"]  # after `systemctl stop`, which nothing tries again
    assert load("kubernetes/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["backoffLimit"] > 0


def test_a_stop_leaves_time_for_the_drain():
    pod = load("kubernetes/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > DRAIN_GRACE + 15
    service = unit("sdesweep@.service")["Service"]
    assert int(service["TimeoutStopSec"][0]) > DRAIN_GRACE + 15
    assert service["KillMode"] == ["mixed"]  # Ray's processes must outlive the drain
    (signal,) = re.findall(r"--signal=B:TERM@(\d+)", slurm())
    assert int(signal) > DRAIN_GRACE + 15


# --- systemd, cron, Slurm -----------------------------------------------------------------------------------


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Section -> directive -> its values, in order."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = {}
            continue
        key, separator, value = line.partition("=")
        assert separator, f"{name}: {line!r} is no directive"
        found[section].setdefault(key, []).append(value)
    return found


UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())


@pytest.mark.parametrize("name", UNITS)
def test_units_have_directives_that_systemd_knows(name):
    found = unit(name)
    assert set(found) <= set(DIRECTIVES)
    for section, values in found.items():
        assert set(values) <= DIRECTIVES[section], section
    assert ("Timer" in found) == name.endswith(".timer")
    assert ("Service" in found) == name.endswith(".service")


def test_the_timer_starts_the_service_of_its_name_at_a_time_in_a_zone():
    assert {"sdesweep@.service", "sdesweep@.timer"} <= set(UNITS)
    (calendar,) = unit("sdesweep@.timer")["Timer"]["OnCalendar"]
    days, date, time, zone = calendar.split()
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(\.\.(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?", days)
    assert date == "*-*-*"
    assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d", time)
    assert zone in zoneinfo.available_timezones()


@pytest.mark.parametrize("name", ["ray-head.service", "ray-worker.service", "sdesweep@.service"])
def test_services_ask_for_the_token(name):
    (environment,) = unit(name)["Service"]["Environment"]
    assert "RAY_AUTH_MODE=token" in environment.split()
    assert any(each.startswith("RAY_AUTH_TOKEN_PATH=/") for each in environment.split())
    assert unit(name)["Service"]["UMask"] == ["0077"]


def test_the_head_hides_its_dashboard():
    (command,) = unit("ray-head.service")["Service"]["ExecStart"]
    assert "--dashboard-host=127.0.0.1" in command
    assert "--block" in command


def cron_lines() -> list[str]:
    lines = (DEPLOY / "cron" / "sdesweep").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_cron_table_has_settings_and_one_line_with_a_user():
    settings = [line for line in cron_lines() if re.match(r"[A-Z_]+=", line)]
    (line,) = [line for line in cron_lines() if line not in settings]
    assert_cron(" ".join(line.split()[:5]))
    assert line.split()[5] == "sdesweep"  # /etc/cron.d names the user
    assert "%" not in line  # cron reads it as the end of the line
    assert "RAY_AUTH_MODE=token" in settings


def slurm() -> str:
    return (DEPLOY / "slurm" / "sdesweep.sbatch").read_text(encoding="utf-8")


def test_the_slurm_script_has_options_that_sbatch_knows_and_is_sound_shell():
    options = re.findall(r"^#SBATCH --([a-z-]+)", slurm(), re.M)
    assert set(options) <= SBATCH
    assert len(options) == slurm().count("\n#SBATCH")
    subprocess.run(["sh", "-n", str(DEPLOY / "slurm" / "sdesweep.sbatch")], check=True)


def test_the_slurm_script_queues_itself_again_when_it_is_incomplete(tmp_path):
    """With a command that ends with 75, as ours does, and another that ends with 0."""
    for code, requeued in ((75, True), (0, False), (1, False)):
        bin_ = tmp_path / str(code)
        bin_.mkdir()
        asked = bin_ / "asked"
        script = slurm().replace("/opt/sdesweep/.venv/bin/sdesweep", str(bin_ / "sdesweep"))
        for name, content in {
            "sdesweep": f'echo "$@" > {bin_}/arguments\nexit {code}',
            "scontrol": f'echo "$@" > {asked}',
        }.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{content}\n")
            (bin_ / name).chmod(0o755)
        (bin_ / "job").write_text(script)
        environment = {
            "PATH": f"{bin_}:/usr/bin:/bin",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_END_TIME": "1795330800",
        }
        done = subprocess.run(["sh", str(bin_ / "job"), "a.yaml", "/runs"], env=environment, check=False)
        assert done.returncode == code
        assert asked.exists() == requeued
        arguments = (bin_ / "arguments").read_text().strip()
        assert arguments == "run a.yaml --store /runs --ignore-window --until 2026-11-22T07:00:00+00:00"


# --- our own command ----------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Every call of sdesweep that the files make, as arguments."""
    kuberay = load("kuberay/rayjob.yaml")["spec"]["entrypoint"]
    pod = load("kubernetes/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (service,) = unit("sdesweep@.service")["Service"]["ExecStart"]
    (cron,) = [line for line in cron_lines() if line.startswith("0 ")]
    (slurm_line,) = [line for line in slurm().splitlines() if "/sdesweep run" in line]
    texts = [kuberay, service, cron.split(None, 6)[6].partition(" >>")[0], slurm_line.rstrip(" &")]
    return [shlex.split(text) for text in texts] + [pod["containers"][0]["command"]]


def test_commands_are_ours():
    assert len(commands()) == 5
    for program, name, *arguments in commands():
        assert program.rsplit("/", 1)[-1] == "sdesweep"
        context = main.commands[name].make_context(name, list(arguments))
        assert context.params["store"]
        assert context.params["specs"]


def test_the_scrape_of_prometheus_reads_the_file_that_ray_writes():
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (job,) = load("prometheus/scrape.yml")["scrape_configs"]
    assert set(job) <= {"job_name", "file_sd_configs", "static_configs", "scrape_interval", "metrics_path"}
    ((path,),) = [each["files"] for each in job["file_sd_configs"]]
    assert path == f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"


def test_the_readme_names_every_file():
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert f"`{path.relative_to(DEPLOY)}`" in readme, path
