"""The local store: atomic writes, one winner, nothing outside the root."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.store import Entry, LocalStore, StoreError, open_store


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


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


def test_missing_files(store):
    assert store.size("a/b") is None
    assert list(store.list("a")) == []
    store.delete("a/b")
    for missing in (store.get, store.open, lambda name: store.local(name).__enter__()):
        with pytest.raises(FileNotFoundError):
            missing("a/b")
    with pytest.raises(FileNotFoundError):
        store.move("a/b", "a/c")


def test_list_is_recursive_and_shows_no_temporary_files(store):
    store.put("s/x/1.json", b"1")
    store.put("s/x/y/2.json", b"22")
    store.put("t/3.json", b"333")
    with store.writing("s/x/4.json") as path:
        path.write_bytes(b"unfinished")
        assert sorted(store.list("s"), key=lambda entry: entry.name) == [
            Entry("s/x/1.json", 1),
            Entry("s/x/y/2.json", 2),
        ]


def test_an_exception_while_writing_leaves_nothing(store):
    store.put("a", b"old")

    def fail():
        with store.writing("a") as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.get("a") == b"old"
    assert os.listdir(store.root / ".temporary") == []


def test_of_many_writers_exactly_one_wins(store):
    def write(number):
        return store.put_if_absent("marker", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(64)))
    assert sum(won) == 1
    assert store.get("marker") == str(won.index(True)).encode()


def test_a_link_that_succeeded_though_the_system_says_it_exists_is_a_win(store, monkeypatch):
    link = os.link

    def retransmitted(source, target):
        link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", retransmitted)
    assert store.put_if_absent("marker", b"mine")
    monkeypatch.undo()
    assert not store.put_if_absent("marker", b"other")
    assert store.get("marker") == b"mine"


def test_move_replaces_and_makes_folders(store):
    store.put("a", b"1")
    store.move("a", "x/y/a")
    assert store.size("a") is None
    assert store.get("x/y/a") == b"1"


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "a/.hidden", "a\\b", "a\0b", "a\nb", "é"]
)
def test_names_that_could_escape_are_refused(store, name):
    for action in (store.get, store.size, store.delete, lambda name: store.put(name, b"x")):
        with pytest.raises(StoreError, match="refuses the name"):
            action(name)


def test_symbolic_links_are_refused(store, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    store.put("inside/file", b"x")
    (store.root / "folder").symlink_to(tmp_path / "outside")
    (store.root / "inside" / "link").symlink_to(tmp_path / "outside" / "file")
    for action in (store.get, lambda name: store.put(name, b"overwritten"), store.delete):
        for name in ("folder/file", "inside/link"):
            with pytest.raises(StoreError, match="symbolic link"):
                action(name)
    for folder in ("folder", "inside"):
        with pytest.raises(StoreError, match="symbolic link"):
            list(store.list(folder))
    assert (tmp_path / "outside" / "file").read_bytes() == b"secret"


def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    LocalStore(tmp_path / "link").put("a", b"1")
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_open_store_says_what_it_does_not_support(tmp_path):
    assert open_store(f"file://{tmp_path}").url == str(tmp_path)
    with pytest.raises(StoreError, match="s3://bucket"):
        open_store("s3://bucket")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="is a file"):
        open_store(tmp_path / "file")


def test_a_writer_killed_at_any_moment_leaves_whole_files_only(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from jobs.store import LocalStore
        store = LocalStore(sys.argv[1])
        print("ready", flush=True)
        for number in range(10**6):
            store.put("file", bytes([number % 256]) * 200_000)
        """
    )
    for delay in (0.01, 0.03, 0.07):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        while not (tmp_path / "file").exists():
            time.sleep(0.001)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = LocalStore(tmp_path).get("file")
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_leftovers_of_killed_writers_are_removed_when_old(store):
    store.put("a", b"1")
    leftover = store.root / ".temporary" / "dead"
    leftover.write_bytes(b"half")
    assert store.discard_leftovers(older_than=3600) == 0
    os.utime(leftover, (time.time() - 7200,) * 2)
    assert store.discard_leftovers(older_than=3600) == 1
    assert not leftover.exists()


def test_listing_opens_each_folder_once(store, monkeypatch):
    for number in range(40):
        store.put(f"many/{number % 4}/{number}.json", b"")
    scandir, opened = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or scandir(path))
    assert len(list(store.list("many"))) == 40
    assert len(opened) == len(set(opened)) == 5
