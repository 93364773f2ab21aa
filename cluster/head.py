"""What the head of a Ray cluster tells over HTTP: version, machines, how it was started, whom it lets in.

Plain requests, so that a head which is not there, is no Ray, or refuses the token gives a clear answer at
once, where Ray's own client waits and raises something bare. It changes nothing and must not import Ray.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from cluster.demand import Machine

TIMEOUT = 15.0  # seconds for an answer
MAX_ANSWER = 64 * 2**20  # bytes
MAX_NODES = 10_000


class HeadError(Exception):
    """The head did not answer as one does; `status` is its HTTP code, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """The body of an answer, and how far the head's clock was ahead of ours (seconds), where it says."""

    data: Any
    ahead: float | None


@dataclass(frozen=True)
class Cluster:
    """A cluster as its head describes it."""

    guarded: bool  # nobody is let in without a token
    ray: str
    python: str
    machines: tuple[Machine, ...]
    autoscaled: bool  # machines may join when there is demand
    interpreter: str | None = None  # that runs Ray on the head
    dashboard: str | None = None  # HOST:PORT that the dashboard listens on
    ahead: float | None = field(default=None, compare=False)  # of the head's clock, seconds


def parse_address(address: str) -> str:
    """`http://HOST:PORT` of an address that may lack the scheme. Raises HeadError for another form."""
    text = address if "://" in address else f"http://{address}"
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise HeadError(f"{address!r} is not the address of a head: write http://HOST:8265")
    if port is None:
        raise HeadError(
            f"the address {address!r} has no port: Ray's dashboard has 8265 unless told otherwise"
        )
    return f"{parts.scheme}://{parts.netloc}"


def on_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine alone (or through a tunnel that ends here)."""
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the token is for the head alone."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def ask(address: str, path: str, token: str | None = None) -> Answer:
    """GET a path. Raises HeadError."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address}{path}", headers=headers)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT) as response:
            received = time.time()
            body = response.read(MAX_ANSWER)
            date = response.headers.get("date")
    except urllib.error.HTTPError as error:
        with error:
            raise HeadError(f"{path}: HTTP {error.code} {error.reason}", error.code) from None
    except http.client.HTTPException:
        raise HeadError("what answers there does not speak HTTP") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise HeadError(f"{str(reason) or type(error).__name__}{_by_way_of(address)}") from None
    try:
        data = json.loads(body)
    except ValueError:
        raise HeadError(f"{path}: the answer is no JSON, so this is no Ray dashboard") from None
    return Answer(data, parsedate_to_datetime(date).timestamp() + 0.5 - received if date else None)


def _by_way_of(address: str) -> str:
    """The proxy that the environment puts before an address, where there is one."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f", by way of the proxy {proxy}: NO_PROXY={parts.hostname} asks without it"


def refuses_strangers(address: str) -> bool:
    """Whether a request without a token is turned away. Raises HeadError for other failures."""
    try:
        ask(address, "/api/jobs/")
    except HeadError as error:
        if error.status in (401, 403):
            return True
        raise
    return False


def describe(address: str, token: str | None) -> Cluster:
    """What the head says of its cluster. token: None where it asks for none. Raises HeadError."""
    version = ask(address, "/api/version", token)
    try:
        return _described(address, token, version)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        says = version.data.get("ray_version") if isinstance(version.data, dict) else None
        who = f"Ray {says}" if says else "something else than Ray"
        raise HeadError(f"the answers are not those of a head that is known here, but of {who}") from error


def _described(address: str, token: str | None, version: Answer) -> Cluster:
    """Raises KeyError, TypeError or the like where an answer is of another form."""
    metadata = _data(ask(address, "/api/v0/cluster_metadata", token))
    nodes = _data(ask(address, f"/api/v0/nodes?detail=1&limit={MAX_NODES}", token))["result"]["result"]
    summary = _data(ask(address, "/nodes?view=summary", token))["summary"]
    heads = [node for node in summary if node.get("raylet", {}).get("isHeadNode")]
    arguments = heads[0].get("cmdline", []) if heads else []
    alive = [node for node in nodes if node["state"] == "ALIVE"]
    return Cluster(
        guarded=token is not None,
        ray=str(version.data["ray_version"]),
        python=str(metadata["pythonVersion"]),
        machines=tuple(Machine(node["resources_total"], node.get("labels") or {}) for node in alive),
        autoscaled=_autoscaled(address, token),
        interpreter=_option(arguments, "--python_worker_command="),
        dashboard=_word(_option_text(arguments, "--python_worker_command="), "--webui="),
        ahead=version.ahead,
    )


def _autoscaled(address: str, token: str | None) -> bool:
    """Whether an autoscaler is at work there."""
    status = _data(ask(address, "/api/cluster_status", token)).get("clusterStatus")
    if status is None:  # Ray's second autoscaler, which KubeRay has, tells in words alone; or none has begun
        words = _data(ask(address, "/api/cluster_status?format=1", token)).get("clusterStatus") or ""
        return "Autoscaler status" in words
    kinds = (status.get("autoscalerReport") or {}).get("nodeTypeMapping") or {}
    # Without an autoscaler each machine is a kind of its own, called after its id.
    return any(not str(kind).startswith("node_") for kind in kinds.values())


def _data(answer: Answer) -> Any:
    return answer.data["data"]


def _option_text(arguments: list[str], option: str) -> str:
    return next((text.removeprefix(option) for text in arguments if text.startswith(option)), "")


def _option(arguments: list[str], option: str) -> str | None:
    """The first word of an option's value."""
    words = _option_text(arguments, option).split()
    return words[0] if words else None


def _word(text: str, prefix: str) -> str | None:
    found = [word.removeprefix(prefix) for word in text.split() if word.startswith(prefix)]
    return found[0] if found and found[0] else None
