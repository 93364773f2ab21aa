"""Weights travel through the store, under the sha256 of their bytes: workers need no other files.

This module must not know what is in a weight file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobs.fingerprint import file_sha256
from jobs.models.build import WrongWeightsError
from jobs.paths import StorePaths
from jobs.store import Store

LARGE = 8 * 2**20  # bytes, from which on sending takes a moment


def send_weights(
    store: Store, files: Mapping[str, str], note: Callable[[str], None] = lambda text: None
) -> int:
    """Put weight files into the store unless they are there; returns how many were sent.

    files: sha256 -> path on the machine where the spec was read, as a Sweep has them. What is in the store
    already need not be on this one. note: told of each large file before it is sent.
    Raises FileNotFoundError, or WrongWeightsError when a file has changed since it was hashed.
    """
    sent = 0
    for sha256, path in files.items():
        name = StorePaths().weights(sha256)
        there = store.size(name)
        if there is not None and (not Path(path).exists() or there == Path(path).stat().st_size):
            continue
        if (size := Path(path).stat().st_size) > LARGE:
            note(f"sending {path} ({size / 2**20:,.0f} MiB) to the store")
        with store.writing(name) as target:
            shutil.copyfile(path, target)
            found = file_sha256(target)
            if found != sha256:
                raise WrongWeightsError(
                    f"{path} has changed: it was planned with sha256 {sha256}, now {found}"
                )
        sent += 1
    return sent


@contextmanager
def weights_of(store: Store) -> Iterator[Callable[[str], Path]]:
    """While the block lasts: a function from sha256 to a local path of the weights that the store has.

    The function raises FileNotFoundError for weights that were never sent. Whoever reads checks the sha256.
    """
    with ExitStack() as stack:
        yield lambda sha256: stack.enter_context(store.local(StorePaths().weights(sha256)))
