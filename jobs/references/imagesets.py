"""Any set of images, or published statistics of one, as features: files, references, configurations.

Apart from references because these sets need no name and leave no trace in the store. It must not compute
scores.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from fid.extractors import Extractor as Network
from fid.moments import Moments
from jobs.compute.extraction import BATCH, extract, extract_part
from jobs.compute.worker import WorkerState
from jobs.digests import add_digests
from jobs.fingerprint import file_sha256
from jobs.inputs.datasets import HUB, DatasetError, Reading, open_dataset
from jobs.models.build import build_extractor
from jobs.models.catalog import DATA_SETS
from jobs.models.resolve import Resolved
from jobs.models.weights import send_weights
from jobs.paths import SweepPaths
from jobs.planning.lookup import NotFoundError, find_configuration
from jobs.planning.plan import gaps
from jobs.references.importing import FEATURES, read_statistics
from jobs.references.moments import reference_moments
from jobs.references.reference import build_reference, load_reference
from jobs.scores.provenance import making
from jobs.scores.results import ExecutionShare, SetRecord
from jobs.scores.scoring import moments_of
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.sections import DataSet
from jobs.storage.features import FeatureRows, FeatureSource, HeldFeatures, StoredFeatures, join_rows
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.storage.markers import Markers
from jobs.storage.reference_index import named_references, read_index
from jobs.store import Store, StoreError


@dataclass(frozen=True)
class FeatureSet:
    """Images by one extractor."""

    record: SetRecord
    count: int
    features: FeatureSource | None  # None: only moments are known
    moments: Callable[[], Moments]
    extraction: tuple[ExecutionShare, ...] = ()
    shape: tuple[int, ...] | None = None  # (channels, height, width) of the images, where they were seen
    imported: bool = False  # statistics of others


@dataclass(frozen=True)
class Given:
    """What a name on the command line turned out to be."""

    text: str
    kind: Literal["files", "statistics", "reference", "configuration"]
    path: str = ""  # of files and statistics
    split: str | None = None


def identify(store: Store, text: str) -> Given:
    """What is meant by a path, `PATH:SPLIT`, `datasets:NAME:SPLIT`, a reference's name or SWEEP/FINGERPRINT.

    Raises NotFoundError when it is nothing, or both a path and a reference.
    """
    path, split = path_and_split(text)
    names = [*DATA_SETS, *named_references(store)]
    if path and text in names:
        raise NotFoundError(f"{text} is a reference and a path here: write ./{text} for the path")
    if text in names:
        return Given(text, "reference")
    if path:
        kind: Literal["statistics", "files"] = "statistics" if _is_statistics(path) else "files"
        return Given(text, kind, path, split)
    try:
        find_configuration(store, text)
    except (NotFoundError, StoreError) as error:
        raise NotFoundError(
            f"{text} is no file or folder, no reference ({', '.join(names)}), and no configuration: {error}"
        ) from None
    return Given(text, "configuration")


@dataclass
class SetReader:
    """Opens sets by one extractor; keeps its network."""

    store: Store
    found: Resolved[Extractor]
    worker: WorkerState
    progress: Reading
    skip_unreadable: bool = False
    count: int | None = None  # images behind a mean and a covariance

    @property
    def extractor(self) -> Extractor:
        return self.found.thing

    @cached_property
    def network(self) -> Network:
        return build_extractor(self.extractor, lambda digest: self.found.files[digest], self.worker.device)

    def open(self, given: Given) -> FeatureSet:
        """Features of a set. Raises DatasetError, NotFoundError, or DamageError for a damaged store."""
        if given.kind == "files":
            return self._files(given)
        if given.kind == "statistics":
            return self._statistics(given)
        if given.kind == "reference":
            return self._reference(given)
        return self._configuration(given)

    def _files(self, given: Given) -> FeatureSet:
        data = open_dataset(
            given.text,
            given.path,
            given.split,
            skip_unreadable=self.skip_unreadable,
            reading=self.progress,
        )
        source = given.path if given.path.startswith(HUB) else str(Path(given.path).resolve())
        record = SetRecord(
            name=given.text,
            kind="images",
            content=data.content_hash,
            source=source,
            split=given.split,
            left_out=len(data.skipped),
        )
        with self.progress(f"features of {given.text}", len(data)) as advance:
            try:
                every = range(len(data))
                blocks = data.blocks(every, BATCH)
                rows = extract_part(self.network, 0, every, blocks, lambda: advance(BATCH))
            except DatasetError:
                raise
            except ValueError as error:
                raise DatasetError(f"{given.text}: {error}") from error
        return self._held(record, rows, data.shape)

    def _held(self, record: SetRecord, rows: FeatureRows, shape: tuple[int, ...]) -> FeatureSet:
        """Features that were made here and now."""
        source = HeldFeatures(rows)
        share = ExecutionShare(execution=self.worker.extraction(self.extractor), samples=source.samples)
        return FeatureSet(record, source.samples, source, lambda: moments_of(source), (share,), shape)

    def _statistics(self, given: Given) -> FeatureSet:
        found = read_statistics(given.text, Path(given.path))
        if found.dimension != self.extractor.dimension:
            raise DatasetError(
                f"{given.text} is of {found.dimension:,} dimensions, and {self.extractor.name} gives "
                f"{self.extractor.dimension:,}: say by --extractor what made it"
            )
        path = Path(given.path).resolve()
        content = file_sha256(path)
        if found.features is not None:
            held = HeldFeatures(FeatureRows(0, np.arange(len(found.features)), found.features, found.logits))
            record = SetRecord(name=given.text, kind="features", content=content, source=str(path))
            return FeatureSet(record, held.samples, held, lambda: moments_of(held), imported=True)
        if self.count is None:
            raise DatasetError(
                f"{given.text} does not say how many images are behind its mean and covariance: give --count"
            )
        assert found.mean is not None  # a file without features has both
        assert found.covariance is not None
        moments = Moments.from_covariance(found.mean, found.covariance, self.count)
        record = SetRecord(name=given.text, kind="moments", content=content, source=str(path))
        return FeatureSet(record, self.count, None, lambda: moments, imported=True)

    def _reference(self, given: Given) -> FeatureSet:
        data_set = DataSet(name=given.text)
        send_weights(self.store, {digest: str(path) for digest, path in self.found.files.items()})
        with self.progress(f"features of {given.text}", self._left(data_set)) as advance:
            reference = build_reference(
                self.store, data_set, self.extractor, self.worker, lambda: advance(BATCH)
            )
        known = read_index(self.store, data_set)
        shape = DATA_SETS[given.text].shape if given.text in DATA_SETS else known.shape
        record = SetRecord(
            name=given.text,
            kind=known.kind,
            content=reference.content,
            source=known.source,
            split=known.split,
            left_out=known.skipped,
        )
        return FeatureSet(
            record,
            reference.count,
            reference.features(self.store),
            lambda: reference_moments(self.store, reference),
            () if reference.imported else making(reference.markers, reference.count).executions,
            shape,
            reference.imported,
        )

    def _left(self, data_set: DataSet) -> int:
        """Images of a reference that may have to be read: none where all features are there."""
        try:
            load_reference(self.store, data_set, self.extractor)
        except FileNotFoundError:
            if data_set.name in DATA_SETS:
                return DATA_SETS[data_set.name].images
            return read_index(self.store, data_set).count
        return 0

    def _configuration(self, given: Given) -> FeatureSet:
        configuration = find_configuration(self.store, given.text)
        paths = SweepPaths(configuration.sweep).configuration(configuration.fingerprint)
        key = self.extractor.key
        ledger = scan(self.store, paths, [key])
        images = ledger.images.before(configuration.samples)
        refuse_missing(configuration, ledger.done)
        record = SetRecord(
            name=f"{configuration.sweep}/{configuration.fingerprint[:12]}",
            kind="configuration",
            content=add_digests(marker.digests[configuration.stages[-1]] for marker in images),
            configuration=configuration,
        )
        markers = ledger.features[key].before(configuration.samples)
        if len(markers) < len(images):
            return self._extracted(record, configuration, images)
        source = StoredFeatures(
            self.store, paths.features(key), markers, configuration.stages[-1], configuration.samples
        )
        shares = making(markers, configuration.samples).executions
        shape = configuration.model.shape
        return FeatureSet(record, source.samples, source, lambda: moments_of(source), shares, shape)

    def _extracted(self, record: SetRecord, configuration: Configuration, images: Markers) -> FeatureSet:
        """Features of stored images by an extractor that the sweep does not have; they are not kept."""
        paths = SweepPaths(configuration.sweep).configuration(configuration.fingerprint)
        parts = []
        with self.progress(f"features of {record.name}", configuration.samples) as advance:
            for marker in images:
                block = committed_images(self.store, paths.images, marker)[-1]
                groups = [range(group.first, group.last) for group in marker.groups]
                parts.append(extract(self.network, block.step, block.images, groups, lambda: advance(BATCH)))
        rows = join_rows(parts)[: configuration.samples]
        return self._held(record, rows, block.images.shape[1:])


def refuse_missing(configuration: Configuration, done: list[range]) -> None:
    """Raise NotFoundError, naming the samples, when some of a configuration have no images."""
    missing = list(gaps(configuration.samples, done))
    if missing:
        ranges = ", ".join(f"[{samples.start}, {samples.stop})" for samples in missing[:8])
        raise NotFoundError(
            f"{configuration.sweep}/{configuration.fingerprint[:8]} ({configuration.name}) lacks "
            f"{sum(map(len, missing)):,} of {configuration.samples:,} images: {ranges}; "
            f"`sdesweep resume {configuration.sweep}` makes them"
        )


def path_and_split(text: str) -> tuple[str, str | None]:
    """A path that exists and the split behind its last colon; an empty path where there is none."""
    if text.startswith(HUB):
        name, _, split = text.removeprefix(HUB).partition(":")
        return f"{HUB}{name}", split or None
    if Path(text).exists():
        return text, None
    head, _, split = text.rpartition(":")
    return (head, split) if head and Path(head).exists() else ("", None)


def _is_statistics(path: str) -> bool:
    """Whether an npz archive holds features or moments and no images."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        keys = {name.removesuffix(".npy") for name in archive.namelist()}
    return not keys & {"images", "arr_0"} and bool(keys & {"mu", *FEATURES})
