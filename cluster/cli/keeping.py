"""Commands that keep a store in order: verify what it holds, remove what nobody needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

import click

from cluster.cli.bars import bar
from cluster.cli.common import command, emit, load_sweep, open_store, store_option


@click.command()
@click.argument("name")
@store_option
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read and hash, at most; as many as there are CPUs by default.",
)
@click.option("--dry-run", is_flag=True, help="Move nothing.")
@command
def verify(name: str, store: str, processes: int | None, dry_run: bool, as_json: bool) -> int:
    """Read and hash everything that the sweep NAME holds; move what is damaged to its quarantine.

    The next run makes again what was moved.

    \b
    Example:
      sdesweep verify digits-demo --store runs
    """
    from dataclasses import asdict

    from jobs.work.verify import verify as check

    opened = open_store(store)
    load_sweep(opened, name)  # a clear error where there is none
    with ExitStack() as stack:
        found = check(
            opened,
            name,
            repair=not dry_run,
            processes=processes or len(os.sched_getaffinity(0)),
            reading=_progress(stack, f"files of {name}", as_json),
        )
    if as_json:
        emit(asdict(found) | {"intact": found.intact})
        return 0 if found.intact else 1
    for problem in found.problems:
        moved = f"quarantined as {problem.incident}" if problem.incident else "left where it is"
        click.echo(f"{problem.file}: {problem.reason}; {moved}")
    for orphan in found.orphans:
        click.echo(f"{orphan}: no marker names it; an interrupted attempt left it")
    click.echo(f"{found.files:,} files of {found.bytes / 1e6:,.1f} MB read, {len(found.problems)} damaged")
    return 0 if found.intact else 1


@click.command()
@store_option
@click.option(
    "--older-than",
    type=click.FloatRange(min=0.0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave what was written within the last HOURS.",
)
@click.option("--quarantine", is_flag=True, help="Remove quarantined files too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@command
def gc(store: str, older_than: float, quarantine: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what killed attempts and finished work left in a store, and say how much it was.

    Data files that no marker names, snapshots of groups that are done, leases of drivers that are gone, files
    that were being written. No run needs any of it, and no result changes.

    \b
    Examples:
      sdesweep gc --store runs --dry-run
      sdesweep gc --store s3://bucket/runs --older-than 72
    """
    from dataclasses import asdict

    from jobs.storage.gc import KINDS, collect_garbage

    with ExitStack() as stack:
        report = collect_garbage(
            open_store(store),
            older_than * 3600.0,
            dry_run=dry_run,
            quarantine=quarantine,
            removing=_progress(stack, "files removed", as_json),
        )
    counts = report.count()
    if as_json:
        summary = {kind: {"files": files, "bytes": size} for kind, (files, size) in counts.items()}
        emit(asdict(report) | {"files": len(report.found), "bytes": report.bytes, "kinds": summary})
        return
    for kind, (files, size) in counts.items():
        click.echo(f"{KINDS[kind]}: {files:,} of {size / 1e6:,.1f} MB")
    for name in report.left_alone:
        click.echo(f"{name}: a driver is at work; left alone below --older-than 1")
    done = "would be removed" if dry_run else "removed"
    click.echo(f"{len(report.found):,} files of {report.bytes / 1e6:,.1f} MB {done}")


def _progress(stack: ExitStack, what: str, quiet: bool) -> Callable[[int], Callable[[int], None]]:
    """A bar that begins when the number of files is known."""
    return lambda total: stack.enter_context(bar(what, total, quiet=quiet))
