"""Specs, weights, data sets and stores made to do harm: refused in plain words, nothing of theirs is run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import invoke
from local_pool import Lines, LocalPool
from PIL import Image

from cluster.run import run_sweep
from fid.extractors import load_extractor
from jobs import bounds
from jobs.inputs.datasets import DatasetError, read_dataset
from jobs.report import render_table
from jobs.scores.results import SweepResults, Unscored
from jobs.storage.features import read_features
from jobs.storage.images import decode_png, read_images
from jobs.storage.queue_state import read_queue
from jobs.store import StoreError
from jobs.store_local import LocalStore
from sdesampling.checkpoints import CheckpointError, read_checkpoint
from sdesampling.models import ModelError, load_model

BASE = "model: digits-heldout\nsampler: {kind: real}\nsamples: 8\nmetrics: []\n"


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and all that a command prints; whatever is raised fails the test."""
    result = invoke(*arguments)
    return result.exit_code, result.output


@pytest.fixture
def plan(tmp_path: Path):
    """Plan a spec of this text; return exit code and output, within some seconds."""

    def run(text: str) -> tuple[int, str]:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        began = time.process_time()
        found = call("plan", path, "--store", tmp_path / "store")
        assert time.process_time() - began < 20
        return found

    return run


class Touch:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


# --- specs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {trap}']",
        "!!python/object/new:subprocess.Popen [[touch, {trap}]]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!binary aGk=",
        "!include /etc/passwd",
    ],
)
def test_tags_run_nothing(plan, tmp_path, value):
    trap = tmp_path / "trap"
    code, output = plan(f"name: x\n{BASE}description: {value.format(trap=trap)}\n")
    assert code == 2
    assert "tags (!) are refused" in output
    assert not trap.exists()


@pytest.mark.parametrize(
    "line",
    [
        "name: ../../escaped",
        "name: /etc/cron.d/x",
        "name: .hidden",
        'name: "a\\0b"',
        "name: models",
        "name: queues",
        "name: probes",
        "reference: {name: ../x, path: .}",
        "model: ../../etc/passwd",
        "model: {name: a/../b}",
        "extractor: ../x",
        "extractor: {name: /x, weights: y}",
    ],
)
def test_names_that_lead_elsewhere_are_refused(plan, tmp_path, line):
    key = line.partition(":")[0]
    rest = "".join(f"{each}\n" for each in BASE.splitlines() if not each.startswith(f"{key}:"))
    code, output = plan(f"{line}\n{rest}" if key == "name" else f"name: x\n{line}\n{rest}")
    assert code == 2, output
    assert f"- {key}" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.yaml"]


def test_labels_of_the_table_are_text_wherever_they_lead(store, tmp_path):
    """Rows and columns are for people: they name no file, and the page shows them as they are."""
    from jobs.planning.specfile import load_spec
    from jobs.planning.sweep import expand

    levels = "{'../../../x': {}, '<script>alert(1)</script>': {seed: 1}}"
    path = tmp_path / "labels.yaml"
    path.write_text(f"name: labels\n{BASE}sweep: {{axes: {{r: {levels}}}}}\n")
    sweep = expand(load_spec(path))
    assert run_sweep(store, sweep, LocalPool(store).open, Lines(), ["sdesweep"]).exit_code == 0
    page = store.get("labels/report/index.html").decode()
    assert "<script>alert(1)" not in page
    assert {entry.name for entry in tmp_path.iterdir()} == {"labels.yaml", "store"}


def test_labels_of_a_table_are_no_markup():
    row, column = ":cat: [/b]\nsecond", "[red]"
    missing = Unscored(name="", row=row, column=column, fingerprint="", samples=1, done=0, reason="")
    results = SweepResults(
        sweep="x", description="", rows=(row,), columns=(column,), cells=(), unscored=(missing,)
    )
    text = render_table(results, colour=True)
    assert ":cat: [/b]" in text
    assert column in text
    assert "| :cat: [/b] second |" in render_table(results, "markdown")


def test_labels_of_a_plan_are_no_markup(plan):
    code, output = plan(
        f"name: x\n{BASE}sweep: {{axes: {{r: {{'[/b]': {{}}, ':cat: [red]': {{seed: 1}}}}}}}}\n"
    )
    assert code == 0
    assert "[/b]" in output
    assert ":cat: [red]" in output


def test_a_spec_of_a_million_configurations_is_counted_and_never_made(plan):
    hundred = ", ".join(map(str, range(100)))
    axes = f"seed: [{hundred}], snapshot_every: [{hundred.replace('0,', '100,')}], priority: [{hundred}]"
    code, output = plan(f"name: x\n{BASE}sweep: {{axes: {{{axes}}}}}\n")
    assert code == 2
    assert "1,000,000 cells (100 x 100 x 100); at most 10,000" in output
    code, output = plan(f"name: x\n{BASE}replicates: 10000\nsweep: {{axes: {{seed: [{hundred}]}}}}\n")
    assert code == 2
    assert "1,000,000 configurations of 100 cells; at most 10,000" in output


def test_aliases_that_unfold_to_billions_are_refused(plan):
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    code, output = plan("\n".join(["name: x", *lines]))
    assert code == 2
    assert "unfolds to more than" in output


