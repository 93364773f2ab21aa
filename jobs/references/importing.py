"""Published statistics of others become references: raw features, or a mean and a covariance.

Apart from references that are built because nothing here can be checked against images: what tool made the
file is taken from whoever imports it, and stated with every score. It must not extract features.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fid.moments import Moments
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import DatasetError
from jobs.paths import StorePaths
from jobs.planning.plan import groups
from jobs.references.moments import written_moments
from jobs.references.reference import IMPORTED, PART, STEP, commit_part, refuse_taken
from jobs.specs.configuration import Extractor
from jobs.specs.sections import DataSet
from jobs.storage.commit import Execution
from jobs.storage.features import FeatureRows
from jobs.storage.reference_index import Indexed, write_index
from jobs.store import Store

FEATURES = ("pool_3", "feats", "features")  # score_sde, clean-fid's files for KID, plain
SYMMETRY = 1e-4  # of the largest entry, that a published covariance may be off by


@dataclass(frozen=True)
class Statistics:
    """What a file of published statistics holds."""

    features: np.ndarray | None  # (count, dimension) float32
    logits: np.ndarray | None  # (count, classes) float32
    mean: np.ndarray | None  # (dimension,) float64
    covariance: np.ndarray | None  # (dimension, dimension) float64

    @property
    def dimension(self) -> int:
        found = self.features if self.features is not None else self.mean
        assert found is not None  # `read_statistics` gives one of them
        return found.shape[-1]


def read_statistics(name: str, path: Path) -> Statistics:
    """Read an npz archive with `pool_3`, `feats` or `features`, else with `mu` and `sigma`.

    Raises DatasetError for anything else, and for numbers that cannot be what they are called.
    """
    if not path.is_file():
        raise DatasetError(f"{name}: no such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = sorted(archive)
            wanted = [key for key in (*FEATURES, "logits", "mu", "sigma") if key in keys]
            arrays = {key: archive[key] for key in wanted}
    except (
        ValueError,
        OSError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DatasetError(
            f"{name}: {path} is no readable npz archive ({error}); pickles can run code and are not read: "
            "open them where they are trusted, and save numpy.savez(FILE, mu=..., sigma=...)"
        ) from error
    key = next((key for key in FEATURES if key in arrays), None)
    if key is not None:
        features = _checked(name, key, arrays[key], 2)
        logits = _checked(name, "logits", arrays["logits"], 2) if "logits" in arrays else None
        if logits is not None and len(logits) != len(features):
            raise DatasetError(
                f"{name}: {path} has {len(features)} rows of {key} and {len(logits)} of logits"
            )
        return Statistics(features.astype(np.float32), _float32(logits), None, None)
    if "mu" not in arrays or "sigma" not in arrays:
        raise DatasetError(
            f"{name}: {path} has neither {', '.join(FEATURES)} nor mu and sigma, only {', '.join(keys)}"
        )
    mean, covariance = (
        _checked(name, *item) for item in (("mu", arrays["mu"], 1), ("sigma", arrays["sigma"], 2))
    )
    _refuse_no_covariance(name, mean, covariance)
    return Statistics(None, None, mean.astype(np.float64), covariance.astype(np.float64))


def import_reference(
    store: Store, name: str, path: Path, extractor: Extractor, count: int | None, split: str | None = None
) -> Indexed:
    """Keep published statistics as the reference `name`.

    Args:
        extractor: what the file is said to be made by; its weights are of no account, they cannot be known.
        count: images behind a mean and covariance, which the file does not say.
        split: of the data set that it is of, if known.

    Raises DatasetError when the name is taken, the dimension is another, or the count is missing or wrong.
    """
    found = read_statistics(name, path)
    if found.dimension != extractor.dimension:
        raise DatasetError(
            f"{name}: {path} is of {found.dimension:,} dimensions, and {extractor.name} gives "
            f"{extractor.dimension:,}: say by --extractor what made it"
        )
    rows = None if found.features is None else len(found.features)
    if rows is not None and count not in (None, rows):
        raise DatasetError(f"{name}: {path} has features of {rows:,} images, not of {count:,}")
    known = rows or count
    if known is None or known < 2:
        raise DatasetError(
            f"{name}: {path} does not say how many images are behind its mean and covariance, and the "
            "bias of a score depends on it: give --count, for example 50000 for CIFAR-10's training split"
        )
    record = Indexed(
        content=file_sha256(path),
        count=known,
        kind="features" if rows else "moments",
        source=str(path.resolve()),
        split=split,
        extractor=extractor.name,
        dimension=found.dimension,
        logits=found.logits is not None,
    )
    refuse_taken(store, name, record)
    if found.features is not None:
        _keep_features(store, name, record, found.features, found.logits)
    if found.mean is not None and found.covariance is not None:
        moments = Moments.from_covariance(found.mean, found.covariance, known)
        target = StorePaths().reference_moments(name, record.content, IMPORTED)
        store.put(target, written_moments(moments, record.content))
    write_index(store, DataSet(name=name), record)
    return record


def _keep_features(
    store: Store, name: str, record: Indexed, features: np.ndarray, logits: np.ndarray | None
) -> None:
    folder = StorePaths().reference_features(name, record.content, IMPORTED)
    for part in groups(range(record.count), PART):
        span = slice(part.start, part.stop)
        rows = FeatureRows(
            STEP, np.arange(part.start, part.stop), features[span], None if logits is None else logits[span]
        )
        commit_part(store, folder, record.content, rows, {"file": record.content}, _ELSEWHERE)


#: Where published features were made is not known.
_ELSEWHERE = Execution(
    device="imported", torch="unknown", threads=0, micro_batch=None, precision="float32", sampler_version=""
)


def _checked(name: str, key: str, array: np.ndarray, dimensions: int) -> np.ndarray:
    if array.dtype.kind != "f" or array.ndim != dimensions or array.size == 0:
        raise DatasetError(
            f"{name}: {key} must be {dimensions}-dimensional floats, got {array.dtype} {array.shape}"
        )
    if not np.isfinite(array).all():
        raise DatasetError(f"{name}: {key} holds NaN or infinity")
    return array


def _float32(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.astype(np.float32)


def _refuse_no_covariance(name: str, mean: np.ndarray, covariance: np.ndarray) -> None:
    if covariance.shape != (mean.size, mean.size):
        raise DatasetError(f"{name}: mu {mean.shape} and sigma {covariance.shape} do not belong together")
    largest = float(np.abs(covariance).max())
    if float(np.abs(covariance - covariance.T).max()) > SYMMETRY * largest:
        raise DatasetError(f"{name}: sigma is not symmetric, so it is no covariance")
    if float(np.linalg.eigvalsh(covariance)[0]) < -SYMMETRY * largest:
        raise DatasetError(f"{name}: sigma has negative eigenvalues, so it is no covariance")
