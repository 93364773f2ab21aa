"""Reading data sets: the digits that scikit-learn carries, folders, npz, Hugging Face Parquet, archives.

Whatever the source, a data set is uint8 images (count, channels, height, width) with or without labels, and a
content hash that names it in references and training records. Knows nothing of models, features or the store.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from jobs.inputs.archives import is_cifar, is_idx, read_cifar, read_idx
from jobs.inputs.census import Checked, EncodedImages, check_images, decoded
from jobs.inputs.encoded import FolderImages, HubImages, ParquetImages
from jobs.inputs.imagefiles import IMAGE_SUFFIXES, DatasetError, image_paths
from jobs.inputs.npz import open_npz
from jobs.inputs.sources import Dataset, StreamedImages, in_memory
from jobs.specs.sections import DataSet

__all__ = ["BUILT_IN", "HUB", "DatasetError", "open_dataset", "read_dataset", "read_digits"]

HUB = "datasets:"  # begins the path of a data set that the library `datasets` loads
BUILT_IN = ("digits", "digits-train", "digits-heldout")

PICKLES = (".pkl", ".pickle", ".pt", ".pth")

#: Opens a display of progress over so many images; what it yields is told how many more are done.
Reading = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
#: Opens a data set; whether unreadable images are skipped.
Opening = Callable[[bool, Reading], Dataset | StreamedImages]


def _unseen(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda more: None)


def read_dataset(
    name: str, path: str | Path | None = None, split: str | None = None, *, skip_unreadable: bool = False
) -> Dataset:
    """The images of `open_dataset`, all in memory."""
    return in_memory(open_dataset(name, path, split, skip_unreadable=skip_unreadable))


def read_given(data_set: DataSet) -> Dataset:
    """The images of `open_given`, all in memory."""
    return in_memory(open_given(data_set))


def open_dataset(
    name: str,
    path: str | Path | None = None,
    split: str | None = None,
    *,
    skip_unreadable: bool = False,
    reading: Reading = _unseen,
) -> Dataset | StreamedImages:
    """A built-in data set by its name, or any other from a path; in memory only where it is small.

    Args:
        name: `digits`, `digits-train` or `digits-heldout` when there is no path; otherwise a name to go by.
        path: a Parquet file or folder of them, with a column `image` or `img` (struct<bytes, path> or bytes)
            and perhaps `label` or `labels`; an npz archive with `images` (or `arr_0`) and perhaps `labels`;
            a CIFAR archive (python or binary), packed or not; an idx file of images, zipped or not; or a
            folder of image files, where sorted subfolders are the labels. `datasets:NAME` is a data set of
            the Hugging Face hub, or a folder that its library knows how to load.
        split: `train` or `test` of a CIFAR archive; of a folder of Parquet files, and of a single file,
            how the name begins; of a data set of the hub, as it is called there.
        skip_unreadable: leave out images in files that cannot be used, and name them in `skipped`.
        reading: opens a display of progress over so many images that are looked at.

    Raises:
        DatasetError: unknown name, missing path, no images, or images that cannot be used, all of them named.
    """
    return find_dataset(name, path, split)(skip_unreadable, reading)


def find_dataset(name: str, path: str | Path | None, split: str | None) -> Opening:
    """What opens a data set, of which no image is read yet. Raises DatasetError where there can be none."""
    if path is None:
        if name not in BUILT_IN:
            raise DatasetError(
                f"unknown data set {name!r}: built in are {', '.join(BUILT_IN)}; for any other give a path"
            )
        return lambda skip, reading: read_digits(None if name == "digits" else name.removeprefix("digits-"))
    if str(path).startswith(HUB):
        return partial(_open_hub, name, str(path).removeprefix(HUB), split)
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{name}: no such file or folder: {path}")
    if path.suffix in PICKLES:
        raise DatasetError(
            f"{name}: {path} is a pickle, which can run code and is not read: open it where it is trusted, "
            "and save numpy.savez(FILE, images=...), or mu=..., sigma=... of statistics"
        )
    if is_cifar(path):
        return lambda skip, reading: Dataset(name, *read_cifar(name, path, split))
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if shards:
        return partial(_open_parquet, name, _of_split(name, shards, split))
    if split is not None and not _is_of_split(path, split):
        raise DatasetError(f"{name}: {path} has no splits to choose {split!r} from")
    if path.is_dir():
        return partial(_open_folder, name, path)
    if path.suffix == ".parquet":
        return partial(_open_parquet, name, [path])
    if path.suffix == ".npz" or zipfile.is_zipfile(path):
        return lambda skip, reading: open_npz(name, path)
    if is_idx(path):
        return lambda skip, reading: Dataset(name, read_idx(name, path))
    raise DatasetError(
        f"{name}: {path} is neither a folder nor a .parquet, .npz or idx file, nor an archive of CIFAR"
    )


def open_given(data_set: DataSet, *, skip_unreadable: bool = False) -> Dataset | StreamedImages:
    """`open_dataset` for a section. Raises DatasetError also where it says another content."""
    found = open_dataset(data_set.name, data_set.path, data_set.split, skip_unreadable=skip_unreadable)
    if data_set.content not in (None, found.content_hash):
        raise DatasetError(
            f"{data_set.name}: {data_set.path or 'what is shipped'} has changed: its images have the content "
            f"{found.content_hash}, not {data_set.content}"
        )
    return found


def _is_of_split(path: Path, split: str) -> bool:
    """Whether a file's own name says that it is of a split; the test images of MNIST are called t10k."""
    return path.is_file() and path.name.startswith((split, "t10k") if split == "test" else split)


