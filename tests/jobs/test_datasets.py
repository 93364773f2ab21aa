"""Data sets from every source come out as uint8 (count, channels, height, width) in a fixed order."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_sets import images, png, write_parquet

from jobs.inputs.datasets import DatasetError, read_dataset, read_digits
from jobs.inputs.sources import Dataset


def test_digits_split_keeps_the_mixture_of_classes_and_loses_nothing() -> None:
    whole, train, held = read_digits(), read_digits("train"), read_digits("heldout")
    assert (len(whole), len(train), len(held)) == (1797, 1248, 549)
    assert whole.images.shape == (1797, 1, 8, 8)
    assert set(np.unique(whole.images)) == {round(value * 255 / 16) for value in range(17)}
    together = sorted(image.tobytes() for part in (train, held) for image in part.images)
    assert together == sorted(image.tobytes() for image in whole.images)
    assert train.labels is not None
    assert held.labels is not None
    shares = np.bincount(held.labels) / (np.bincount(held.labels) + np.bincount(train.labels))
    assert np.all(np.abs(shares - 0.3) < 0.015)


def test_digits_are_read_by_name_and_their_content_is_pinned() -> None:
    """The hash names references in stores, so another reading of the same data may never slip in."""
    assert read_dataset("digits-train").content_hash.startswith("1280abf6140f")
    assert read_dataset("digits-heldout").content_hash.startswith("c14cc9fe6aad")
    assert read_dataset("digits").content_hash.startswith("b8f6054deded")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("column", ["image", "img"])
def test_parquet_gives_back_the_pixels(tmp_path: Path, channels: int, column: str) -> None:
    pixels = images(5, channels)
    write_parquet(tmp_path / "a.parquet", pixels, [4, 3, 2, 1, 0], column)
    data = read_dataset("mine", tmp_path / "a.parquet")
    np.testing.assert_array_equal(data.images, pixels)
    assert data.labels is not None
    assert data.labels.tolist() == [4, 3, 2, 1, 0]


def test_parquet_folder_is_read_in_order_of_file_names(tmp_path: Path) -> None:
    first, second = images(3, 1, 1), images(2, 1, 2)
    write_parquet(tmp_path / "part-1.parquet", second, None)
    write_parquet(tmp_path / "part-0.parquet", first, None)
    data = read_dataset("mine", tmp_path)
    np.testing.assert_array_equal(data.images, np.concatenate([first, second]))
    assert data.labels is None


def test_parquet_of_plain_bytes(tmp_path: Path) -> None:
    pixels = images(2, 3)
    pq.write_table(pa.table({"image": [png(image) for image in pixels]}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_dataset("mine", tmp_path / "a.parquet").images, pixels)


def test_npz_of_any_channel_order(tmp_path: Path) -> None:
    pixels, labels = images(4, 3), np.arange(4)
    np.savez(tmp_path / "last.npz", arr_0=pixels.transpose(0, 2, 3, 1))
    np.savez(tmp_path / "first.npz", images=pixels, labels=labels)
    np.savez(tmp_path / "grey.npz", images=pixels[:, 0])
    np.testing.assert_array_equal(read_dataset("last", tmp_path / "last.npz").images, pixels)
    first = read_dataset("first", tmp_path / "first.npz")
    np.testing.assert_array_equal(first.images, pixels)
    np.testing.assert_array_equal(first.labels, labels)
    np.testing.assert_array_equal(read_dataset("grey", tmp_path / "grey.npz").images, pixels[:, :1])


def test_folder_labels_are_sorted_subfolders(tmp_path: Path) -> None:
    pixels = images(3, 3)
    for folder, image in zip(["zebra", "ape", "ape"], pixels, strict=True):
        (tmp_path / folder).mkdir(exist_ok=True)
        number = len(list((tmp_path / folder).iterdir()))
        (tmp_path / folder / f"{number}.png").write_bytes(png(image))
    data = read_dataset("mine", tmp_path)
    np.testing.assert_array_equal(data.images, pixels[[1, 2, 0]])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(images(1, 1)[0]))
    assert read_dataset("mine", tmp_path).labels is None


def test_content_hash_sees_pixels_order_and_shape_alone() -> None:
    pixels = images(4, 1)
    known = Dataset("a", pixels, np.arange(4)).content_hash
    assert Dataset("b", pixels).content_hash == known
    assert Dataset("a", pixels[::-1]).content_hash != known
    assert Dataset("a", pixels.reshape(4, 1, 4, 9)).content_hash != known
    changed = pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    assert Dataset("a", changed).content_hash != known


def broken_folder(path: Path) -> Path:
    (path / "a.png").write_bytes(b"no image")
    return path


def uneven_folder(path: Path) -> Path:
    (path / "a.png").write_bytes(png(images(1, 1, side=6)[0]))
    (path / "b.png").write_bytes(png(images(1, 1, side=7)[0]))
    return path


def empty_folder(path: Path) -> Path:
    return path


def missing_file(path: Path) -> Path:
    return path / "nowhere.npz"


def other_kind(path: Path) -> Path:
    (path / "a.csv").write_text("1,2")
    return path / "a.csv"


def float_npz(path: Path) -> Path:
    np.savez(path / "a.npz", images=np.zeros((2, 1, 4, 4)))
    return path / "a.npz"


def npz_without_images(path: Path) -> Path:
    np.savez(path / "a.npz", x=np.zeros(3))
    return path / "a.npz"


def parquet_without_images(path: Path) -> Path:
    pq.write_table(pa.table({"pixels": [1, 2]}), path / "a.parquet")
    return path / "a.parquet"


def parquet_with_null(path: Path) -> Path:
    cells = [{"bytes": png(images(1, 1)[0]), "path": None}, {"bytes": None, "path": "elsewhere.png"}]
    pq.write_table(pa.table({"image": cells}), path / "a.parquet")
    return path / "a.parquet"


def labels_of_other_length(path: Path) -> Path:
    np.savez(path / "a.npz", images=images(3, 1), labels=np.arange(2))
    return path / "a.npz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_folder, "a.png: not a readable image"),
        (uneven_folder, "b.png: is grey 7x7, and most are grey 6x6"),
        (empty_folder, "no image files"),
        (missing_file, "no such file or folder"),
        (other_kind, "neither a folder nor a .parquet, .npz or idx file"),
        (float_npz, "must be uint8 .* got float64"),
        (npz_without_images, r"no array 'images' or 'arr_0', only \['x'\]"),
        (parquet_without_images, r"no column 'image' or 'img', only \['pixels'\]"),
        (parquet_with_null, "row 1: the image has no bytes"),
        (labels_of_other_length, "3 images need as many labels"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    path = make(tmp_path)
    with pytest.raises(DatasetError, match=message):
        read_dataset("mine", path)


def test_unknown_name_without_a_path_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match=r"unknown data set 'cifar10'.*digits-train"):
        read_dataset("cifar10")


class HubRows:
    """As much of a data set of the library `datasets` as is used here."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self._columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    def select_columns(self, names: list[str]) -> HubRows:
        return HubRows({name: self._columns[name] for name in names})

    def cast_column(self, name: str, feature: object) -> HubRows:
        assert feature == "encoded"
        return self

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, row: int) -> dict[str, object]:
        return {name: cells[row] for name, cells in self._columns.items()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, HubRows]:
    """Split -> rows of the only data set that there is."""
    splits: dict[str, HubRows] = {}

    def load_dataset(name: str, split: str) -> HubRows:
        if split not in splits:
            raise ValueError(f"Unknown split {split!r}")
        return splits[split]

    library = types.SimpleNamespace(
        load_dataset=load_dataset,
        Image=lambda decode: "decoded" if decode else "encoded",
        exceptions=types.SimpleNamespace(DatasetsError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "datasets", library)
    return splits


def test_a_data_set_of_the_hub_is_read_as_it_is_encoded_there(
    hub: dict[str, HubRows], tmp_path: Path
) -> None:
    pixels = images(3, 3)
    (tmp_path / "c.png").write_bytes(png(pixels[2]))
    cells: list[object] = [{"bytes": png(image), "path": None} for image in pixels[:2]]
    hub["train"] = HubRows(
        {"img": [*cells, {"bytes": None, "path": str(tmp_path / "c.png")}], "label": [1, 2, 3]}
    )
    np.testing.assert_array_equal(read_dataset("mine", "datasets:some/set", "train").images, pixels)
    with pytest.raises(DatasetError, match="has splits: choose one with --split"):
        read_dataset("mine", "datasets:some/set")
    with pytest.raises(DatasetError, match="split test, cannot be loaded: Unknown split 'test'"):
        read_dataset("mine", "datasets:some/set", "test")


def test_a_data_set_of_the_hub_without_images_is_refused(hub: dict[str, HubRows]) -> None:
    hub["train"] = HubRows({"text": ["a"]})
    with pytest.raises(DatasetError, match=r"no column 'image' or 'img', only \['text'\]"):
        read_dataset("mine", "datasets:some/set", "train")


@pytest.mark.parametrize("name", ["stylegan2-stats.pkl", "stats.pt"])
def test_pickles_are_not_read_and_the_way_out_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(DatasetError, match=r"is a pickle, which can run code .* save numpy\.savez"):
        read_dataset("theirs", tmp_path / name)
