"""The command that says why a score is wrong.

A module of its own because it prints findings, not tables. It must not judge: `fid.audit` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.cli.common import RequestError, command, emit, load_sweep, open_store, store_option

if TYPE_CHECKING:
    from fid.audit import Audit, Evidence, Finding, HypothesisTest
    from jobs.sections import DataSet
    from jobs.store import Store


@click.command()
@click.argument("target", metavar="CONFIG|IMAGES")
@click.option("--reference", metavar="R", help="A data set's name, or NAME=PATH. Default: of the sweep.")
@click.option("--expect", type=float, metavar="FID", help="The value that was expected.")
@click.option("--expect-samples", type=click.IntRange(2), metavar="N", help="Images behind it.")
@click.option("--expect-reference", metavar="R", help="What it was measured against.")
@click.option(
    "--extractor", default="digits-cnn", show_default=True, metavar="E", help="NAME or NAME=PATH, for IMAGES."
)
@store_option
@command
def audit(
    target: str,
    reference: str | None,
    expect: float | None,
    expect_samples: int | None,
    expect_reference: str | None,
    extractor: str,
    store: str,
    as_json: bool,
) -> int:
    """Say why the FID of a configuration, or of a set of image files, is what it is: twelve hypotheses.

    CONFIG is SWEEP, or SWEEP/FINGERPRINT with as much of the fingerprint as is needed; IMAGES is a folder, a
    Parquet file or an npz archive. Exit code 1 when something is found.

    \b
    Examples:
      sdesweep audit digits-demo/3fa9 --store runs
      sdesweep audit samples/ --reference digits-train --expect 3.2
    """
    from fid.audit import audit as examine
    from jobs.audit import as_data, expecting

    given = None if reference is None else _data_set(reference)
    real = None if expect_reference is None else _data_set(expect_reference)
    if Path(target).exists():
        evidence = _of_images(Path(target), given, extractor)
    else:
        evidence = _of_configuration(open_store(store), target, given)
    evidence = expecting(evidence, expect, expect_samples, real)
    found = examine(evidence) if as_json else examine(evidence, progress=_progress)
    if as_json:
        emit(as_data(found))
    else:
        _print(found)
    return 1 if found.found else 0


def _data_set(text: str) -> DataSet:
    from jobs.sections import DataSet

    name, _, path = text.partition("=")
    return DataSet(name=name, path=path or None)


def _of_images(path: Path, reference: DataSet | None, extractor: str) -> Evidence:
    from jobs.audit import audited_images
    from jobs.spec import ExtractorSection

    if reference is None:
        raise RequestError("image files have no reference of their own: give --reference NAME or NAME=PATH")
    name, _, weights = extractor.partition("=")
    section = ExtractorSection(name=name, weights=weights or None)
    return audited_images(path, reference, section, Path.cwd())


def _of_configuration(store: Store, target: str, reference: DataSet | None) -> Evidence:
    from jobs.audit import audited_configuration

    name, _, prefix = target.partition("/")
    sweep = load_sweep(store, name)
    matching = [found for found in sweep.configurations if found.fingerprint.startswith(prefix)]
    if len(matching) != 1:
        known = ", ".join(f"{name}/{found.fingerprint[:8]} ({found.name})" for found in sweep.configurations)
        raise RequestError(f"{target} is {len(matching)} configurations, not one; there are {known}")
    configuration = matching[0]
    return audited_configuration(
        store, sweep, configuration, configuration.extractors[0], reference or configuration.references[0]
    )


def _progress(test: HypothesisTest, finding: Finding | None) -> None:
    if finding is None:
        click.echo(f"{test.key:>4} {test.hypothesis} ... ", nl=False, err=True)
    else:
        click.echo(finding.verdict, err=True)


def _print(audit: Audit) -> None:
    if audit.measured is not None:
        expected = "expected" if audit.expected is not None else "real against real"
        baseline = "" if audit.baseline is None else f", {expected} {audit.baseline:.4g}"
        click.echo(f"FID {audit.measured:.6g} +- {audit.standard_error or 0:.2g}{baseline}")
    if not audit.found:
        click.echo("nothing was found")
    for finding in audit.findings:
        points = "" if finding.contribution is None else f" ({finding.contribution:+.3g} points)"
        line = f"{finding.test:>4} {finding.verdict:<8} {finding.hypothesis}{points}: {finding.reason}"
        click.secho(line, fg="red" if finding.verdict == "found" else None)
        if finding.verdict == "found":
            for name, value in finding.evidence.items():
                click.echo(
                    f"       {name}: {value:.5g}" if isinstance(value, float) else f"       {name}: {value}"
                )
            click.echo(f"       do: {finding.remedy}")
    if audit.found and audit.unexplained is not None:
        click.echo(f"unexplained: {audit.unexplained:.4g} of {audit.difference:.4g} points")