def _of_split(name: str, shards: list[Path], split: str | None) -> list[Path]:
    found = [path for path in shards if split is None or path.name.startswith(split)]
    if not found:
        raise DatasetError(
            f"{name}: no file begins with {split!r}: {', '.join(path.name for path in shards)}"
        )
    return found


def read_digits(split: str | None = None) -> Dataset:
    """The UCI optical digits of scikit-learn: 1,797 grey images of 8x8.

    Their values 0 to 16 become round(value * 255 / 16). Of every ten consecutive images of a class the first
    three are held out, so both splits have the same mixture of classes: `heldout` has 549 images, `train`
    1,248, None all of them in order.
    """
    from sklearn.datasets import load_digits  # imported here: it takes a second, and workers do not need it

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rank = np.zeros(len(labels), dtype=np.int64)  # of an image among those of its class
    for label in range(10):
        rank[labels == label] = np.arange((labels == label).sum())
    held_out = rank % 10 < 3
    chosen = {None: np.ones_like(held_out), "train": ~held_out, "heldout": held_out}
    if split not in chosen:
        raise DatasetError(f"digits: unknown split {split!r}, expected 'train', 'heldout' or none")
    name = "digits" if split is None else f"digits-{split}"
    return Dataset(name, images[chosen[split]], labels[chosen[split]])


def _open_folder(name: str, folder: Path, skip: bool, reading: Reading) -> Dataset | StreamedImages:
    files, disguised = image_paths(folder)
    if not files and not disguised:
        raise DatasetError(f"{name}: no image files ({', '.join(IMAGE_SUFFIXES)}) under {folder}")
    encoded = FolderImages(files)
    with reading(f"reading {folder}", len(files)) as advance:
        found = check_images(name, encoded, disguised, skip=skip, advance=advance)
    parents = [files[number].parent.relative_to(folder).as_posix() for number in found.kept]
    labels = None
    if "." not in parents:
        classes = {parent: number for number, parent in enumerate(sorted(set(parents)))}
        labels = np.array([classes[parent] for parent in parents], dtype=np.int64)
    return _decoded(name, encoded, found, labels)


def _open_parquet(name: str, paths: list[Path], skip: bool, reading: Reading) -> Dataset | StreamedImages:
    encoded = ParquetImages(name, paths)
    with reading(f"reading {paths[0].parent if len(paths) > 1 else paths[0]}", len(encoded)) as advance:
        found = check_images(name, encoded, skip=skip, advance=advance)
    labels = encoded.labels()
    return _decoded(name, encoded, found, None if labels is None else labels[found.kept])


def _open_hub(
    name: str, data_set: str, split: str | None, skip: bool, reading: Reading
) -> Dataset | StreamedImages:
    """A data set by the library `datasets`."""
    where = f"{HUB}{data_set}"
    try:
        import datasets  # an optional extra
    except ImportError:
        raise DatasetError(
            f"{name}: {where} needs the library `datasets`: pip install 'sdesweep[datasets]'"
        ) from None
    if split is None:
        raise DatasetError(f"{name}: {where} has splits: choose one with --split, for example train")
    try:
        rows = datasets.load_dataset(data_set, split=split)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DatasetError(f"{name}: {where}, split {split}, cannot be loaded: {error}") from error
    encoded = HubImages(name, where, rows)
    with reading(f"reading {where}", len(encoded)) as advance:
        found = check_images(name, encoded, skip=skip, advance=advance)
    return _decoded(name, encoded, found, None)


def _decoded(
    name: str, encoded: EncodedImages, found: Checked, labels: np.ndarray | None
) -> Dataset | StreamedImages:
    """The usable images: in memory where they are few, else to be decoded as they are wanted."""
    if found.held is not None:
        return Dataset(name, found.held, labels, found.skipped)
    rows = partial(decoded, name, encoded, found.kept, found.shape)
    return StreamedImages(name, len(found.kept), found.shape, found.content_hash, rows, labels, found.skipped)
