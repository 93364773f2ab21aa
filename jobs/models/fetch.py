"""Downloading one file over HTTP: resumed where it broke off, checked by sha256, never half in its place.

What has arrived is kept beside the target (`.partial`, with what the server said of the file), so that the
next call goes on there, as long as the server still has the same file. Knows addresses, no names of models.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jobs.fingerprint import file_sha256

CHUNK = 1 << 18  # bytes read at a time
TRIES = 5  # in a row without a byte more
TRIES_UNREACHED = 2  # of them where the server never answered
TIMEOUT = 30.0  # seconds that a server may be silent

#: Told how many bytes are here and how many there will be; None where the server does not say.
Progress = Callable[[int, int | None], None]


class FetchError(Exception):
    """A file that cannot be downloaded; the message says what to do instead."""


class UnreachableError(FetchError):
    """The server was not reached, or went away; another attempt may help."""


@dataclass(frozen=True)
class Fetched:
    """A file that is here now."""

    path: Path
    sha256: str
    size: int
    resumed: int  # bytes that were here before


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    progress: Progress = lambda done, total: None,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Download a file.

    Args:
        url: http or https.
        target: replaced at once when everything has arrived and is right.
        sha256: what it must have.
        pause: waits before another attempt, half a second, 1, 2, 4, ... where nothing comes.

    Raises:
        UnreachableError: no network, or the connection broke off TRIES times without a byte more.
        FetchError: the server refuses, has something else, or another fetch of this file is at work.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url} is no http or https address")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _held(target.with_name(f"{target.name}.partial"), sha256 is not None) as partial:
        resumed = partial.path.stat().st_size
        _complete(url, partial, progress, pause)
        found, size = file_sha256(partial.path), partial.path.stat().st_size
        if sha256 is not None and found != sha256:
            partial.remove()
            raise FetchError(f"{url} has sha256 {found}, not {sha256}: what arrived was thrown away")
        os.replace(partial.path, target)
        partial.state.unlink(missing_ok=True)
    return Fetched(target, found, size, resumed)


@dataclass
class _Partial:
    """What has arrived, and what the server said of the file that it is part of."""

    path: Path
    file: BinaryIO
    checked: bool  # by sha256 at the end, so that it may go on where the server does not say what it has

    @property
    def state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def known(self, url: str) -> dict[str, Any]:
        """What was noted; empty, and nothing kept, where it is of another address."""
        try:
            noted: dict[str, Any] = json.loads(self.state.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            noted = {}
        if noted.get("url") != url or not (noted.get("validator") or self.checked):
            self.restart()
            return {}
        return noted

    def note(self, url: str, headers: Mapping[str, str], total: int | None) -> None:
        validator = headers.get("ETag") or headers.get("Last-Modified") or ""
        validator = "" if validator.startswith("W/") else validator  # weak ones do not promise equal bytes
        self.state.write_text(
            json.dumps({"url": url, "validator": validator, "total": total}), encoding="utf-8"
        )

    def restart(self) -> None:
        self.file.truncate(0)
        self.file.seek(0)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


@contextmanager
def _held(path: Path, checked: bool) -> Iterator[_Partial]:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"another fetch of {path.name.removesuffix('.partial')} is at work") from None
        yield _Partial(path, file, checked)


def _complete(url: str, partial: _Partial, progress: Progress, pause: Callable[[float], None]) -> None:
    """Attempt after attempt until everything is here."""
    failures, reached = 0, False
    while True:
        before = partial.file.seek(0, os.SEEK_END)
        try:
            if _attempt(url, partial, progress):
                return
            reason: object = "the connection broke off"
            reached = True
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                raise FetchError(f"{url}: the server says {error.code} {error.reason}") from error
            reason = getattr(error, "reason", None) or error or type(error).__name__
            reached |= not isinstance(error, urllib.error.URLError) or isinstance(
                error, urllib.error.HTTPError
            )
        after = partial.file.seek(0, os.SEEK_END)
        failures = 0 if after > before else failures + 1
        if failures >= (TRIES if reached else TRIES_UNREACHED):
            if not after:
                partial.remove()
            kept = f"; {after:,} bytes of it are kept" if after else ""
            raise UnreachableError(f"{url} cannot be fetched ({reason}){kept}")
        pause(0.5 * 2.0**failures)


def _attempt(url: str, partial: _Partial, progress: Progress) -> bool:
    """Ask for what is missing and take it; True when everything is here."""
    noted = partial.known(url)
    start = partial.file.seek(0, os.SEEK_END)
    headers = {"Accept-Encoding": "identity", "User-Agent": "sdesweep"}
    if start:
        headers["Range"] = f"bytes={start}-"
        headers |= {"If-Range": noted["validator"]} if noted["validator"] else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left beyond what is here
            raise
        if start == noted.get("total"):
            return True
        partial.restart()
        return False
    with response:
        if response.headers.get_content_type() == "text/html":
            raise FetchError(
                f"{url} is an HTML page, no file: it may need a click or a login; open it by hand"
            )
        length = response.headers.get("Content-Length")
        if response.status == 206 and _starts_at(response.headers, start):
            total = None if length is None else start + int(length)
        else:
            partial.restart()
            start, total = 0, None if length is None else int(length)
            partial.note(url, response.headers, total)
        return _take(response, partial.file, start, total, progress)


def _starts_at(headers: Mapping[str, str], start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _take(response: Any, file: BinaryIO, start: int, total: int | None, progress: Progress) -> bool:
    """Append what the server sends; True when it is everything."""
    here = start
    progress(here, total)
    while block := response.read(CHUNK):
        file.write(block)
        here += len(block)
        progress(here, total)
    file.flush()
    os.fsync(file.fileno())
    return total is None or here == total
