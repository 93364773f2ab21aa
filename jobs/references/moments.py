"""Mean and scatter of a reference's features, computed once for each reference and extractor.

A file in the store beside the features, so that configurations share them. It names the digest of the
features that it was made of and carries one of its own numbers: whatever does not fit is computed again. It
must not know which metric needs them.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np

from fid.moments import Moments
from jobs.paths import StorePaths
from jobs.references.reference import Reference
from jobs.scores.scoring import moments_of
from jobs.store import Store


class DamagedMomentsError(ValueError):
    """A file of moments is not what was written."""


def reference_moments(store: Store, reference: Reference) -> Moments:
    """Moments of a reference: as they were imported, or of its features.

    Raises DamagedMomentsError when imported ones are damaged, DamageError when features are.
    """
    features = reference.features(store)
    if features is None:
        return read_moments(store.get(str(reference.moments)), str(reference.moments))[0]
    key = reference.folder.root.rpartition("/")[2]
    name = StorePaths().reference_moments(reference.name, reference.content, key)
    try:
        moments, made_of = read_moments(store.get(name), name)
        if made_of == reference.digest:
            return moments
    except (FileNotFoundError, DamagedMomentsError):
        pass  # made now
    moments = moments_of(features)
    store.put(name, written_moments(moments, reference.digest))
    return moments


def written_moments(moments: Moments, made_of: str) -> bytes:
    """The file of moments; `made_of`: digest of the features, or what else they come from."""
    file = io.BytesIO()
    np.savez(
        file,
        count=np.int64(moments.count),
        mean=moments.mean,
        scatter=moments.scatter,
        made_of=np.str_(made_of),
        digest=np.str_(_digest(moments, made_of)),
    )
    return file.getvalue()


def read_moments(data: bytes, name: str) -> tuple[Moments, str]:
    """Moments and what they were made of. Raises DamagedMomentsError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            moments = Moments(len(arrays["mean"]))
            moments.count = int(arrays["count"])
            moments.mean, moments.scatter = arrays["mean"], arrays["scatter"]
            made_of, digest = str(arrays["made_of"]), str(arrays["digest"])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedMomentsError(f"{name} cannot be read: {error}") from error
    if digest != _digest(moments, made_of):
        raise DamagedMomentsError(f"{name} does not have the digest that it says: import it again")
    return moments, made_of


def _digest(moments: Moments, made_of: str) -> str:
    parts = (repr((moments.count, made_of)).encode(), moments.mean.tobytes(), moments.scatter.tobytes())
    return hashlib.sha256(b"|".join(parts)).hexdigest()
