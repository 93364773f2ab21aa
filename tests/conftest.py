"""What tests of all packages share: an S3 server of their own, and empty stores in it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START = 60.0  # seconds that the server may take, on a machine that is busy with other things
BUCKET = "tests"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Server:
    """A running server, and how processes find it."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint, "NO_PROXY": "127.0.0.1"}

    def fault(self, kind: str, count: int) -> None:
        """Let a fault of tests/s3_server.py strike the next requests."""
        self.request("POST", f"/-/{kind}/{count}")

    def request(self, method: str, path: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}{path}", method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=START).close()

    def new_url(self) -> str:
        """An empty store."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def start_s3_server(folder: Path) -> S3Server:
    """The caller ends its process."""
    port_file = folder / "port"
    script = Path(__file__).with_name("s3_server.py")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(script), str(port_file)], stdout=log, stderr=log)
    end = time.monotonic() + START
    while not (port_file.exists() and port_file.read_text()):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < end, "the S3 server did not start"
        time.sleep(0.05)
    server = S3Server(process, int(port_file.read_text()))
    server.request("PUT", f"/{BUCKET}")
    return server


@pytest.fixture(scope="session")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = start_s3_server(tmp_path_factory.mktemp("s3"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def s3(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, found by everything in this process through its environment."""
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return s3_process


@pytest.fixture(params=["folder", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind, in turn."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return request.getfixturevalue("s3").new_url()


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    return s3.new_url()
