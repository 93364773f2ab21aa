"""What all commands share: the `--json` option, results and errors in both forms, exit codes, sweeps.

It must not know what a command does.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.models.resolve import Resolved
    from jobs.planning.sweep import Sweep
    from jobs.specs.configuration import Extractor
    from jobs.specs.spec import ExtractorSection, ModelSection
    from jobs.store import Store

DAMAGED = 1
INCOMPLETE = 75
WRONG_REQUEST = 2
UNREAD = 141  # as the shell says of what SIGPIPE has ended

store_option = click.option(
    "--store", metavar="URL", default="runs", show_default=True, help="A folder, or s3://BUCKET/PREFIX."
)


class RequestError(Exception):
    """What was asked for cannot be done; the message is for the user."""


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command its `--json` option, its exit code, and errors in plain words instead of tracebacks.

    The function takes `as_json` and returns its exit code, None for 0.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, **keywords: Any) -> None:
        try:
            code = function(*args, as_json=as_json, **keywords) or 0
        except KeyboardInterrupt:
            code = _refuse("stopped; nothing is lost, and the same command goes on", INCOMPLETE, as_json)
        except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor is what is left of it missed
            code = UNREAD
        except Exception as error:  # the edge of the program: what is no user's error is raised again
            code_of_error = _exit_code(error)
            if code_of_error is None:
                raise
            code = _refuse(error, code_of_error, as_json)
        sys.exit(code)

    return wrapper


def emit(data: Mapping[str, Any]) -> None:
    """Print the JSON form of a result."""
    click.echo(json.dumps(data, indent=1, default=str, allow_nan=False))


def console() -> Console:
    """Standard output for tables: in it, names and paths of users are text, whatever brackets they hold."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output(highlight=False, markup=False, emoji=False)


def open_store(url: str) -> Store:
    """The store that a command line names. Raises StoreError."""
    from jobs import store

    return store.open_store(url)


def load_sweep(store: Store, name: str) -> Sweep:
    """A sweep from the store's own record of it. Raises NotFoundError when it is not there."""
    from jobs.planning.lookup import find_sweep

    return find_sweep(store, name)


def expand_spec(source: str, settings: tuple[str, ...], store: str | None = None) -> Sweep:
    """The sweep of a spec file or a ready spec, `--set` and `--store` laid over it. Raises SpecError."""
    from jobs.planning.specfile import load_spec
    from jobs.planning.sweep import expand

    overrides = dict(map(_setting, settings))
    if store is not None:
        overrides["store"] = store
    return expand(load_spec(source, overrides))


def extractor_section(text: str) -> ExtractorSection:
    """`NAME` or `NAME=WEIGHTS`."""
    from pydantic import ValidationError

    from jobs.specs.spec import ExtractorSection

    name, _, weights = text.partition("=")
    try:
        return ExtractorSection(name=name, weights=weights or None)
    except ValidationError as error:
        raise RequestError(f"--extractor {text}: {error.errors()[0]['msg']}") from None


def model_section(text: str) -> ModelSection:
    """The model that a command line names: a name as in a spec, or a file. Raises RequestError."""
    from pydantic import ValidationError

    from jobs.specs.spec import ModelSection

    try:
        return ModelSection(weights={"model": text}) if Path(text).is_file() else ModelSection(name=text)
    except ValidationError:
        raise RequestError(
            f"{text!r} is neither a file nor a model's name: `sdesweep catalog` lists the names"
        ) from None


def find_extractor(text: str) -> Resolved[Extractor]:
    """The extractor that a command line names. Raises RequestError when its weights are not here."""
    from jobs.models.resolve import resolve_extractor

    found = resolve_extractor(extractor_section(text), Path.cwd())
    if found.missing:
        raise RequestError(found.missing[0])
    return found


def page_url(store: Store, name: str) -> str:
    """Where a browser finds the page of a sweep."""
    from jobs.paths import SweepPaths

    page = SweepPaths(name).report("index.html")
    return f"{store.url}/{page}" if "://" in store.url else (Path(store.url) / page).as_uri()


def _setting(text: str) -> tuple[str, Any]:
    """`sampler.steps=10` as a key and a value read as YAML."""
    from jobs.problems import SpecError
    from jobs.specs.plain_yaml import parse

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise RequestError(f"--set {text}: write --set KEY=VALUE, for example --set samples=100")
    try:
        return key, parse(f"value: {value}", f"--set {text}")["value"]
    except SpecError as error:
        raise RequestError(str(error)) from None


def _refuse(error: Exception | str, code: int, as_json: bool) -> int:
    from jobs.problems import SpecError
    from jobs.storage.commit import DamageError

    text = str(error)
    if isinstance(error, DamageError):
        text += "; `sdesweep verify SWEEP` (or `reference verify NAME`) moves it away, to be made again"
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    if as_json:
        data: dict[str, Any] = {"error": text, "exit_code": code}
        if isinstance(error, SpecError):
            data["problems"] = [
                {"path": problem.path, "message": problem.message} for problem in error.problems
            ]
        emit(data)
    elif isinstance(error, SpecError):
        head, *lines = str(error).splitlines()
        click.echo(f"{click.style('error', fg='red')}: {head}", err=True)
        for line in lines:
            click.echo(f"  - {line}", err=True)
    else:
        click.echo(f"{click.style('error', fg='red')}: {text}", err=True)
    return code


def _exit_code(error: Exception) -> int | None:
    """The exit code for an error that a user can mend; None for one that only a developer can."""
    from cluster.jobs_api import JobsError
    from cluster.pool import PoolError
    from cluster.prepare import NotRunnableError
    from jobs.inputs.datasets import DatasetError
    from jobs.inputs.modelfiles import UnresolvedError
    from jobs.inspection.export import TargetError
    from jobs.models.weights import WrongWeightsError
    from jobs.planning.lookup import NotFoundError
    from jobs.problems import SpecError
    from jobs.scores.scoring import MetricsError
    from jobs.storage.commit import DamageError
    from jobs.storage.lease import LeaseHeldError
    from jobs.store import StoreError

    if isinstance(error, PoolError | JobsError | LeaseHeldError):
        return INCOMPLETE
    if isinstance(error, DamageError):
        return DAMAGED
    wrong = (
        RequestError,
        NotRunnableError,
        SpecError,
        StoreError,
        DatasetError,
        NotFoundError,
        MetricsError,
        TargetError,
        UnresolvedError,
        WrongWeightsError,
    )
    return WRONG_REQUEST if isinstance(error, (*wrong, OSError)) else None
