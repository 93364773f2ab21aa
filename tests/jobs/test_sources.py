"""Sets too large to be held: the same content and pixels as in memory, and what changes is noticed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.inputs import census, npz
from jobs.inputs.datasets import DatasetError, open_dataset, read_dataset
from jobs.inputs.sources import Dataset, StreamedImages

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 3, 5, 7), dtype=np.uint8)
LABELS = np.arange(23) % 4


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def folder(place: Path) -> Path:
    place.mkdir()
    for number, image in enumerate(IMAGES):
        (place / f"{number:03}.png").write_bytes(png(image))
    return place


def parquet(place: Path) -> Path:
    place.mkdir()
    for name, part in (("train-0", range(9)), ("train-1", range(9, 23))):
        cells = [{"bytes": png(IMAGES[number]), "path": None} for number in part]
        table = pa.table({"image": cells, "label": LABELS[part.start : part.stop]})
        pq.write_table(table, place / f"{name}.parquet", row_group_size=4)
    return place


def channels_last(place: Path) -> Path:
    np.savez(place.with_suffix(".npz"), arr_0=IMAGES.transpose(0, 2, 3, 1), labels=LABELS)
    return place.with_suffix(".npz")


def packed(place: Path) -> Path:
    np.savez_compressed(place.with_suffix(".npz"), images=IMAGES, labels=LABELS)
    return place.with_suffix(".npz")


@pytest.fixture
def nothing_held(monkeypatch):
    monkeypatch.setattr(census, "HELD", 0)
    monkeypatch.setattr(npz, "HELD", 0)


@pytest.mark.parametrize("write", [folder, parquet, channels_last, packed])
def test_a_large_set_is_the_same_as_in_memory(write, tmp_path, nothing_held):
    source = write(tmp_path / "set")
    found = open_dataset("large", source)
    assert isinstance(found, StreamedImages)
    held = Dataset("small", IMAGES)
    assert (found.content_hash, len(found), found.shape) == (held.content_hash, 23, (3, 5, 7))
    for part in (range(23), range(9, 23), range(3, 6), range(22, 23)):
        blocks = list(found.blocks(part, 4))
        assert max(map(len, blocks)) <= 4
        np.testing.assert_array_equal(np.concatenate(blocks), IMAGES[part.start : part.stop])
        np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(list(held.blocks(part, 4))))
    whole = read_dataset("large", source)
    np.testing.assert_array_equal(whole.images, IMAGES)
    if write is not folder:
        np.testing.assert_array_equal(whole.labels, LABELS)


@pytest.mark.parametrize("held", [0, 10**9])
def test_what_cannot_be_used_is_left_out_of_the_content_too(tmp_path, monkeypatch, held):
    monkeypatch.setattr(census, "HELD", held)
    place = folder(tmp_path / "set")
    (place / "000.png").write_bytes(png(IMAGES[0, :, :4]))
    (place / "007.png").write_bytes(png(IMAGES[7])[:50])
    with pytest.raises(DatasetError, match="2 of 23 images cannot be used"):
        open_dataset("large", place)
    found = open_dataset("large", place, skip_unreadable=True)
    expected = np.delete(IMAGES, [0, 7], axis=0)
    assert found.content_hash == Dataset("small", expected).content_hash
    np.testing.assert_array_equal(np.concatenate(list(found.blocks(range(21), 8))), expected)
    np.testing.assert_array_equal(np.concatenate(list(found.blocks(range(5, 9), 8))), expected[5:9])
    assert len(found.skipped) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (png(255 - IMAGES[4]), "the images changed while the set was read"),
        (png(IMAGES[4, :, :3]), r"004.png: changed while the set was read: it is RGB 7x3 now"),
        (b"", "004.png: changed while the set was read: the image has no bytes"),
    ],
)
def test_images_that_change_between_check_and_use_are_noticed(tmp_path, nothing_held, change, message):
    place = folder(tmp_path / "set")
    found = open_dataset("large", place)
    (place / "004.png").write_bytes(change)
    with pytest.raises(DatasetError, match=message):
        list(found.blocks(range(23), 8))
