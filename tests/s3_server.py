"""An S3 server for tests: moto's, one request at a time, with faults on demand.

moto looks whether a key is taken and writes it in two steps, so of two simultaneous conditional PUTs both can
win; served one at a time they are as atomic as S3's. Run it as `s3_server.py PORT_FILE`: it listens on a free
port, and writes the port there. Faults are asked for by `POST /-/FAULT/COUNT` and strike so many requests:

    slow      503 SlowDown, as S3 throttles
    part      the same, to parts of an upload only
    expired   400 ExpiredToken: the credentials have run out
    skew      403 RequestTimeTooSkewed: the client's clock is off
    denied    403 AccessDenied, to DELETE only
    conflict  409 ConditionalRequestConflict, to conditional PUTs only
    drop      the request is done, but its answer is 500: as if the connection had broken after it
    cut       the connection breaks in the middle of the answer to a GET
    forget    the condition of a PUT is ignored, as by servers that do not know it
"""

from __future__ import annotations

import io
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REFUSALS = {
    "slow": ("503 Slow Down", "SlowDown"),
    "part": ("503 Slow Down", "SlowDown"),
    "expired": ("400 Bad Request", "ExpiredToken"),
    "skew": ("403 Forbidden", "RequestTimeTooSkewed"),
    "denied": ("403 Forbidden", "AccessDenied"),
    "conflict": ("409 Conflict", "ConditionalRequestConflict"),
}


class FaultyServer:
    """A WSGI application around moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._faults: Counter[str] = Counter()
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(content)  # read by now, whatever becomes of the request
        with self._turn:
            return list(self._answer(environ, start))

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/-/"):
            _, _, fault, count = path.split("/")
            self._faults[fault] = int(count)
            start("204 No Content", [])
            return []
        concerned = {
            "part": "partNumber=" in environ.get("QUERY_STRING", ""),
            "denied": environ["REQUEST_METHOD"] == "DELETE",
            "conflict": "HTTP_IF_NONE_MATCH" in environ,
        }
        for fault, (status, code) in REFUSALS.items():
            if concerned.get(fault, True) and self._strikes(fault):
                return _refuse(start, status, code)
        if environ["REQUEST_METHOD"] == "GET" and self._strikes("cut"):
            content = b"".join(self._moto(environ, start))
            return [content[: len(content) // 2]]
        if self._strikes("forget"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if self._strikes("drop"):
            list(self._moto(environ, lambda *arguments: lambda data: None))
            return _refuse(start, "500 Internal Server Error", "InternalError")
        return self._moto(environ, start)

    def _strikes(self, fault: str) -> bool:
        self._faults[fault] -= 1
        return self._faults[fault] >= 0


def _refuse(start: Callable[..., Any], status: str, code: str) -> Iterable[bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on demand</Message></Error>".encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [text]


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, FaultyServer(), threaded=True)
    Path(sys.argv[1]).write_text(str(server.server_port))
    server.serve_forever()
