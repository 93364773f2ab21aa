"""The S3 store's own promises, against a server: throttling, lost answers, refusals, unfinished uploads."""

import boto3
import pytest

from jobs.store import StoreError, StoreUnavailableError, check_store, open_store


@pytest.fixture
def store(s3_url):
    return open_store(s3_url)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The library's waits between attempts, which grow to seconds, are skipped; the attempts are made."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_throttled_requests_are_sent_again(store, s3):
    store.put("a", b"1")
    for request in (lambda: store.get("a"), lambda: store.put("b", b"2"), lambda: list(store.list("x"))):
        s3.fault("slow", 3)
        request()
    s3.fault("slow", 2)
    assert store.put_if_absent("c", b"3")


def test_a_store_that_keeps_throttling_is_unavailable_and_says_so(store, s3):
    s3.fault("slow", 1000)
    try:
        with pytest.raises(StoreUnavailableError, match="SlowDown"):
            store.get("a")
    finally:
        s3.fault("slow", 0)


def test_a_marker_whose_answer_was_lost_is_still_the_writers_own(store, s3):
    s3.fault("drop", 1)
    assert store.put_if_absent("marker", b"mine")
    assert not store.put_if_absent("marker", b"other")
    assert store.get("marker") == b"mine"


def test_conditional_writes_that_collide_are_made_again(store, s3):
    s3.fault("conflict", 3)
    assert store.put_if_absent("marker", b"mine")
    s3.fault("conflict", 3)
    assert not store.put_if_absent("marker", b"other")
    assert store.get("marker") == b"mine"


def test_conditional_writes_that_collide_for_ever_are_no_win_and_no_loss(store, s3):
    s3.fault("conflict", 1000)
    try:
        with pytest.raises(StoreUnavailableError, match="conditional writes of marker collided"):
            store.put_if_absent("marker", b"mine")
    finally:
        s3.fault("conflict", 0)
    assert store.size("marker") is None


def test_an_answer_that_breaks_off_is_asked_for_again(store, s3):
    content = bytes(range(256)) * 400
    store.put("a", content)
    s3.fault("cut", 3)
    assert store.get("a") == content
    s3.fault("cut", 2)
    with store.local("a") as path:
        assert path.read_bytes() == content
    s3.fault("cut", 1000)
    try:
        with pytest.raises(StoreUnavailableError):
            store.get("a")
    finally:
        s3.fault("cut", 0)


def upload(store, name, size):
    with store.writing(name) as path:
        path.write_bytes(b"x" * size)


def test_a_long_upload_survives_throttled_parts(store, s3):
    s3.fault("part", 4)
    upload(store, "large", 40 * 2**20)
    assert store.size("large") == 40 * 2**20


def test_a_long_upload_that_fails_in_the_middle_leaves_what_was_there_and_no_parts(store, s3):
    store.put("large", b"old")
    s3.fault("part", 1000)
    try:
        with pytest.raises(StoreUnavailableError, match="SlowDown"):
            upload(store, "large", 20 * 2**20)
    finally:
        s3.fault("part", 0)
    assert store.get("large") == b"old"
    assert list(store.leftovers(older_than=-60)) == []


@pytest.mark.parametrize(
    ("fault", "code", "remedy"),
    [
        ("expired", "ExpiredToken", "get new ones, and go on"),
        ("skew", "RequestTimeTooSkewed", "set it by NTP"),
    ],
)
def test_refusals_are_named_with_what_mends_them(store, s3, fault, code, remedy):
    store.put("a", b"1")
    for request in (
        lambda: store.get("a"),
        lambda: store.put_if_absent("b", b"2"),
        lambda: upload(store, "c", 9),
    ):
        s3.fault(fault, 1)
        with pytest.raises(StoreUnavailableError, match=f"{code}.*{remedy}"):
            request()
    assert store.put_if_absent("b", b"2")


def test_a_server_that_ignores_the_condition_is_found_out(store, s3):
    s3.fault("forget", 2)
    with pytest.raises(StoreError, match="If-None-Match"):
        check_store(store)
    check_store(store)


def test_a_server_that_is_not_there_is_unavailable(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:9"):
        open_store("s3://bucket").get("a")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"])
def test_settings_that_are_none_are_named(s3, monkeypatch, name):
    monkeypatch.setenv(name, "no sense")
    with pytest.raises(StoreError, match=name):
        open_store("s3://bucket/x")


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(StoreUnavailableError, match=r"NoSuchBucket.*make the bucket, or correct its name"):
        check_store(open_store("s3://no-such-bucket/x"))


def test_without_credentials_nothing_is_guessed(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match=r"[Cc]redentials"):
        open_store("s3://bucket").put("a", b"1")


def test_uploads_that_nobody_finished_are_listed_with_their_size_and_removed(store):
    client = boto3.session.Session().client("s3")
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    where = {"Bucket": bucket, "Key": f"{prefix}/sweep/file"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    assert list(store.leftovers(older_than=3e9)) == []  # the server dates them all in 2010
    (leftover,) = store.leftovers(older_than=-60)
    assert (leftover.name, leftover.size) == ("sweep/file", 1000)
    store.discard_leftovers(older_than=-60)
    assert list(store.leftovers(older_than=-60)) == []


def test_stores_in_one_bucket_do_not_see_each_other(s3_url):
    one, other = open_store(f"{s3_url}/one"), open_store(f"{s3_url}/one-more")
    one.put("a/b", b"1")
    other.put("a/b", b"two")
    assert [entry.size for entry in one.list("a")] == [1]
    assert other.get("a/b") == b"two"
