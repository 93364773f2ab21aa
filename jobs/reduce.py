"""From committed features to results: in index order, fixed blocks of 1,024, float64 moments, scores.

A module of its own because these numbers must not depend on how the work was cut up: the same features give
the same bits, whatever the shards and threads. FID and IS read block by block in memory independent of the
number of samples; KID, precision/recall and density/coverage hold all features. It must not sample or
extract.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from fid.extractors import identity_of
from fid.frechet import TRACE_METHOD
from fid.moments import BLOCK, Moments
from fid.scores import (
    InceptionScoreSums,
    density_coverage,
    fid_score_of_blocks,
    kernel_distance,
    precision_recall,
)
from jobs import provenance
from jobs.commit import Marker
from jobs.configuration import Configuration, Extractor
from jobs.digests import add_digests
from jobs.features import FeatureRows, features_in_order
from jobs.ledger import ConfigurationLedger, failures, scan
from jobs.paths import ConfigurationPaths, RangeFolder, SweepPaths, extractor_key
from jobs.references import Reference, load_reference
from jobs.results import (
    Cell,
    DensityCoverage,
    Fid,
    InceptionScores,
    Kid,
    PrecisionRecall,
    ReferenceRecord,
    Result,
    StageScores,
    Statistics,
    SweepResults,
    Unscored,
    package_versions,
)
from jobs.sections import DataSet, Metric
from jobs.store import Store
from jobs.summary import gather_cell
from jobs.sweep import Sweep


class IncompleteError(Exception):
    """A configuration cannot be scored yet: samples or features are missing."""


@dataclass(frozen=True)
class _Source:
    """Features of one data set at one step, readable as often as wanted, in the same blocks every time."""

    store: Store
    folder: RangeFolder
    markers: Sequence[Marker]
    step: int
    samples: int

    def __iter__(self) -> Iterator[FeatureRows]:
        return features_in_order(self.store, self.folder, self.markers, self.step, self.samples, BLOCK)

    def features(self) -> Iterator[np.ndarray]:
        return (rows.features for rows in self)

    def everything(self) -> np.ndarray:
        """(samples, dimension) float32: for metrics that compare all with all."""
        return np.concatenate(list(self.features()))

    def digest(self) -> str:
        return add_digests(rows.digest for rows in self)


def reduce_configuration(store: Store, sweep: str, configuration: Configuration) -> tuple[Result, ...]:
    """Score a configuration by each of its extractors against each of its references, and write the results.

    Returns the results in the order of the spec: extractor by extractor.

    Raises:
        IncompleteError: images or features of some samples are missing.
        DamageError: a file does not hold what its marker says, or indices are missing or double.
        FileNotFoundError: a reference was never built.
    """
    paths = SweepPaths(sweep).configuration(configuration.fingerprint)
    keys = [extractor_key(extractor.name, extractor.weights or "") for extractor in configuration.extractors]
    ledger = scan(store, paths, keys)
    results = []
    with _one_thread():
        for extractor, key in zip(configuration.extractors, keys, strict=True):
            markers = _needed(ledger.features[key], configuration, key)
            for data_set in configuration.references:
                reference = load_reference(store, data_set, extractor)
                result = _score(store, paths, configuration, extractor, key, ledger, markers, reference)
                store.put(paths.result(key, data_set.name), result.model_dump_json(indent=1).encode())
                results.append(result)
    return tuple(results)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Decompositions in one thread: the last bits of more depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _needed(markers: Sequence[Marker], configuration: Configuration, key: str) -> list[Marker]:
    """The markers of the samples that are asked for. Raises IncompleteError when they do not cover them."""
    needed = [marker for marker in markers if marker.first < configuration.samples]
    covered = sum(min(marker.last, configuration.samples) - marker.first for marker in needed)
    if covered < configuration.samples:
        raise IncompleteError(
            f"{configuration.name}: {covered:,} of {configuration.samples:,} samples have features of {key}; "
            f"run the sweep again"
        )
    return needed


# --- scores -------------------------------------------------------------------------------------------------


def _score(
    store: Store,
    paths: ConfigurationPaths,
    configuration: Configuration,
    extractor: Extractor,
    key: str,
    ledger: ConfigurationLedger,
    markers: Sequence[Marker],
    reference: Reference,
) -> Result:
    real = _Source(store, reference.folder, reference.markers, step=0, samples=reference.count)
    moments = Moments(extractor.dimension)
    for block in real.features():
        moments.update(block)
    folder = paths.features(key)
    stages = tuple(
        _stage_scores(
            _Source(store, folder, markers, step, configuration.samples), configuration.metrics, real, moments
        )
        for step in configuration.stages
    )
    images = [marker for marker in ledger.images if marker.first < configuration.samples]
    executions = provenance.execution_shares(images, configuration.samples)
    return Result(
        configuration=configuration,
        fingerprint=configuration.fingerprint,
        samples=configuration.samples,
        extractor={
            **identity_of(extractor.name),
            "weights": extractor.weights or "",
            "dimension": extractor.dimension,
        },
        reference=ReferenceRecord(
            name=reference.name, content=reference.content, count=reference.count, features=real.digest()
        ),
        statistics=Statistics(trace_method=TRACE_METHOD),
        stages=stages,
        images=add_digests(marker.digest for marker in images),
        evaluations=provenance.evaluations(configuration, images),
        executions=executions,
        extraction=provenance.execution_shares(markers, configuration.samples),
        diagnostics=provenance.diagnostics(images),
        clipped=provenance.clipped(images),
        seconds=provenance.seconds([*images, *markers]),
        versions=package_versions(),
        warnings=provenance.warnings(configuration, extractor, executions, reference.count),
    )


def _stage_scores(
    generated: _Source, metrics: Sequence[Metric], real: _Source, moments: Moments
) -> StageScores:
    """All metrics that are asked for, of one stage."""
    kid, neighbours, coverage = None, None, None
    if {"kid", "precision_recall", "density_coverage"} & set(metrics):
        fake, truth = generated.everything(), real.everything()
        if "kid" in metrics:
            kid = Kid(**vars(kernel_distance(fake, truth)))
        if "precision_recall" in metrics:
            neighbours = PrecisionRecall(**vars(precision_recall(fake, truth)))
        if "density_coverage" in metrics:
            coverage = DensityCoverage(**vars(density_coverage(fake, truth)))
    return StageScores(
        step=generated.step,
        features=generated.digest(),
        fid=_fid(generated, moments) if "fid" in metrics else None,
        inception_score=_inception_score(generated) if "is" in metrics else None,
        kid=kid,
        precision_recall=neighbours,
        density_coverage=coverage,
    )


def _fid(generated: _Source, moments: Moments) -> Fid:
    score = fid_score_of_blocks(generated.features, moments)
    return Fid(
        value=score.value,
        mean_term=score.mean_term,
        trace_term=score.trace_term,
        standard_error=score.standard_error.value,
        standard_error_method=score.standard_error.method,
        bias_generated=score.bias.generated,
        bias_reference=score.bias.reference,
    )


def _inception_score(generated: _Source) -> InceptionScores:
    ten: InceptionScoreSums | None = None
    one: InceptionScoreSums | None = None
    for rows in generated:
        if rows.logits is None:
            raise ValueError("the inception score needs logits, which this extractor does not give")
        if ten is None or one is None:
            classes = rows.logits.shape[1]
            ten = InceptionScoreSums(generated.samples, classes, splits=min(10, generated.samples))
            one = InceptionScoreSums(generated.samples, classes, splits=1)
        ten.update(rows.logits)
        one.update(rows.logits)
    if ten is None or one is None:
        raise ValueError("the inception score of no samples is not defined")
    split, whole = ten.score(), one.score()
    return InceptionScores(ten_splits=split.mean, ten_splits_std=split.std, one_split=whole.mean)


# --- a sweep ------------------------------------------------------------------------------------------------


def reduce_sweep(store: Store, sweep_name: str) -> SweepResults:
    """Gather the results of a sweep's configurations into cells and write them.

    What has no result yet is listed as such, with the reason; nothing is computed here but averages.

    Raises:
        FileNotFoundError: no such sweep in the store.
    """
    paths = SweepPaths(sweep_name)
    sweep = Sweep.from_json(store.get(paths.resolved))
    cells: dict[tuple[str, ...], list[Result]] = {}
    asked: dict[tuple[str, ...], int] = {}
    unscored = []
    for configuration in sweep.configurations:
        missing = []
        for extractor in configuration.extractors:
            key = extractor_key(extractor.name, extractor.weights or "")
            for data_set in configuration.references:
                place = (configuration.row, configuration.column, key, data_set.name)
                asked[place] = asked.get(place, 0) + 1
                result = _stored_result(store, paths, configuration, key, data_set)
                if result is None:
                    missing.append(f"{key} against {data_set.name}")
                else:
                    cells.setdefault(place, []).append(result)
        if missing:
            unscored.append(_unscored(store, paths, configuration, missing))
    gathered = tuple(gather_cell(found, asked[place]) for place, found in cells.items())
    results = SweepResults(
        sweep=sweep.name,
        description=sweep.description,
        rows=sweep.rows,
        columns=sweep.columns,
        cells=gathered,
        unscored=tuple(unscored),
        warnings=_sweep_warnings(gathered),
    )
    store.put(paths.results, results.model_dump_json(indent=1).encode())
    return results


def _stored_result(
    store: Store, paths: SweepPaths, configuration: Configuration, key: str, data_set: DataSet
) -> Result | None:
    """The result of a configuration, if it is there with the samples and metrics that are asked for."""
    name = paths.configuration(configuration.fingerprint).result(key, data_set.name)
    try:
        result = Result.model_validate_json(store.get(name))
    except FileNotFoundError:
        return None
    scored = all(result.final.value(metric) is not None for metric in configuration.metrics)
    if result.samples != configuration.samples or not scored:
        return None
    return result.model_copy(update={"configuration": configuration})  # published values may be newer


def _unscored(
    store: Store, paths: SweepPaths, configuration: Configuration, missing: Sequence[str]
) -> Unscored:
    own = paths.configuration(configuration.fingerprint)
    done = sum(len(samples) for samples in scan(store, own, []).done)
    failed = failures(store, own)
    if failed:
        last_line = failed[0].error.strip().splitlines()[-1] if failed[0].error.strip() else "no message"
        reason = f"{len(failed)} shards failed: {last_line}"
    elif done < configuration.samples:
        reason = f"{done:,} of {configuration.samples:,} samples are there"
    else:
        reason = f"not reduced yet: {', '.join(missing)}"
    return Unscored(
        name=configuration.name,
        row=configuration.row,
        column=configuration.column,
        fingerprint=configuration.fingerprint,
        samples=configuration.samples,
        done=done,
        failed=tuple(f"[{failure.samples.start}, {failure.samples.stop})" for failure in failed),
        reason=reason,
    )


def _sweep_warnings(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Warnings of results, each once with the cells that it was found in, and what differs between cells."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for result in cell.results:
            for warning in result.warnings:
                found.setdefault(warning, []).append(result.configuration.name)
    lines = []
    for warning, names in found.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"{warning} ({names[0]}{more})")
    shares = [share for cell in cells for result in cell.results for share in result.executions]
    devices = {share.execution.device for share in shares}
    if len(devices) > 1:
        lines.append(f"cells were made on different devices: {', '.join(sorted(devices))}")
    return tuple(lines)
