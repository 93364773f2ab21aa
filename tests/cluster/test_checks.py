"""What is checked of tokens, heads, stores and machines: every fault is found and comes with a remedy."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fake_head import answers, fake_head
from http_server import listening

from cluster import checks, head, machine_checks
from cluster.access import MODE, PATH, VALUE, Token, find_token, use_token
from cluster.checks import Check, cluster_checks, failures, resource_check, store_checks, token_checks
from cluster.demand import GIB, Demand
from cluster.head import HeadError
from cluster.machine_checks import RayProcess, port_checks
from jobs.specs.sections import Resources
from jobs.store_local import LocalStore

TOKEN = Token("secret")
LARGE = {"CPU": 16.0, "GPU": 4.0, "memory": 2.0**36}


def verdicts(found: list[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in found}


def the(found: list[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (VALUE, PATH, MODE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


# --- the token ----------------------------------------------------------------------------------------------


def test_a_token_is_found_where_ray_looks_for_it(home, monkeypatch):
    assert find_token() is None
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_text("of the file\n")
    assert find_token() == Token("of the file", file)
    other = home / "other"
    other.touch(mode=0o600)
    other.write_text("of another")
    monkeypatch.setenv(PATH, str(other))
    assert find_token() == Token("of another", other)
    monkeypatch.setenv(VALUE, "of the environment")
    assert find_token() == Token("of the environment")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o622])
def test_a_token_that_others_can_read_or_change_fails(home, monkeypatch, mode):
    file = home / "token"
    file.write_text("secret")
    file.chmod(mode)
    monkeypatch.setenv(PATH, str(file))
    token, (check,) = token_checks(find_token)
    assert check.verdict == "failed"
    assert f"chmod 600 {file}" in check.remedy
    file.chmod(0o600)
    assert token_checks(find_token)[1][0].verdict == "ok"
    assert token is not None
    assert "secret" not in repr(token)
    assert "secret" not in str(check)


def test_a_token_that_is_missing_empty_or_unreadable_is_told(home, monkeypatch):
    assert token_checks(find_token)[1][0].verdict == "warning"
    monkeypatch.setenv(PATH, str(home / "absent"))
    assert token_checks(find_token)[1][0].verdict == "failed"
    (home / "absent").touch(mode=0o600)
    assert token_checks(find_token)[1][0].found.endswith("is empty")
    (home / "absent").write_bytes(b"\xff\xfe")
    assert token_checks(find_token)[1][0].verdict == "failed"


def test_ray_is_told_outright_whether_to_authenticate(home, monkeypatch):
    monkeypatch.setenv(MODE, "token")
    use_token(None)
    assert os.environ[MODE] == "disabled"
    use_token(Token("x", home / "token"))
    assert (os.environ[MODE], os.environ[PATH]) == ("token", str(home / "token"))


# --- the head -----------------------------------------------------------------------------------------------


def test_a_head_that_is_as_it_should_be():
    with fake_head(answers(nodes=(LARGE, LARGE)), "secret") as address:
        cluster, found = cluster_checks(address, TOKEN)
    assert set(verdicts(found).values()) <= {"ok"}
    assert cluster is not None
    assert (cluster.guarded, cluster.interpreter, cluster.autoscaled) == (True, "/opt/venv/bin/python", False)
    assert [machine.resources["GPU"] for machine in cluster.machines] == [4.0, 4.0]
    assert the(found, "machines").found == "2 with 16 CPUs, 4 GPUs, 64.0 GiB"


@pytest.mark.parametrize(
    ("token", "words"), [(None, "asks for a token; there is none"), (Token("other"), "refuses the token")]
)
def test_a_head_that_lets_this_user_not_in(token, words):
    with fake_head(answers(), "secret") as address:
        cluster, found = cluster_checks(address, token)
    assert cluster is None
    assert words in the(found, "access").found
    assert "token" in the(found, "access").remedy


def test_an_open_head_fails_unless_it_is_tolerated():
    with fake_head(answers()) as address:
        check = the(cluster_checks(address, None)[1], "authentication")
        assert check.verdict == "failed"
        assert "CVE-2023-48022" in check.found
        assert "--allow-unauthenticated" in check.remedy
        cluster, found = cluster_checks(address, None, tolerate_open=True)
    assert the(found, "authentication").verdict == "warning"
    assert cluster is not None
    assert not cluster.guarded


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("http://127.0.0.1:8265", True),
        ("http://localhost:8265", True),
        ("127.0.0.1:8265", True),
        ("http://[::1]:8265", True),
        ("http://127.0.0.1.example.org:8265", False),
        ("http://192.0.2.10:8265", False),
        ("https://head:8265", False),
    ],
)
def test_what_counts_as_loopback(address, loopback):
    assert head.on_loopback(address) is loopback


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "http://head", "http://head:x", "file:///x"])
def test_addresses_that_are_none_are_refused_with_the_right_form(address):
    cluster, (check,) = cluster_checks(address, None)
    assert cluster is None
    assert check.verdict == "failed"
    assert "8265" in check.found


def test_a_head_that_is_not_there_is_told_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    cluster, (check,) = cluster_checks(f"http://127.0.0.1:{port}", None)
    assert time.monotonic() - began < 5
    assert cluster is None
    assert "Connection refused" in check.found
    assert "ssh -N -L" in check.remedy


@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x03\x00\x02\x02\x46", b""])
def test_a_port_of_something_else_is_told_and_no_crash(says):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        cluster, (check,) = cluster_checks(f"http://127.0.0.1:{server.getsockname()[1]}", TOKEN)
        thread.join()
    assert cluster is None
    assert (check.name, check.verdict) == ("reachable", "failed")


def test_https_where_http_is_spoken_is_told():
    with fake_head(answers(), "secret") as address:
        cluster, (check,) = cluster_checks(address.replace("http:", "https:"), TOKEN)
    assert cluster is None
    assert "write http://" in check.remedy


def test_a_proxy_that_is_in_the_way_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_head(answers(), "secret") as address:
        _, (check,) = cluster_checks(address, TOKEN)
        assert "by way of the proxy http://127.0.0.1:9: NO_PROXY=127.0.0.1" in check.found
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert not failures(cluster_checks(address, TOKEN)[1])


def test_the_token_does_not_follow_an_answer_that_points_elsewhere():
    seen: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization"))
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Elsewhere) as other:

        class Pointing(Elsewhere):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"{other}{self.path}")
                self.end_headers()

        with listening(Pointing) as address, pytest.raises(HeadError, match="302"):
            head.ask(address, "/api/version", "secret")
    assert seen == []


def test_something_else_that_answers_is_no_head():
    with fake_head({"/api/jobs/": []}) as address:
        cluster, found = cluster_checks(address, None)
    assert cluster is None
    assert "404" in the(found, "access").found


@pytest.mark.parametrize(
    ("words", "autoscaled"),
    [("======== Autoscaler status: 2026-11-22 ========", True), ("No cluster status. It may take", False)],
)
def test_an_autoscaler_that_tells_in_words_alone_is_known(words, autoscaled):
    """As Ray 2.60 answers with its second autoscaler, and for a while after its start without any."""
    told = {"/api/cluster_status?format=1": {"data": {"clusterStatus": words}}}
    says = answers() | {"/api/cluster_status": {"data": {"clusterStatus": None}}} | told
    with fake_head(says, "secret") as address:
        cluster, _ = cluster_checks(address, TOKEN)
    assert cluster is not None
    assert cluster.autoscaled is autoscaled


@pytest.mark.parametrize("path", ["/api/version", "/api/v0/nodes", "/api/cluster_status", "/nodes"])
@pytest.mark.parametrize("says", [None, [], "text", {"data": None}, {"data": {}}], ids=str)
def test_answers_of_another_form_are_told_and_no_crash(path, says):
    with fake_head(answers() | {path: says}, "secret") as address:
        cluster, found = cluster_checks(address, TOKEN)
    if path == "/api/cluster_status" and says == {"data": {}}:
        assert cluster is not None  # it knows of no autoscaler
    else:
        assert cluster is None
        assert "not those of a head that is known here" in the(found, "access").found


@pytest.mark.parametrize(
    ("says", "name", "verdict"),
    [
        ({"ray": "nightly"}, "version", "failed"),
        ({"python": "3"}, "python", "failed"),
        ({"ray": "2.9.3"}, "version", "failed"),
        ({"ray": "2.61.0"}, "version", "warning"),
        ({"python": "3.9.18"}, "python", "failed"),
        ({"dashboard": "10.0.0.1:8265"}, "dashboard", "warning"),
        ({"dashboard": "0.0.0.0:8265"}, "dashboard", "warning"),
    ],
)
def test_what_is_wrong_with_a_head_comes_with_a_remedy(says, name, verdict):
    with fake_head(answers(**says), "secret") as address:
        check = the(cluster_checks(address, TOKEN)[1], name)
    assert check.verdict == verdict
    assert check.remedy


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "ok"), (60, "failed"), (-60, "failed")])
def test_a_clock_that_is_off_fails(ahead, verdict):
    date = formatdate(time.time() + ahead, usegmt=True)
    with fake_head(answers(), "secret", date) as address:
        assert the(cluster_checks(address, TOKEN)[1], "clock").verdict == verdict


@pytest.mark.parametrize(
    ("demand", "kind", "verdict"),
    [
        (Demand(), "node_1", "ok"),
        (Demand(gpus=4.0, least=2), "node_1", "ok"),
        (Demand(gpus=4.0, least=3), "node_1", "warning"),
        (Demand(gpus=5.0), "node_1", "failed"),
        (Demand(gpus=5.0, least=4), "ray.worker.gpu", "warning"),
        (Demand(gpus=5.0), "ray.worker.gpu", "failed"),  # nothing would ask the autoscaler for machines
        (Demand(selectors=({"zone": "a"},)), "node_1", "failed"),
    ],
)
def test_whether_workers_can_ever_fit(demand, kind, verdict):
    with fake_head(answers(nodes=(LARGE, LARGE), kind=kind), "secret") as address:
        cluster = cluster_checks(address, TOKEN)[0]
    assert cluster is not None
    check = resource_check(cluster, demand)
    assert check.verdict == verdict
    assert "2 with 16 CPUs, 4 GPUs" in check.found
    assert bool(check.remedy) is (verdict != "ok")


@pytest.mark.parametrize(
    ("nodes", "kind", "gpus", "verdicts_"),
    [
        ((), "ray.worker.gpu", None, ["failed"]),  # scaled to nothing
        (({"CPU": 8.0},), "ray.worker.gpu", None, ["warning"]),
        ((LARGE,), "ray.worker.gpu", None, []),
        ((), "ray.worker.gpu", 1.0, []),
        (({"CPU": 8.0},), "node_1", None, []),
    ],
)
def test_auto_is_not_decided_by_machines_that_are_not_there_yet(nodes, kind, gpus, verdicts_):
    with fake_head(answers(nodes=nodes, kind=kind), "secret") as address:
        cluster = cluster_checks(address, TOKEN)[0]
    assert cluster is not None
    found = list(checks.gpus_check(cluster, Resources(gpus=gpus), Demand()))
    assert [check.verdict for check in found] == verdicts_
    assert all("gpus" in check.remedy or "GPUs" in check.remedy for check in found)


# --- the store ----------------------------------------------------------------------------------------------


def test_a_store_that_can_be_used_and_is_left_as_it_was(tmp_path):
    found = store_checks(str(tmp_path / "store"))
    assert set(verdicts(found)) == {"store", "atomic", "space", "clock"}
    assert not failures(found)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_folder_that_was_not_there_is_told_as_it_may_be_a_mount_that_is_missing(tmp_path):
    check = the(store_checks(str(tmp_path / "store")), "store")
    assert (check.verdict, "mounted" in check.remedy) == ("warning", True)
    assert the(store_checks(str(tmp_path / "store")), "store").verdict == "ok"


def test_an_object_store_is_looked_at_in_the_same_way(s3_url):
    assert verdicts(store_checks(s3_url)) == {"store": "ok", "atomic": "ok", "clock": "ok"}


@pytest.mark.parametrize(
    ("fault", "name", "remedy"),
    [
        ("expired", "store", "get new ones"),
        ("skew", "store", "NTP"),
        ("denied", "store", "right to remove files"),
        ("forget", "atomic", "use another one"),
    ],
)
def test_what_is_wrong_with_an_object_store_comes_with_a_remedy(s3, s3_url, fault, name, remedy):
    s3.fault(fault, 1000)
    try:
        (check,) = failures(store_checks(s3_url))
    finally:
        s3.fault(fault, 0)
    assert check.name == name
    assert remedy in check.found + check.remedy
    assert not failures(store_checks(s3_url))


def test_a_store_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (check,) = store_checks(str(tmp_path / "file"))
    assert check.verdict == "failed"
    assert check.remedy


@pytest.mark.parametrize(("free", "verdict"), [(0.4, "failed"), (9.0, "warning"), (11.0, "ok")])
def test_little_room_is_told_and_next_to_none_fails(tmp_path, monkeypatch, free, verdict):
    usage = shutil.disk_usage(tmp_path)._replace(free=round(free * GIB))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage)
    check = the(store_checks(str(tmp_path / "store")), "space")
    assert check.verdict == verdict
    assert check.found.startswith(f"{free} GiB free")


def test_a_full_disk_is_told_as_that(tmp_path, monkeypatch):
    def full(self: LocalStore, name: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalStore, "put", full)
    (check,) = store_checks(str(tmp_path / "store"))
    assert (check.verdict, check.remedy) == ("failed", "make room")


def test_a_store_that_lets_two_writers_win_fails(tmp_path, monkeypatch):
    def careless(self: LocalStore, name: str, data: bytes) -> bool:
        self.put(name, data)
        return True

    monkeypatch.setattr(LocalStore, "put_if_absent", careless)
    check = the(store_checks(str(tmp_path)), "atomic")
    assert check.verdict == "failed"
    assert f"{checks.WRITERS} were told that they won" in check.found


def test_a_file_system_without_hard_links_fails_with_the_remedy(tmp_path, monkeypatch):
    def refuse(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    check = the(store_checks(str(tmp_path)), "atomic")
    assert check.verdict == "failed"
    assert "hard links" in check.remedy


# --- this machine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "verdict"),
    [
        (RayProcess("gcs", 7, False, ("0.0.0.0:6379",)), "failed"),
        (RayProcess("dashboard", 7, False, ("192.0.2.1:8265",)), "failed"),
        (RayProcess("dashboard", 7, False, ("127.0.0.1:8265",)), "warning"),
        (RayProcess("dashboard", 7, True, ("[::]:8265",)), "warning"),
        (RayProcess("raylet", 7, True, ("[::]:41223",)), "ok"),
        (RayProcess("dashboard", 7, True, ("127.0.0.1:8265", "[::1]:8265")), "ok"),
    ],
)
def test_ports_that_take_orders_from_the_network(process, verdict):
    (check,) = port_checks([process])
    assert check.verdict == verdict
    assert bool(check.remedy) is (verdict != "ok")


def test_sockets_of_a_process_are_found_by_the_system(monkeypatch):
    """This very process stands for one of Ray's."""
    words = Path("/proc/self/cmdline").read_bytes().decode().split("\0")[:3]
    monkeypatch.setattr(machine_checks, "RAY_PROCESSES", {words[0]: "dashboard"})
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        four.bind(("127.0.0.1", 0))
        six.bind(("::", 0))
        four.listen()
        six.listen()
        mine = next(each for each in machine_checks.ray_processes() if each.pid == os.getpid())
        assert f"127.0.0.1:{four.getsockname()[1]}" in mine.listens
        assert f"[::]:{six.getsockname()[1]}" in mine.listens
