"""Ray's job server: jobs submitted, listed, followed and stopped there, over HTTP.

Ray's own client, with the address and the token given outright, its many exceptions turned into one. It must
not know sweeps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.access import Token, use_token

TAIL_SILENCE = 60.0  # seconds without a line, after which the connection is made anew
RETRY = 1.0  # seconds between attempts to follow a job
AGENTS = 60.0  # seconds that a head just started may take until it can run jobs
NO_AGENT = "No available agent"  # what it says until then
PATIENCE = 600.0  # seconds that a head may be away while its job is followed
STOP_WAIT = 90  # seconds that a stopped job has to snapshot, before Ray kills it
ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # with Ray's client these win over what it is given
#: Not uploaded: weights go through the store.
EXCLUDED = ["*.safetensors", "*.pth", "*.npz", "*.parquet"]

#: Ray's loggers that tell of every upload and connection.
CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)

T = TypeVar("T")


class JobsError(Exception):
    """The job server could not do what it was asked, or could not be reached."""


@dataclass(frozen=True)
class Job:
    """A job as the server knows it. Times are seconds since 1970."""

    id: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED
    message: str
    metadata: Mapping[str, str]
    started: float | None
    ended: float | None

    @property
    def over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class Jobs:
    """The job server of one cluster."""

    def __init__(self, address: str, token: Token | None) -> None:
        """address: http://HOST:PORT. Raises JobsError when it cannot be reached."""
        use_token(token)
        for name in ADDRESSES:
            os.environ.pop(name, None)
        from ray.job_submission import JobSubmissionClient

        for chatty in CHATTY:
            logging.getLogger(chatty).setLevel(logging.WARNING)
        headers = {"authorization": f"Bearer {token.value}"} if token else None
        self.address = address
        self._client: Any = _asked(lambda: JobSubmissionClient(address, headers=headers))

    def submit(
        self,
        job: str,
        entrypoint: str,
        *,
        packages: list[Path],
        metadata: Mapping[str, str],
        cpus: float = 0.0,
        memory: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Upload packages (folders of Python code) and begin a job of this id.

        cpus, memory (bytes), labels: what its driver reserves, and where.
        Raises JobsError, also when there is a job of this id.
        """
        variables = {
            "RAY_AUTH_MODE": os.environ["RAY_AUTH_MODE"],
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        _asked_until_ready(
            lambda: self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job,
                metadata=dict(metadata),
                runtime_env={
                    "py_modules": list(map(str, packages)),
                    "excludes": EXCLUDED,
                    "env_vars": variables,
                },
                entrypoint_num_cpus=cpus or None,
                entrypoint_memory=memory or None,
                entrypoint_label_selector=dict(labels) if labels else None,
            )
        )

    def all(self) -> list[Job]:
        """The submitted jobs that the cluster remembers, the first one first."""
        found = [_job(each) for each in _asked(self._client.list_jobs) if each.submission_id]
        return sorted(found, key=lambda job: job.started or 0.0)

    def get(self, job: str) -> Job:
        """One job."""
        return _job(_asked(lambda: self._client.get_job_info(job)))

    def stop(self, job: str) -> None:
        """Ask a job to end: it gets SIGTERM, and SIGKILL after `STOP_WAIT`."""
        _asked(lambda: self._client.stop_job(job))

    def logs(self, job: str) -> str:
        """All that a job has printed."""
        return str(_asked(lambda: self._client.get_job_logs(job)))

    def wait(self, job: str, seconds: float) -> Job:
        """The job when it is over, or after so many seconds."""
        end = time.monotonic() + seconds
        while not (found := self.get(job)).over and time.monotonic() < end:
            time.sleep(RETRY)
        return found

    def follow(self, job: str, write: Callable[[str], None], note: Callable[[str], None]) -> Job:
        """Pass on what a job prints until it is over, through lost connections; returns how it ended.

        note: told once when the head is away and when it is back. Raises JobsError when it stays away.
        """
        shown, away_since = 0, None
        while True:
            shown = self._tail(job, shown, write)
            try:
                found = self.get(job)
                if found.over:
                    write(self.logs(job)[shown:])
                    return found
                if away_since is not None:
                    note("the head answers again")
                away_since = None
            except JobsError as error:
                if away_since is None:
                    away_since = time.monotonic()
                    note(f"the head is away, and is asked again: {error}")
                if time.monotonic() - away_since > PATIENCE:
                    raise
            time.sleep(RETRY)

    def _tail(self, job: str, shown: int, write: Callable[[str], None]) -> int:
        """Pass on a log, which the server sends from its beginning, beyond what was shown already.

        Returns the characters shown so far. However the connection ends, the job's status says what is next.
        """

        async def run() -> int:
            seen, known = 0, shown
            ended: tuple[type[Exception], ...] = (StopAsyncIteration, TimeoutError, *_errors())
            lines = self._client.tail_job_logs(job)
            try:
                while True:
                    text = await asyncio.wait_for(anext(lines), TAIL_SILENCE)
                    seen += len(text)
                    if seen > known:
                        write(text[-(seen - known) :])
                        known = seen
            except ended:
                return known

        return asyncio.run(run())


def _asked_until_ready(request: Callable[[], T]) -> T:
    """The answer of a head that may have started just now. Raises JobsError."""
    end = time.monotonic() + AGENTS
    while True:
        try:
            return _asked(request)
        except JobsError as error:
            if NO_AGENT not in str(error) or time.monotonic() >= end:
                raise
        time.sleep(RETRY)


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id,
        status=str(details.status.value),
        message=details.message or "",
        metadata=details.metadata or {},
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def _errors() -> tuple[type[Exception], ...]:
    """What Ray's client and the libraries below it raise when a request fails."""
    import aiohttp
    from ray.exceptions import AuthenticationError

    return (RuntimeError, OSError, aiohttp.ClientError, AuthenticationError)


def _asked(request: Callable[[], T]) -> T:
    try:
        return request()
    except _errors() as error:
        lines = [line for line in str(error).splitlines() if line.strip(" .")] or [type(error).__name__]
        telling = lines[-1] if "Traceback" in lines[0] else lines[0]  # the head's own, which ends with why
        raise JobsError(telling.strip()[:500]) from error
