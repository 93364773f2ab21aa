"""A sweep's results gathered into cells, and what has none yet, with the reason.

Apart from reduction because nothing is computed here but averages: it reads results and ledgers alone, and
must not read images or features.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.configuration import Configuration
from jobs.ledger import failures, scan
from jobs.paths import SweepPaths
from jobs.results import Cell, Result, SweepResults, Unscored
from jobs.sections import DataSet
from jobs.store import Store
from jobs.summary import gather_cell
from jobs.sweep import Sweep


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
            key = extractor.key
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
