"""A sweep's results gathered into cells, and what has none yet, with the reason.

Apart from reduction because nothing is computed here but averages: it reads results and ledgers alone, and
must not read images or features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.problems import and_more
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
    found = _Found()
    for configuration in sweep.configurations:
        missing = found.add(configuration, stored_results(store, configuration))
        if missing:
            found.unscored.append(_unscored(store, paths, configuration, missing))
    gathered = tuple(gather_cell(results, found.asked[place]) for place, results in found.cells.items())
    results = SweepResults(
        sweep=sweep.name,
        description=sweep.description,
        rows=sweep.rows,
        columns=sweep.columns,
        cells=gathered,
        unscored=tuple(found.unscored),
        warnings=(*_sweep_warnings(gathered), *found.outdated),
    )
    store.put(paths.results, results.model_dump_json(indent=1).encode())
    return results


@dataclass
class _Found:
    """Results by row, column, extractor's key and reference, and what of a sweep has none."""

    cells: dict[tuple[str, ...], list[Result]] = field(default_factory=dict)
    asked: Counter[tuple[str, ...]] = field(default_factory=Counter)  # replicates
    unscored: list[Unscored] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)

    def add(self, configuration: Configuration, stored: dict[tuple[str, str], Result]) -> list[str]:
        """Take in the results of a configuration; returns what its sweep asks for and is not among them."""
        missing = []
        for extractor in configuration.extractors:
            for data_set in configuration.references:
                key = (extractor.key, data_set.name)
                result = stored.pop(key, None)
                current = result is not None and _is_current(result, configuration)
                self._count(configuration, key, result if current else None)
                if not current:
                    missing.append(f"{extractor.key} against {data_set.name}")
        for key, result in stored.items():  # of an evaluation
            if result.samples == configuration.samples:
                self._count(configuration, key, result)
            else:
                self.outdated.append(_outdated(configuration, result))
        return missing

    def _count(self, configuration: Configuration, key: tuple[str, str], result: Result | None) -> None:
        place = (configuration.row, configuration.column, *key)
        self.asked[place] += 1
        if result is not None:
            self.cells.setdefault(place, []).append(result)


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
        lines.append(f"{warning} ({and_more(names)})")
    shares = [share for cell in cells for result in cell.results for share in result.executions]
    devices = {share.execution.device for share in shares}
    if len(devices) > 1:
        lines.append(f"cells were made on different devices: {', '.join(sorted(devices))}")
    return tuple(lines)
