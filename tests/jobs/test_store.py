"""What every kind of store promises: whole files or nothing, one winner, no name that leads outside."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from jobs.store import Entry, StoreError, check_store, open_store


@pytest.fixture
def store(store_url):
    return open_store(store_url)


def test_what_is_put_is_there(store):
    store.put("a/b/c.json", b"one")
    store.put("a/b/c.json", b"two!")
    assert store.get("a/b/c.json") == b"two!"
    assert store.size("a/b/c.json") == 4
    with store.open("a/b/c.json") as file:
        file.seek(2)
        assert file.read() == b"o!"
    with store.local("a/b/c.json") as path:
        assert path.read_bytes() == b"two!"


def test_a_url_leads_to_the_same_store(store):
    store.put("a/b", b"1")
    assert open_store(store.url).get("a/b") == b"1"


def test_missing_files(store):
    assert store.size("a/b") is None
    assert list(store.list("a")) == []
    store.delete("a/b")
    for missing in (store.get, store.open, lambda name: store.local(name).__enter__()):
        with pytest.raises(FileNotFoundError):
            missing("a/b")
    with pytest.raises(FileNotFoundError):
        store.move("a/b", "a/c")


def test_list_is_recursive_and_shows_nothing_unfinished(store):
    before = time.time() - 5
    store.put("s/x/1.json", b"1")
    store.put("s/x/y/2.json", b"22")
    store.put("t/3.json", b"333")
    store.put("s-x/4.json", b"another folder")
    with store.writing("s/x/4.json") as path:
        path.write_bytes(b"unfinished")
        found = sorted(store.list("s"), key=lambda entry: entry.name)
    assert found == [Entry("s/x/1.json", 1), Entry("s/x/y/2.json", 2)]
    assert all(before <= entry.modified <= time.time() + 5 for entry in found)


def test_the_empty_name_lists_the_whole_store(store):
    for name in ("a", "s/x/1.json", "t/3.json"):
        store.put(name, b"1")
    with store.writing("b") as path:
        path.write_bytes(b"unfinished")
        assert sorted(entry.name for entry in store.list("")) == ["a", "s/x/1.json", "t/3.json"]


def test_folders_are_listed_one_after_the_other_in_order(store):
    names = [f"s/{folder}/{number:03d}" for folder in ("000", "001", "002") for number in range(5)]
    for name in reversed(names):
        store.put(name, b"1")
    assert [entry.name for entry in store.list("s")] == names


def test_a_store_can_be_handed_to_another_process(store):
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"


def test_many_files_are_read_in_order(store):
    for number in range(40):
        store.put(f"many/{number}", str(number).encode())
    names = [f"many/{number}" for number in (7, 39, 1, 100, 0)]
    assert list(store.read_all(names)) == list(zip(names, [b"7", b"39", b"1", None, b"0"], strict=True))


def test_a_large_file_is_written_whole(store):
    content = bytes(range(256)) * 2**17  # 32 MiB: an object store takes it in several parts
    with store.writing("large") as path:
        path.write_bytes(content)
    assert store.size("large") == len(content)
    assert store.get("large") == content


def test_an_exception_while_writing_leaves_what_was_there(store):
    store.put("a", b"old")

    def fail():
        with store.writing("a") as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.get("a") == b"old"
    assert list(store.leftovers(older_than=-60)) == []


def test_of_many_writers_exactly_one_wins(store):
    def write(number):
        return store.put_if_absent("marker", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(64)))
    assert sum(won) == 1
    assert store.get("marker") == str(won.index(True)).encode()


def test_of_writers_with_equal_content_one_wins(store):
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda _: store.put_if_absent("marker", b"same"), range(8)))
    assert sum(won) == 1


def test_move_replaces_and_makes_folders(store):
    store.put("a", b"1")
    store.put("x/y/a", b"older")
    store.move("a", "x/y/a")
    assert store.size("a") is None
    assert store.get("x/y/a") == b"1"


def test_names_that_could_escape_are_refused(store):
    actions = (
        store.get,
        store.size,
        store.delete,
        lambda name: store.put(name, b"x"),
        lambda name: list(store.list(name)) if name else store.get(name),
    )
    names = ("../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "a/.hidden", "a\\b", "a\0b", "a\nb", "é")
    for name, action in product(names, actions):
        with pytest.raises(StoreError, match="refuses the name"):
            action(name)


def test_a_store_that_keeps_markers_passes_its_check_and_stays_empty(store):
    check_store(store)
    assert list(store.list("probes")) == []


@pytest.mark.parametrize(
    "url", ["gs://bucket/prefix", "http://host/path", "s3://", "s3://Capital/x", "s3:///x"]
)
def test_what_is_no_store_is_refused(url):
    with pytest.raises(StoreError, match="store"):
        open_store(url)
