"""A sweep's results gathered into cells, and what has none yet, with the reason.

Apart from reduction because nothing is computed here but averages: it reads results and ledgers alone, and
must not read images or features.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.scores.results import Cell, Result, SweepResults, Unscored
from jobs.scores.summary import gather_cell
from jobs.specs.configuration import Configuration
from jobs.storage.ledger import failures, scan
from jobs.store import Store


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
    outdated = []
    for configuration in sweep.configurations:
        missing = []
        others = stored_results(store, configuration)
        for extractor in configuration.extractors:
            for data_set in configuration.references:
                place = (configuration.row, configuration.column, extractor.key, data_set.name)
                asked[place] = asked.get(place, 0) + 1
                result = others.pop((extractor.key, data_set.name), None)
                if result is None or not _is_current(result, configuration):
                    missing.append(f"{extractor.key} against {data_set.name}")
                else:
                    cells.setdefault(place, []).append(result)
        for (key, name), result in others.items():  # of an evaluation
            if result.samples != configuration.samples:
                outdated.append(_outdated(configuration, result))
                continue
            place = (configuration.row, configuration.column, key, name)
            asked[place] = asked.get(place, 0) + 1
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
        warnings=(*_sweep_warnings(gathered), *outdated),
    )
    store.put(paths.results, results.model_dump_json(indent=1).encode())
    return results


def stored_results(store: Store, configuration: Configuration) -> dict[tuple[str, str], Result]:
    """All results of a configuration by extractor's key and reference, asked for by its sweep or not."""
    found = {}
    paths = SweepPaths(configuration.sweep).configuration(configuration.fingerprint)
    for entry in store.list(paths.results_folder):
        try:
            result = Result.model_validate_json(store.get(entry.name))
        except ValidationError:  # of another version, or damaged: the next run makes it again
            continue
        key = entry.name.rpartition("/")[2].removesuffix(f"-{result.reference.name}.json")
        newest = result.model_copy(update={"configuration": configuration})  # its published values
        found[key, result.reference.name] = newest
    return dict(sorted(found.items()))


def _is_current(result: Result, configuration: Configuration) -> bool:
    """Whether a result has the samples and metrics that are asked for."""
    scored = all(result.final.value(metric) is not None for metric in configuration.metrics)
    return scored and result.samples == configuration.samples


def _outdated(configuration: Configuration, result: Result) -> str:
    return (
        f"{configuration.name}: its scores against {result.reference.name} by {result.extractor_name} are of "
        f"{result.samples:,} samples, not {configuration.samples:,}; `sdesweep evaluate` makes them again"
    )


def _unscored(
    store: Store, paths: SweepPaths, configuration: Configuration, missing: Sequence[str]
) -> Unscored:
    own = paths.configuration(configuration.fingerprint)
    done = scan(store, own, []).count
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
