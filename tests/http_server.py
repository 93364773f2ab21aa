"""A local HTTP server with the faults that downloads meet: cut connections, other files, no ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How the server answers; tests change it between requests.

    cut_after: bytes of a body after which the connection is closed, once for each entry.
    """

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    length: bool = True
    status: int = 200
    kind: str = "application/octet-stream"
    cut_after: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # Range headers, as they came


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """While the block lasts: the address of a server that behaves so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            behaviour.asked.append(wanted)
            if behaviour.status != 200:
                self.send_error(behaviour.status)
                return
            start = 0
            whole = self.headers.get("If-Range", behaviour.etag) != behaviour.etag
            if behaviour.ranges and wanted and not whole:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start and start >= len(behaviour.content):
                self.send_error(416)
                return
            body = behaviour.content[start:]
            self.send_response(206 if start else 200)
            if start:
                end = len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            self.send_header("Content-Type", behaviour.kind)
            if behaviour.etag:
                self.send_header("ETag", behaviour.etag)
            if behaviour.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if behaviour.cut_after:
                body = body[: behaviour.cut_after.pop(0)]
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Tests print nothing."""

    with listening(Handler) as address:
        yield address


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """While the block lasts: the address of a server on this machine whose requests go to the handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
