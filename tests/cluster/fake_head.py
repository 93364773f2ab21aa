"""A head of a Ray cluster as far as it answers requests: what it says is given by a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from http_server import listening

CMDLINE = [
    "/x/raylet",
    "--python_worker_command=/opt/venv/bin/python setup.py --webui={dashboard} --gcs-address=10.0.0.1:1",
]


def answers(
    ray: str = "2.60.0",
    python: str = "3.11.9",
    dashboard: str = "127.0.0.1:8265",
    nodes: tuple[dict[str, Any], ...] = ({"CPU": 8.0, "memory": 2.0**34},),
    kind: str = "node_1",
) -> dict[str, Any]:
    """What a head with these properties says, by path."""
    listed = [
        {"state": "ALIVE", "resources_total": node, "labels": {"ray.io/node-id": str(number)}}
        for number, node in enumerate(nodes)
    ]
    cmdline = [text.format(dashboard=dashboard) for text in CMDLINE]
    return {
        "/api/version": {"ray_version": ray},
        "/api/jobs/": [],
        "/api/v0/cluster_metadata": {"data": {"rayVersion": ray, "pythonVersion": python}},
        "/api/v0/nodes": {"data": {"result": {"result": [*listed, {"state": "DEAD"}]}}},
        "/api/cluster_status": {
            "data": {"clusterStatus": {"autoscalerReport": {"nodeTypeMapping": {"1": kind}}}}
        },
        "/nodes": {"data": {"summary": [{"raylet": {"isHeadNode": True}, "cmdline": cmdline}]}},
    }


@contextmanager
def fake_head(says: dict[str, Any], token: str | None = None, date: str | None = None) -> Iterator[str]:
    """Its address. token: demanded of every request. date: of its clock, as HTTP writes it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("authorization")
            if token is not None and given != f"Bearer {token}":
                self._send(401 if given is None else 403, b"no")
                return
            path = self.path if self.path in says else self.path.partition("?")[0]
            self._send(200 if path in says else 404, json.dumps(says.get(path)).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response_only(status)
            if date is not None:
                self.send_header("Date", date)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Handler) as address:
        yield address
