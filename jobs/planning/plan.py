"""What is left to do, as shards, and what a sweep will cost.

Pure arithmetic on index ranges: a plan depends on the configuration and on the ranges that are done, on
nothing else. Linear in the number of shards, so a million of them are planned in seconds. Knows no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from jobs.planning.sweep import Sweep
from jobs.problems import and_more
from jobs.specs.configuration import Configuration

# Estimates of storage, measured on files of the digits. Pixels are counted at a byte each beside these, as
# PNG hardly compresses images that look like noise.
IMAGE_ROW_BYTES = 121  # PNG signature and chunks, path, index, step, group
FEATURE_ROW_BYTES = 12  # index, step
FILE_BYTES = 2500  # Parquet header and footer, and the marker


def groups(samples: range, group_size: int) -> Iterator[range]:
    """Yield the groups of a range in order: cut at every multiple of `group_size`, ragged at its ends."""
    first = samples.start
    while first < samples.stop:
        last = min((first // group_size + 1) * group_size, samples.stop)
        yield range(first, last)
        first = last


def group_count(samples: range, group_size: int) -> int:
    """Number of groups of a range, without listing them."""
    if not samples:
        return 0
    return (samples.stop - 1) // group_size - samples.start // group_size + 1


def gaps(samples: int, done: Iterable[range]) -> Iterator[range]:
    """Yield the ranges of [0, samples) that are not done, ascending.

    Finished ranges beyond `samples` are kept out of the way: fewer samples may be asked for than there are.
    Raises ValueError where two finished ranges share samples, which the commit protocol rules out.
    """
    end = 0  # of what is done so far
    for finished in sorted(done, key=lambda item: item.start):
        if not finished:
            continue
        if finished.start < end:
            raise ValueError(f"[{finished.start}, {finished.stop}) overlaps what ends at {end}")
        if end < min(finished.start, samples):
            yield range(end, min(finished.start, samples))
        end = finished.stop
    if end < samples:
        yield range(end, samples)


def plan(configuration: Configuration, done: Iterable[range] = ()) -> list[range]:
    """Return the shards that are left, ascending: gaps cut at multiples of the shard size, in whole groups.

    Shard sizes are multiples of the group size, so every cut is a group's boundary. A gap that starts
    inside a group, because samples were added after a ragged end, begins with a group of its own, up to
    the boundary.
    """
    return [
        shard for gap in gaps(configuration.samples, done) for shard in groups(gap, configuration.shard_size)
    ]


@dataclass(frozen=True)
class Cost:
    """What one configuration will take. `left` counts the shards that are not done.

    A cell that makes the same images as an earlier one shares them: `shared` names that one.
    """

    shared: str
    row: str
    column: str
    replicate: int
    fingerprint: str
    model: str
    samples: int
    stages: int  # images kept of each sample
    shards: int
    left: int
    samples_left: int
    groups: int
    evaluations: int  # network evaluations for each sample
    image_bytes: int  # estimated, of all its samples and stages
    feature_bytes: int

    @property
    def images(self) -> int:
        return self.samples * self.stages

    @property
    def total_evaluations(self) -> int:
        """Evaluations times samples."""
        return self.evaluations * self.samples

    @property
    def work_left(self) -> int:
        """Evaluations times samples that are left, an image counting as one more; 0 where it is shared."""
        return 0 if self.shared else (1 + self.evaluations) * self.samples_left


@dataclass(frozen=True)
class Costs:
    """What a sweep will take."""

    sweep: str
    configurations: tuple[Cost, ...]
    missing: tuple[str, ...]  # what must be done before it can run
    notes: tuple[str, ...]


def costs(sweep: Sweep, done: Callable[[Configuration], Iterable[range]] = lambda _: ()) -> Costs:
    """Return what a sweep will take; `done` gives the finished ranges of a configuration."""
    first_with: dict[str, Configuration] = {}
    rows = []
    for configuration in sweep.configurations:
        first = first_with.setdefault(configuration.fingerprint, configuration)
        shared = "" if first is configuration else first.name
        rows.append(_cost(configuration, done(configuration), shared))
    notes = dict.fromkeys(item.model.note for item in sweep.configurations if item.model.note)
    cautions: dict[str, dict[str, None]] = {}  # caution -> cells
    for item in sweep.configurations:
        for caution in item.cautions:
            cautions.setdefault(caution, {})[f"{item.row} / {item.column}"] = None
    notes |= dict.fromkeys(f"{caution} ({and_more(list(cells))})" for caution, cells in cautions.items())
    return Costs(sweep.name, tuple(rows), sweep.missing, tuple(notes))


def _cost(configuration: Configuration, done: Iterable[range], shared: str) -> Cost:
    from sdesampling.samplers import planned_evaluations  # imports torch, which takes seconds

    samples = range(configuration.samples)
    images = configuration.samples * len(configuration.stages)
    pixels = 0
    if configuration.model.shape is not None:
        channels, height, width = configuration.model.shape
        pixels = channels * height * width
    shards = group_count(samples, configuration.shard_size)
    left = plan(configuration, done)
    return Cost(
        shared=shared,
        row=configuration.row,
        column=configuration.column,
        replicate=configuration.replicate,
        fingerprint=configuration.fingerprint,
        model=configuration.model.name,
        samples=configuration.samples,
        stages=len(configuration.stages),
        shards=shards,
        left=len(left),
        samples_left=sum(map(len, left)),
        groups=group_count(samples, configuration.group_size),
        evaluations=planned_evaluations(**configuration.sampler.model_dump()),
        image_bytes=images * (pixels + IMAGE_ROW_BYTES) + shards * FILE_BYTES,
        feature_bytes=sum(
            images * (4 * (extractor.dimension + extractor.logits) + FEATURE_ROW_BYTES) + shards * FILE_BYTES
            for extractor in configuration.extractors
        ),
    )
