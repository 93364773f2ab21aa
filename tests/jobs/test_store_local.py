"""The local store's own promises: power cuts, killed writers, links, NFS."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jobs.store import StoreError, open_store
from jobs.store_local import LocalStore


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


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


def test_open_store_takes_folders_and_no_files(tmp_path):
    assert open_store(f"file://{tmp_path}").url == str(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="is a file"):
        open_store(tmp_path / "file")


@pytest.mark.parametrize("name", ["~/runs", "file://~/runs", "~/over/../runs"])
def test_a_store_may_be_named_from_the_users_own_folder(tmp_path, monkeypatch, name):
    """In a spec no shell fills it in, and a folder called `~` is what nobody wants."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store(name).url == str(tmp_path / "runs")


def test_a_writer_killed_at_any_moment_leaves_whole_files_only(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from jobs.store_local import LocalStore
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
    store.discard_leftovers(older_than=3600)
    assert leftover.exists()
    os.utime(leftover, (time.time() - 7200,) * 2)
    assert [entry.size for entry in store.leftovers(older_than=3600)] == [4]
    store.discard_leftovers(older_than=3600)
    assert not leftover.exists()


def test_listing_opens_each_folder_once(store, monkeypatch):
    for number in range(40):
        store.put(f"many/{number % 4}/{number}.json", b"")
    scandir, opened = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or scandir(path))
    assert len(list(store.list("many"))) == 40
    assert len(opened) == len(set(opened)) == 5
