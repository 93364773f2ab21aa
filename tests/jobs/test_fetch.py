"""Downloads: resumed where they broke off, whole or not there at all, and what is said when they fail."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from http_server import Behaviour, serving

from jobs.models.fetch import TRIES, FetchError, UnreachableError, fetch

CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def no_pause(seconds: float) -> None:
    """Tests do not wait."""


def test_a_download_that_is_cut_again_and_again_arrives_whole(tmp_path: Path):
    server = Behaviour(CONTENT, cut_after=[100_000, 1, 0, 50_000])
    told: list[tuple[int, int | None]] = []
    with serving(server) as url:
        fetched = fetch(
            f"{url}/weights.pth",
            tmp_path / "weights.pth",
            DIGEST,
            lambda done, total: told.append((done, total)),
            no_pause,
        )
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert (fetched.sha256, fetched.size) == (DIGEST, len(CONTENT))
    assert server.asked == ["", "bytes=100000-", "bytes=100001-", "bytes=100001-", "bytes=150001-"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(tmp_path: Path):
    server = Behaviour(CONTENT, cut_after=[200_000, *[0] * TRIES])
    with serving(server) as url:
        with pytest.raises(UnreachableError, match="200,000 bytes of it are kept"):
            fetch(f"{url}/w", tmp_path / "w", pause=no_pause)
        assert not (tmp_path / "w").exists()
        fetched = fetch(f"{url}/w", tmp_path / "w", pause=no_pause)
    assert fetched.resumed == 200_000
    assert server.asked[-1] == "bytes=200000-"
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_it_waits_longer_and_longer_where_nothing_comes(tmp_path: Path):
    waited: list[float] = []
    with serving(Behaviour(CONTENT, cut_after=[0] * TRIES)) as url, pytest.raises(UnreachableError):
        fetch(f"{url}/w", tmp_path / "w", pause=waited.append)
    assert waited == [1.0, 2.0, 4.0, 8.0]
    assert list(tmp_path.iterdir()) == []


def test_another_file_on_the_server_begins_again(tmp_path: Path):
    server = Behaviour(CONTENT, cut_after=[200_000, *[0] * TRIES])
    with serving(server) as url:
        with pytest.raises(UnreachableError):
            fetch(f"{url}/w", tmp_path / "w", pause=no_pause)
        server.content, server.etag = CONTENT[::-1], '"two"'
        fetch(f"{url}/w", tmp_path / "w", pause=no_pause)
    assert (tmp_path / "w").read_bytes() == CONTENT[::-1]


def test_the_rest_of_another_address_is_not_continued(tmp_path: Path):
    server = Behaviour(CONTENT, cut_after=[200_000, *[0] * TRIES])
    with serving(server) as url:
        with pytest.raises(UnreachableError):
            fetch(f"{url}/one", tmp_path / "w", pause=no_pause)
        fetch(f"{url}/two", tmp_path / "w", pause=no_pause)
        assert server.asked[-1] == ""
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("server", "digest"),
    [
        (Behaviour(CONTENT, ranges=False, cut_after=[100_000]), None),
        (Behaviour(CONTENT, etag=None, cut_after=[100_000]), None),
        (Behaviour(CONTENT, etag='W/"weak"', cut_after=[100_000]), None),
        (Behaviour(CONTENT, etag=None, cut_after=[100_000]), DIGEST),
    ],
)
def test_servers_that_cannot_resume_or_do_not_say_what_they_have(tmp_path: Path, server: Behaviour, digest):
    with serving(server) as url:
        fetch(f"{url}/w", tmp_path / "w", digest, pause=no_pause)
    assert (tmp_path / "w").read_bytes() == CONTENT
    resumes = server.ranges and digest is not None  # what is checked at the end may go on
    assert (server.asked[-1] != "") == (resumes or not server.ranges)


def test_a_server_that_says_no_length(tmp_path: Path):
    with serving(Behaviour(CONTENT, length=False)) as url:
        assert fetch(f"{url}/w", tmp_path / "w", DIGEST).size == len(CONTENT)


def test_a_complete_rest_is_not_asked_for_again(tmp_path: Path):
    """Stopped between the last byte and the renaming."""
    server = Behaviour(CONTENT)
    with serving(server) as url:
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{url}/w", tmp_path / "w", progress=_interrupt_at_the_end)
        assert fetch(f"{url}/w", tmp_path / "w").resumed == len(CONTENT)
    assert (tmp_path / "w").read_bytes() == CONTENT


def _interrupt_at_the_end(done: int, total: int | None) -> None:
    if done == total:
        raise KeyboardInterrupt


def test_another_sha256_leaves_nothing(tmp_path: Path):
    (tmp_path / "w").write_bytes(b"the old one")
    with serving(Behaviour(CONTENT)) as url, pytest.raises(FetchError, match=f"has sha256 {DIGEST}, not a+:"):
        fetch(f"{url}/w", tmp_path / "w", "a" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert (tmp_path / "w").read_bytes() == b"the old one"


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (Behaviour(b"", status=404), "the server says 404"),
        (Behaviour(b"<html>", kind="text/html"), "is an HTML page, no file"),
    ],
)
def test_what_the_server_refuses(tmp_path: Path, server: Behaviour, message: str):
    with serving(server) as url, pytest.raises(FetchError, match=message):
        fetch(f"{url}/w", tmp_path / "w", pause=no_pause)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(tmp_path: Path):
    server = Behaviour(CONTENT, status=503)

    def recover(seconds: float) -> None:
        server.status = 200

    with serving(server) as url:
        fetch(f"{url}/w", tmp_path / "w", DIGEST, pause=recover)
    assert len(server.asked) == 2


def test_no_network_and_wrong_addresses(tmp_path: Path):
    with pytest.raises(UnreachableError, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/w", tmp_path / "w", pause=no_pause)
    with pytest.raises(FetchError, match="is no http or https address"):
        fetch("file:///etc/hostname", tmp_path / "w")


def test_two_fetches_of_one_file_do_not_meet(tmp_path: Path):
    with serving(Behaviour(CONTENT)) as url:

        def again(done: int, total: int | None) -> None:
            with pytest.raises(FetchError, match="another fetch of w is at work"):
                fetch(f"{url}/w", tmp_path / "w")

        fetch(f"{url}/w", tmp_path / "w", progress=again)
