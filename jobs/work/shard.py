"""One shard: its images, then their features by every extractor, each committed as soon as it is made.

Apart from other work because it alone makes images, halves a micro-batch that memory does not suffice for,
and makes again what turns out to be damaged. It must not know references or scores.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from jobs.compute.assignment import Assignment, Context, Drained, Receipt
from jobs.compute.extraction import extract
from jobs.compute.sampling import ShardSampling
from jobs.compute.worker import WorkerState, ran_out_of_memory
from jobs.paths import RangeFolder, SweepPaths
from jobs.specs.configuration import Configuration, Extractor
from jobs.storage.commit import (
    Content,
    DamageError,
    Execution,
    GroupRecord,
    Marker,
    commit,
    committed_names,
    load_committed,
    quarantine,
    refuse_overlap,
)
from jobs.storage.features import write_features
from jobs.storage.images import ImageRows, committed_images, write_images
from jobs.storage.snapshots import Progress, Snapshots
from jobs.store import Store
from sdesampling.samplers import Sampler


class MissingImagesError(Exception):
    """Images that are to be scored again are not there."""


class Shard:
    """Images and features of one shard; holds what the steps of the work share."""

    def __init__(
        self,
        assignment: Assignment,
        configuration: Configuration,
        store: Store,
        worker: WorkerState,
        context: Context,
    ) -> None:
        self._assignment = assignment
        self._samples = range(assignment.first, assignment.last)
        self._configuration = configuration
        self._paths = SweepPaths(assignment.sweep).configuration(assignment.fingerprint)
        self._store = store
        self._worker = worker
        self._context = context
        self._evaluations = 0  # by this attempt, times images
        self._images = 0  # committed by this attempt
        self._seconds: dict[str, float] = {}
        self._notes: list[str] = []

    def perform(self) -> Receipt:
        """Make and commit what is missing."""
        blocks: list[ImageRows] | None = None
        marker = self._stored(self._paths.images)
        if marker is None:
            marker, blocks = self._make_images()
        for extractor in self._configuration.extractors:
            if self._has_features(extractor, marker):
                continue
            if blocks is None:
                try:
                    blocks = committed_images(self._store, self._paths.images, marker)
                except DamageError as error:
                    self._quarantine(error)
                    marker, blocks = self._make_images()
            self._make_features(extractor, marker, blocks)
            if self._assignment.request:
                self._images = len(self._samples)
        return Receipt(self._assignment, self._images, self._evaluations, self._seconds, tuple(self._notes))

    def _make_images(self) -> tuple[Marker, list[ImageRows]]:
        """Images at the worker's micro-batch, or at the largest smaller one that memory suffices for."""
        if self._assignment.request:
            name = self._configuration.name
            span = f"[{self._samples.start}, {self._samples.stop})"
            raise MissingImagesError(
                f"{name}: the images {span} are not whole, and an evaluation makes none: "
                f"`sdesweep resume {self._assignment.sweep}` makes them again; {'; '.join(self._notes)}"
            )
        refuse_overlap(self._store, self._paths.images, self._samples)
        while (made := self._try_to_make_images()) is None:
            smaller = self._worker.execution(self._configuration).micro_batch
            self._notes.append(f"out of memory: begun again with a micro-batch of {smaller}")
        return made

    def _try_to_make_images(self) -> tuple[Marker, list[ImageRows]] | None:
        """None when memory was short, and the worker's micro-batch is halved now."""
        with self._clock("load"):
            sampler = self._worker.sampler(self._store, self._configuration)
        execution = self._worker.execution(self._configuration)
        snapshots = Snapshots(
            self._store,
            self._paths.snapshots,
            self._configuration.fingerprint,
            execution,
            uuid.uuid4().hex,
        )
        device, saving = self._worker.device, self._worker.saving
        sampling = ShardSampling(
            self._configuration, self._samples, sampler, snapshots, self._context, device, saving
        )
        try:
            with self._clock("sample"):
                done = sampling.run()
        except (MemoryError, RuntimeError) as error:
            if not (ran_out_of_memory(error) and self._worker.halve_micro_batch(self._configuration)):
                raise
            return None
        finally:
            self._evaluations += sampling.evaluations
        self._notes += sampling.notes
        with self._clock("write"):
            blocks = _image_rows(self._configuration, sampler, done)
            content = _image_content(self._configuration, execution, done, blocks)
            marker, won = self._commit(self._paths.images, content, partial(write_images, blocks=blocks))
            snapshots.remove(sampling.groups)
        self._context.saved()
        if won:
            self._images += len(self._samples)
        elif marker.digest != content.digest:
            blocks = committed_images(self._store, self._paths.images, marker)
        return marker, blocks

    def _make_features(self, extractor: Extractor, marker: Marker, images: list[ImageRows]) -> None:
        with self._clock("load"):
            network = self._worker.extractor(self._store, extractor)
        groups = [range(group.first, group.last) for group in marker.groups]
        began = time.perf_counter()
        with self._clock("extract"):
            rows = [extract(network, block.step, block.images, groups, self._give_up) for block in images]
        content = Content(
            kind="features",
            fingerprint=marker.fingerprint,
            first=marker.first,
            last=marker.last,
            rows=marker.rows,
            digests={block.step: block.digest for block in rows},
            inputs={"images": marker.digest, "extractor": extractor.weights or ""},
            execution=self._worker.extraction(extractor),
            groups=tuple(GroupRecord(first=group.start, last=group.stop) for group in groups),
            seconds={"extract": time.perf_counter() - began},
        )
        with self._clock("write"):
            self._commit(self._folder(extractor), content, partial(write_features, blocks=rows))

    def _commit(
        self, folder: RangeFolder, content: Content, write: Callable[[Path], None]
    ) -> tuple[Marker, bool]:
        result = commit(self._store, folder, content, write)
        if not result.won:
            same = "the same bits" if result.marker.digest == content.digest else "other bits"
            self._notes.append(f"another attempt committed {content.kind} first, with {same}")
        return result.marker, result.won

    def _has_features(self, extractor: Extractor, images: Marker) -> bool:
        """Whether features are there that were made from these images; others are quarantined."""
        folder = self._folder(extractor)
        stored = self._stored(folder)
        if stored is not None and stored.inputs["images"] != images.digest:
            self._quarantine(DamageError("made from other images", committed_names(folder, stored)))
            return False
        return stored is not None

    def _stored(self, folder: RangeFolder) -> Marker | None:
        """The marker of this range; damage is quarantined."""
        try:
            return load_committed(self._store, folder, self._samples)
        except DamageError as error:
            self._quarantine(error)
            return None

    def _quarantine(self, error: DamageError) -> None:
        incident = quarantine(self._store, self._paths.root, error.names, str(error))
        self._notes.append(f"{error}; quarantined as {incident}, made again")

    def _folder(self, extractor: Extractor) -> RangeFolder:
        return self._paths.features(extractor.key)

    def _give_up(self) -> None:
        if self._context.should_stop():
            raise Drained(f"{self._assignment.name}: stopped between images and features as asked")

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - began


