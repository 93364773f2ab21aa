"""The command that says why a score is wrong.

A module of its own because it prints findings, not tables. It must not judge: `fid.audit` does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from cluster.cli.bars import bar
from cluster.cli.common import RequestError, command, emit, find_extractor, open_store, store_option

if TYPE_CHECKING:
    from fid.audit import Audit, Evidence, Finding, HypothesisTest
    from jobs.inspection.sides import SideReader
    from jobs.references.imagesets import Given
    from jobs.specs.configuration import Extractor
    from jobs.store import Store


@click.command()
@click.argument("target", metavar="CONFIG|IMAGES")
@click.option("--reference", metavar="R", help="What it was measured against; by default that of CONFIG.")
@click.option("--expect", type=float, metavar="FID", help="The value that was expected.")
@click.option("--expect-samples", type=click.IntRange(2), metavar="N", help="Images behind it.")
@click.option("--expect-reference", metavar="R", help="What it was measured against.")
@click.option("--extractor", metavar="E[=WEIGHTS]", help="Feature network; CONFIG's own, or inception.")
@click.option("--count", type=click.IntRange(min=2), metavar="N", help="Images behind mu and sigma.")
@click.option(
    "--budget",
    type=click.IntRange(min=50),
    default=2000,
    show_default=True,
    metavar="N",
    help="Most images of a side that pass through the network again for one comparison.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be used, and say so.")
@store_option
@command
def audit(
    target: str,
    reference: str | None,
    expect: float | None,
    expect_samples: int | None,
    expect_reference: str | None,
    extractor: str | None,
    count: int | None,
    budget: int,
    skip_unreadable: bool,
    store: str,
    as_json: bool,
) -> int:
    """Say why the FID of a configuration, or of a set of images, is what it is: twelve hypotheses.

    CONFIG is SWEEP/FINGERPRINT, with as much of the fingerprint as is needed. IMAGES and R are a folder, a
    Parquet file, an npz or CIFAR archive (PATH, or PATH:SPLIT), a reference of the store, or an npz of
    statistics, as `sdesweep fid` reads them. Exit code 1 when something is found. docs/audit.md says how to
    read the verdict.

    \b
    Examples:
      sdesweep audit digits-demo/3fa9 --store runs
      sdesweep audit samples/ --reference digits-train --extractor digits-cnn --expect 3.2
    """
    from fid.audit import audit as examine
    from jobs.inspection.audit import as_data, audited_sets, expecting
    from jobs.references.imagesets import identify
    from jobs.scores.provenance import extractor_identity
    from jobs.scores.results import score_label

    opened = open_store(store)
    given = identify(opened, target)
    against = None if reference is None else identify(opened, reference)
    reader = replace(
        _reader(opened, given, extractor, quiet=as_json), count=count, skip_unreadable=skip_unreadable
    )
    if given.kind == "configuration":
        evidence = _of_configuration(reader, given, against)
    elif against is None:
        raise RequestError(f"{target} has no reference of its own: give --reference")
    else:
        evidence = audited_sets(reader, given, against)
    real = None if expect_reference is None else reader.open(identify(opened, expect_reference))
    evidence = replace(expecting(evidence, expect, expect_samples, real), budget=budget)
    found = examine(evidence) if as_json else examine(evidence, progress=_progress)
    if as_json:
        emit(as_data(found))
    else:
        _print(found, score_label("FID", extractor_identity(reader.found.thing)))
    return 1 if found.found else 0


def _reader(store: Store, given: Given, extractor: str | None, quiet: bool) -> SideReader:
    """What reads both sides. Raises RequestError when an extractor's weights are not here."""
    from jobs.inspection.sides import SideReader
    from jobs.models.build import build_extractor
    from jobs.models.resolve import Resolved
    from jobs.models.weights import weights_of
    from jobs.planning.lookup import find_configuration

    progress = partial(bar, quiet=quiet)
    if extractor is not None or given.kind != "configuration":
        found = find_extractor(extractor or "inception")
        network = build_extractor(found.thing, lambda digest: found.files[digest])
        return SideReader(store, found, network, progress)
    own: Extractor = find_configuration(store, given.text).extractors[0]
    if own.weights is None:
        raise RequestError(f"the weights of {own.name} are not in the store; give --extractor NAME=WEIGHTS")
    with weights_of(store) as weights:
        path = weights(own.weights)
        network = build_extractor(own, weights)
        return SideReader(store, Resolved(own, {own.weights: path}), network, progress)


def _of_configuration(reader: SideReader, given: Given, reference: Given | None) -> Evidence:
    from jobs.inspection.audit import audited_configuration
    from jobs.planning.lookup import find_configuration, find_sweep

    configuration = find_configuration(reader.store, given.text)
    sweep = find_sweep(reader.store, configuration.sweep)
    return audited_configuration(reader, sweep, configuration, reference or configuration.references[0])


def _progress(test: HypothesisTest, finding: Finding | None) -> None:
    if finding is None:
        click.echo(f"{test.key:>4} {test.hypothesis} ... ", nl=False, err=True)
    else:
        click.echo(finding.verdict, err=True)


def _print(audit: Audit, measure: str) -> None:
    if audit.measured is not None:
        expected = "expected" if audit.expected is not None else "real against real at these numbers"
        baseline = "" if audit.baseline is None else f", {expected} {audit.baseline:.4g}"
        error = "" if audit.standard_error is None else f" ± {audit.standard_error:.2g}"
        click.echo(f"{measure} {audit.measured:.6g}{error}{baseline}")
    click.echo(audit.verdict)
    for finding in audit.findings:
        points = "" if finding.contribution is None else f" ({finding.contribution:+.3g} points)"
        line = f"{finding.test:>4} {finding.verdict:<8} {finding.hypothesis}{points}: {finding.reason}"
        click.secho(line, fg="red" if finding.verdict == "found" else None)
        if finding.verdict == "found":
            for name, value in finding.evidence.items():
                text = f"{value:.5g}" if isinstance(value, float) else f"{value}"
                click.echo(f"       {name}: {text}")
        if finding.remedy and finding.verdict != "excluded":
            click.echo(f"       do: {finding.remedy}")
