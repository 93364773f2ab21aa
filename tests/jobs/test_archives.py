"""Archives of published data sets come out as they went in; what is no such archive is named."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest
from image_sets import images, write_parquet

from jobs.inputs.datasets import DatasetError, read_dataset

RNG = np.random.default_rng(0)
IMAGES = {
    name: RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    for name in ("data_batch_1", "data_batch_2", "test_batch")
}
LABELS = [4, 0, 9]


def python_batch(images: np.ndarray) -> bytes:
    return pickle.dumps({b"data": images.reshape(3, -1), b"labels": LABELS}, protocol=2)


def binary_batch(images: np.ndarray) -> bytes:
    rows = np.concatenate([np.array(LABELS, np.uint8)[:, None], images.reshape(3, -1)], axis=1)
    return rows.tobytes()


def archive(path, batches: dict[str, bytes], folder: str):
    with tarfile.open(path, "w:gz") as file:
        for name, data in reversed(batches.items()):  # order in the archive does not count
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def batches(kind: str) -> dict[str, bytes]:
    if kind == "python":
        return {name: python_batch(images) for name, images in IMAGES.items()}
    return {f"{name}.bin": binary_batch(images) for name, images in IMAGES.items()}


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("packed", [True, False])
def test_cifar_by_split(tmp_path, kind, packed):
    if packed:
        path = archive(tmp_path / f"cifar-10-{kind}.tar.gz", batches(kind), "cifar-10-batches")
    else:
        path = tmp_path
        for name, data in batches(kind).items():
            (path / name).write_bytes(data)
    train, test = (read_dataset("cifar10", path, split) for split in ("train", "test"))
    np.testing.assert_array_equal(
        train.images, np.concatenate([IMAGES["data_batch_1"], IMAGES["data_batch_2"]])
    )
    np.testing.assert_array_equal(test.images, IMAGES["test_batch"])
    assert test.labels.tolist() == LABELS
    with pytest.raises(DatasetError, match="choose one with --split"):
        read_dataset("cifar10", path)


def test_a_pickle_that_asks_for_more_than_arrays_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (len, ("run",))

    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(DatasetError, match=r"asks for builtins.len"):
        read_dataset("cifar10", tmp_path, "test")


def test_a_cut_binary_batch_is_refused(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(batches("binary")["test_batch.bin"][:-1])
    with pytest.raises(DatasetError, match="no multiple of 3073"):
        read_dataset("cifar10", tmp_path, "test")


@pytest.mark.parametrize("zipped", [True, False])
def test_idx(tmp_path, zipped):
    images = RNG.integers(0, 256, (5, 4, 6), dtype=np.uint8)
    data = b"".join(number.to_bytes(4) for number in (0x803, *images.shape)) + images.tobytes()
    path = tmp_path / ("train-images-idx3-ubyte" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(data) if zipped else data)
    np.testing.assert_array_equal(read_dataset("mnist", path).images, images[:, None])
    assert len(read_dataset("mnist", path, "train")) == 5
    with pytest.raises(DatasetError, match="has no splits to choose 'test' from"):
        read_dataset("mnist", path, "test")
    path.write_bytes(gzip.compress(data[:-1]) if zipped else data[:-1])
    with pytest.raises(DatasetError, match="says 5 images of 6x4"):
        read_dataset("mnist", path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes((0x801).to_bytes(4) + (0).to_bytes(4))
    with pytest.raises(DatasetError, match="labels are in another file"):
        read_dataset("mnist", labels)


def test_a_folder_of_parquet_files_by_split(tmp_path):

    write_parquet(tmp_path / "train-0.parquet", images(3, 1), None)
    write_parquet(tmp_path / "test-0.parquet", images(2, 1), None)
    assert len(read_dataset("mine", tmp_path, "test")) == 2
    with pytest.raises(DatasetError, match="no file begins with 'validation'"):
        read_dataset("mine", tmp_path, "validation")
