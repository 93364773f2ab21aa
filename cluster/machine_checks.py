"""What this machine is like: versions, GPUs, and which ports of Ray processes here the network can reach.

Reads what the system tells of this user's processes (/proc) and changes nothing.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.checks import Check

PACKAGES = ("torch", "ray", "pyarrow", "numpy", "pydantic", "torchmetrics")
_LISTEN = "0A"  # of /proc/net/tcp
#: A part of a Ray process's command line -> what the process is.
RAY_PROCESSES = {"/gcs_server": "gcs", "/raylet/raylet": "raylet", "dashboard/dashboard.py": "dashboard"}


@dataclass(frozen=True)
class RayProcess:
    """A process of Ray on this machine."""

    kind: str
    pid: int
    guarded: bool  # it was started with token authentication
    listens: tuple[str, ...]  # HOST:PORT


def machine_checks() -> list[Check]:
    """All checks of this machine."""
    return [_versions(), _gpus(), *port_checks(ray_processes())]


def _versions() -> Check:
    found, missing = [f"python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("versions", "failed", f"missing: {', '.join(missing)}", "`make setup` installs them")
    return Check("versions", "ok", ", ".join(found))


def _gpus() -> Check:
    import torch  # takes seconds

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    devices = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
    if len(names) < len(devices):
        found = f"this machine has {len(devices)} NVIDIA devices, PyTorch sees {len(names)}"
        remedy = "compare `nvidia-smi` with the CUDA version of PyTorch, and look at CUDA_VISIBLE_DEVICES"
        return Check("gpus", "failed", found, remedy)
    return Check("gpus", "ok", ", ".join(names) or "none on this machine")


def port_checks(processes: list[RayProcess]) -> Iterator[Check]:
    """Whether the network can give orders to Ray processes here."""
    for process in processes:
        open_ports = [each for each in process.listens if not _on_loopback(each)]
        name = f"{process.kind} (process {process.pid})"
        if not process.guarded:
            where = f", on {', '.join(open_ports)}" if open_ports else " on loopback"
            found = f"{name} takes orders without a token{where}"
            remedy = "end it, and start Ray with RAY_AUTH_MODE=token, as ray_cluster.yaml does"
            yield Check("ports", "failed" if open_ports else "warning", found, remedy)
        elif process.kind == "dashboard" and open_ports:
            found = f"{name} listens on {', '.join(open_ports)}"
            yield Check("ports", "warning", found, "start the head with --dashboard-host=127.0.0.1")
        elif open_ports:
            found = f"{name} listens on {', '.join(open_ports)} and asks for a token"
            yield Check("ports", "ok", f"{found}; /metrics does not: keep a firewall around the cluster")
        else:
            yield Check("ports", "ok", f"{name} listens on loopback alone")


def ray_processes(proc: Path = Path("/proc")) -> list[RayProcess]:
    """Ray's processes on this machine that this user may look into."""
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            kind = next(
                (kind for part, kind in RAY_PROCESSES.items() for word in words[:3] if part in word), ""
            )
            if not kind:
                continue
            environment = (folder / "environ").read_bytes().split(b"\0")
            inodes = set(_sockets(folder))
            listens = sorted(address for inode, address in _listening(folder / "net") if inode in inodes)
        except OSError:  # it has ended, or is another user's
            continue
        guarded = b"RAY_AUTH_MODE=token" in environment
        found.append(RayProcess(kind, int(folder.name), guarded, tuple(listens)))
    return sorted(found, key=lambda process: (process.kind, process.pid))


def _sockets(process: Path) -> Iterator[str]:
    """Inodes of a process's sockets."""
    for descriptor in (process / "fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _listening(net: Path) -> Iterator[tuple[str, str]]:
    """(inode, HOST:PORT) of every socket that listens."""
    tables = [path for path in (net / "tcp", net / "tcp6") if path.exists()]  # without IPv6 there is no tcp6
    for table in tables:
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                yield fields[9], _address(fields[1])


def _address(text: str) -> str:
    """HOST:PORT of `0100007F:1F90`: words of four bytes, each in the order of the machine."""
    packed, port = text.split(":")
    raw = b"".join(bytes.fromhex(packed[start : start + 8])[::-1] for start in range(0, len(packed), 8))
    host = ipaddress.ip_address(raw)
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return f"{mapped or (f'[{host}]' if host.version == 6 else host)}:{int(port, 16)}"


def _on_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