def test_a_spec_of_a_gigabyte_is_not_read(plan, tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(2**30)
    code, output = call("plan", path)
    assert code == 2
    assert "at most 250,000" in output


def test_names_on_the_command_line_stay_inside_the_store(tmp_path):
    (tmp_path / "outside.json").write_text("{}")
    store = tmp_path / "store"
    for arguments in (
        ("status", "../outside"),
        ("verify", "../../etc"),
        ("resume", "../outside"),
        ("queue", "show", "../../outside"),
        ("queue", "pause", "../../outside"),
    ):
        code, output = call(*arguments, "--store", store)
        assert code == 2, arguments
        assert "the store refuses the name" in output
    with pytest.raises(StoreError):
        read_queue(LocalStore(store), "../../outside")


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pickle", "zip", "safetensors"])
def test_weights_that_are_programs_run_nothing(plan, tmp_path, form):
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": Touch(trap)}))
    elif form == "zip":
        torch.save({"model": Touch(trap), "step": 1}, path)
    else:
        header = b'{"__metadata__": {"config": "__import__(\'os\').system(\'touch %s\')"}}' % bytes(trap)
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises((CheckpointError, ValueError)):
        read_checkpoint(path)
    with pytest.raises((ModelError, ValueError)):
        load_model(path)
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        load_extractor("fid-inception", path)
    assert call("models", "add", path, "--as", "vp/cifar10_ddpm")[0] == 2
    assert plan(f"name: x\n{BASE.replace('digits-heldout', f'{{weights: {path}}}')}")[0] == 2
    assert not trap.exists()


# --- data sets and shards -----------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that says so and holds a line or two."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_png_of_a_billion_pixels_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    for name, sides in (("a.png", (2**15, 2**15)), ("b.png", (12_000, 12_000))):
        (tmp_path / "images" / name).write_bytes(png_header(*sides))
    with pytest.raises(DatasetError, match="pixels"):
        read_dataset("bomb", str(tmp_path / "images"))
    with pytest.raises(bounds.SwollenError, match="at most"):
        decode_png(png_header(12_000, 12_000))


def test_many_images_that_unfold_without_measure_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "FREE", 2**20)
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.new("L", (1024, 1024)).save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(DatasetError, match="would unfold to"):
        read_dataset("bomb", str(tmp_path / "images"))


def npy(shape: tuple[int, ...]) -> bytes:
    """The header of an array of this shape, with a few bytes of it."""
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + bytes(64)


def test_an_npz_that_unfolds_without_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "FREE", 2**24)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        file.write(npy((3 * 2**23,)))
        file.write(bytes(3 * 2**23))
    with pytest.raises(DatasetError, match="would unfold to"):
        read_dataset("bomb", str(path))


def test_an_npz_whose_header_claims_terabytes_is_refused(tmp_path):
    path = tmp_path / "liar.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", npy((10**6, 3, 1024, 1024)))
    with pytest.raises(DatasetError, match="is said to hold"):
        read_dataset("liar", str(path))


def test_a_parquet_file_whose_rows_share_one_large_value_is_refused(tmp_path, monkeypatch):
    """The dictionary holds the value once, thousands of rows name it: much in a small file."""
    monkeypatch.setattr(bounds, "FREE", 2**20)
    monkeypatch.setattr(bounds, "MOST", 10)
    path = tmp_path / "bomb.parquet"
    value = pa.array([os.urandom(2**16)], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4000, np.int32)), value)
    pq.write_table(pa.table({"image": column}), path)
    assert path.stat().st_size < 2**20
    with pytest.raises(DatasetError, match="would unfold to"):
        read_dataset("bomb", str(path))


def test_a_shard_with_larger_row_groups_than_are_written_is_damage(tmp_path):
    path = tmp_path / "shard.parquet"
    rows = 10**6
    columns = {"step": pa.array(np.zeros(rows, np.int32)), "index": pa.array(np.zeros(rows, np.int64))}
    pq.write_table(pa.table(columns), path, row_group_size=rows, compression="zstd")
    for reader in (read_images, read_features):
        with pytest.raises(bounds.SwollenError, match="1,000,000 rows"), path.open("rb") as file:
            next(reader(file))


# --- the store ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["tiny", "tiny/sweep.json", "models", "queues"])
def test_links_in_a_store_lead_nowhere(make_sweep, tmp_path, place):
    """Whoever plants a link to what the user can write gains nothing: the run refuses and writes nothing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    store = LocalStore(tmp_path / "store")
    link = store.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "target" if place.endswith("json") else outside)
    with pytest.raises(StoreError, match="symbolic link"):
        run_sweep(store, make_sweep(), LocalPool(store).open, Lines(), ["sdesweep"])
    assert list(outside.iterdir()) == []


def test_records_in_a_store_are_data(filled):
    """A sweep's record is JSON of a fixed form: another one is refused in a line, and nothing is called."""
    for text in ('{"py/object": "os.system"}', "cos\nsystem\n(S'touch x'\ntR.", '{"name": "../../x"}'):
        filled.put("tiny/sweep.json", text.encode())
        code, output = call("status", "tiny", "--store", filled.url)
        assert code == 2
        assert "tiny/sweep.json is no record of a sweep that this version knows" in output
        assert len(output.splitlines()) == 1
