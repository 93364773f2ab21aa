"""A store in a bucket of S3, or of any server that speaks its protocol and honours `If-None-Match: *`.

An object appears whole or not at all, so a PUT is an atomic write and a conditional PUT is a marker. Region,
endpoint and credentials are found by boto3 itself: environment, profile, or the role of the machine.
It must not know markers or sweeps.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from jobs.store import Entry, Store, StoreError, StoreUnavailableError, check_name

ATTEMPTS = 6  # of a request that is throttled or not answered, with exponential waits: about 15 s in all
CONFLICTS = 10  # conditional PUTs of one name that may collide before the store is called unavailable
THREADS = 32  # requests at once where many files are read
BLOCK = 1024  # files that are asked for before the first of them is given
_WRITER = "writer"  # metadata of conditional PUTs: who wrote the object

_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*?))?/?")
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_CUT = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError)  # a body that did not come whole
_TAKEN, _CONFLICT = 412, 409  # HTTP status of a conditional PUT that came second, or at the same moment

_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to it"
_RIGHTS = "the key needs the permissions to get, put, delete and list there"
#: Code of a server's answer -> what mends it.
_REMEDIES = {
    "400": "the credentials are wrong or have run out: get new ones, and go on",  # to HEAD, without a reason
    "403": _RIGHTS,
    "AccessDenied": _RIGHTS,
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": "the credentials have run out: get new ones, and go on",
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "the credentials are those of another place: see AWS_PROFILE, AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "make the bucket, or correct its name or AWS_ENDPOINT_URL",
    "NotImplemented": "this server cannot keep markers: use another one, or a newer version of it",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "the clock of this machine is off: set it by NTP",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
}


class S3Store(Store):
    """Objects below a prefix of a bucket, `s3://bucket/prefix`. May be used from several threads."""

    def __init__(self, url: str) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            raise StoreError(
                f"the store {url!r} is no s3://BUCKET/PREFIX: buckets are called by 3 to 63 "
                "lower-case letters, digits, '.' and '-'"
            )
        self._bucket, prefix = match["bucket"], match["prefix"] or ""
        if prefix:
            check_name(prefix)
        self._prefix = f"{prefix}/" if prefix else ""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=THREADS,
            # Not every server knows the newer checksums in trailers; files carry digests of their own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._translated(""):
            try:
                self._client: Any = boto3.session.Session().client("s3", config=config)
            except ValueError as error:
                raise StoreError(f"{url}: {error}; see AWS_ENDPOINT_URL and AWS_DEFAULT_REGION") from error

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, name: str, data: bytes) -> None:
        with self._translated(name):
            self._client.put_object(**self._object(name), Body=data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        writer = uuid.uuid4().hex
        request = {**self._object(name), "Body": data, "IfNoneMatch": "*", "Metadata": {_WRITER: writer}}
        for attempt in range(CONFLICTS):
            try:
                with self._translated(name):
                    self._client.put_object(**request)
            except StoreRefusedError as error:
                if error.status == _TAKEN:
                    # Also the answer to a request that was sent again because its first answer was lost.
                    return self._writer(name) == writer
                if error.status != _CONFLICT:
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                return True
        raise StoreUnavailableError(f"{self.url}: {CONFLICTS} conditional writes of {name} collided")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        target = self._object(name)
        with tempfile.TemporaryDirectory(prefix="sdesweep-") as folder:
            path = Path(folder) / "file"
            yield path
            with self._translated(name), path.open("rb") as file:
                self._client.upload_fileobj(file, **target)

    def get(self, name: str) -> bytes:
        left = ATTEMPTS
        with self._translated(name):
            while True:
                body = self._client.get_object(**self._object(name))["Body"]
                try:
                    return body.read()
                except _CUT:  # the library repeats requests, not the reading of their answers
                    left -= 1
                    if not left:
                        raise
                    time.sleep(0.1 * 2 ** (ATTEMPTS - left))

    def read_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        waiting = iter(names)
        with ThreadPoolExecutor(THREADS) as pool:
            while block := list(islice(waiting, BLOCK)):
                yield from pool.map(self._read, block)

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.get(name))  # images and features of one shard fit into memory

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="sdesweep-") as folder:
            path = Path(folder) / name.rpartition("/")[2]
            with self._translated(name):
                self._client.download_file(**self._object(name), Filename=str(path))
            yield path

    def list(self, folder: str) -> Iterator[Entry]:
        if folder:
            check_name(folder)
            folder += "/"
        pages = self._client.get_paginator("list_objects_v2")
        with self._translated(folder):
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}"):
                for found in page.get("Contents", ()):
                    name = found["Key"].removeprefix(self._prefix)
                    yield Entry(name, found["Size"], found["LastModified"].timestamp())

    def size(self, name: str) -> int | None:
        try:
            with self._translated(name):
                return self._client.head_object(**self._object(name))["ContentLength"]
        except FileNotFoundError:
            return None

    def move(self, name: str, target: str) -> None:
        source = self._object(name)
        with self._translated(name):
            self._client.copy(CopySource=source, **self._object(target))
            self._client.delete_object(**source)

    def delete(self, name: str) -> None:
        with self._translated(name):
            self._client.delete_object(**self._object(name))

    def leftovers(self, older_than: float) -> Iterator[Entry]:
        """Uploads in parts that nobody finished; their parts are stored, and paid for, but never listed."""
        for upload in self._unfinished(older_than):
            with self._translated(upload["Key"]):
                parts = self._client.get_paginator("list_parts").paginate(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
                size = sum(part["Size"] for page in parts for part in page.get("Parts", ()))
            name = upload["Key"].removeprefix(self._prefix)
            yield Entry(name, size, upload["Initiated"].timestamp())

    def discard_leftovers(self, older_than: float) -> None:
        for upload in list(self._unfinished(older_than)):
            with self._translated(upload["Key"]):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    def _unfinished(self, older_than: float) -> Iterator[dict[str, Any]]:
        now = datetime.now(UTC)
        pages = self._client.get_paginator("list_multipart_uploads")
        with self._translated(""):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for upload in page.get("Uploads", ()):
                    if (now - upload["Initiated"]).total_seconds() > older_than:
                        yield upload

    def __reduce__(self) -> tuple[type[S3Store], tuple[str]]:
        return S3Store, (self.url,)  # connections do not cross processes

    def _read(self, name: str) -> tuple[str, bytes | None]:
        try:
            return name, self.get(name)
        except FileNotFoundError:
            return name, None

    def _writer(self, name: str) -> str | None:
        """Who wrote an object by a conditional PUT."""
        try:
            with self._translated(name):
                return self._client.head_object(**self._object(name))["Metadata"].get(_WRITER)
        except FileNotFoundError:  # removed since
            return None

    def _object(self, name: str) -> dict[str, str]:
        check_name(name)
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        """Errors of the library in the words of a store."""
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                raise FileNotFoundError(f"{name} is not in the store {self.url}") from error
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
            raise StoreRefusedError(f"the store {self.url}: {error}{remedy}", status) from error
        except (BotoCoreError, Boto3Error) as error:
            where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
            raise StoreUnavailableError(f"the store {self.url} at {where}: {error}") from error


class StoreRefusedError(StoreUnavailableError):
    """The server's own answer, by its HTTP status: no permission, no such bucket, too many requests."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