def _image_rows(configuration: Configuration, sampler: Sampler, done: list[Progress]) -> list[ImageRows]:
    """One block a step, all groups of the shard in each."""
    index = np.concatenate([np.arange(progress.group.start, progress.group.stop) for progress in done])
    size = configuration.group_size
    shared = bool((sampler.chains(size) != torch.arange(size)).any())
    chains = [sampler.chains(len(progress.group)).numpy() for progress in done]
    labels = sampler.class_labels(range(done[0].group.start, done[-1].group.stop))
    return [
        ImageRows(
            step=step,
            index=index,
            group=(index // size).astype(np.int32),
            images=np.concatenate([progress.pixels[step].numpy() for progress in done]),
            chain=np.concatenate(chains).astype(np.int32) if shared else None,
            label=None if labels is None else labels.numpy(),
        )
        for step in configuration.stages
    ]


def _image_content(
    configuration: Configuration, execution: Execution, done: list[Progress], blocks: list[ImageRows]
) -> Content:
    return Content(
        kind="images",
        fingerprint=configuration.fingerprint,
        first=done[0].group.start,
        last=done[-1].group.stop,
        rows=sum(len(block.index) for block in blocks),
        digests={block.step: block.digest for block in blocks},
        inputs=_model_digests(configuration),
        execution=execution,
        groups=tuple(
            GroupRecord(
                first=progress.group.start,
                last=progress.group.stop,
                evaluations=progress.state.evaluations,
                clipped=progress.clipped,
                diagnostics=progress.diagnostics,
            )
            for progress in done
        ),
        evaluations=sum(progress.state.evaluations * len(progress.group) for progress in done),
        seconds={"sample": sum(progress.seconds for progress in done)},
    )


def _model_digests(configuration: Configuration) -> dict[str, str]:
    """Of everything that the images were made from."""
    model = configuration.model
    found = {role: digest for role, digest in model.weights.items() if digest is not None}
    return found if model.content is None else found | {"dataset": model.content}
