"""Weights that are downloaded and added: by the name of an origin, or from an address.

Apart from `jobs/models/fetch.py` because it knows names and the user's folder; it must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.models import catalog
from jobs.models.added import Added, add_weights
from jobs.models.fetch import Fetched, FetchError, Progress, fetch
from jobs.models.inventory import entry, where_to_get
from jobs.models.origins import ORIGINS, Download
from sdesampling.models import Weights

#: Opens a display for a file's bytes.
Display = Callable[[str], AbstractContextManager[Progress]]


class NotFetchedError(ValueError):
    """Weights that cannot be downloaded; the message says where they are and what to do by hand."""


def bring(
    what: str,
    name: str | None,
    sha256: str | None,
    weights: Weights | None,
    config: Path | None,
    display: Display,
) -> tuple[Added, list[Fetched]]:
    """Download the files of a name, or the file at an address, and add them.

    what: a name of `ORIGINS`, or an address, which is then added as `name`.
    What was downloaded is deleted once it is added, and kept where adding it fails.

    Raises:
        NotFetchedError: no such name, nothing to download, or no way to get it.
        ValueError: of `add_weights`.
    """
    if "://" in what:
        files: tuple[Download, ...] = (Download((what,), sha256),)
        called = name
        targets = [_downloads() / (unquote(urlsplit(what).path).rpartition("/")[2] or "file")]
    else:
        files, called = _files_of(what), what
        targets = [_downloads() / what.replace("/", "-") / each.name for each in files]
    if called is None:
        raise NotFetchedError(f"{what} needs a name to be added under")
    fetched = [_first(each, target, called, display) for each, target in zip(files, targets, strict=True)]
    try:
        added = add_weights(called, [each.path for each in fetched], weights, config)
    except ValueError as error:
        kept = ", ".join(str(each.path) for each in fetched)
        raise NotFetchedError(f"{error}; what was downloaded is kept as {kept}") from error
    for each in fetched:
        each.path.unlink()
    return added, fetched


def download(url: str, target: Path, sha256: str | None, display: Display) -> Fetched:
    """Download a file to a place. Raises NotFetchedError."""
    try:
        with display(target.name) as progress:
            return fetch(url, target, sha256, progress)
    except FetchError as error:
        raise NotFetchedError(f"{error}. By hand: save {url} as {target}") from error


def _files_of(name: str) -> tuple[Download, ...]:
    origin = ORIGINS.get(name)
    if origin is None or not origin.files:
        entry(name)  # raises for names that nobody knows
        raise NotFetchedError(f"{name} has no address to fetch it from: {where_to_get(name)}")
    return origin.files


def _downloads() -> Path:
    return catalog.added_folder() / catalog.DOWNLOADS


def _first(file: Download, target: Path, name: str, display: Display) -> Fetched:
    """The file from the first address that has it."""
    errors = []
    for url in file.urls:
        try:
            with display(target.name) as progress:
                return fetch(url, target, file.sha256, progress)
        except FetchError as error:
            errors.append(str(error))
    check = f" (sha256 {file.sha256})" if file.sha256 else ""
    raise NotFetchedError(
        f"{'; '.join(errors)}. By hand: download {file.urls[0]}{check} where there is a network, then "
        f"`sdesweep models add {file.name} --as {name}`"
    )
