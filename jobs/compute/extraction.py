"""Images to features, in batches that are cut inside groups, so that no feature depends on the shard size.

Shared by shards and references. This module knows no storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from fid.extractors import Extractor
from jobs.storage.features import FeatureRows, join_rows

BATCH = 256  # images; part of the execution identity of features


def extract(
    extractor: Extractor,
    step: int,
    images: np.ndarray,
    groups: Iterable[range],
    before_batch: Callable[[], None] = lambda: None,
) -> FeatureRows:
    """Features of the images of one step.

    images: (rows, channels, height, width) uint8, those of the groups one after the other.
    before_batch: called before each batch; may raise to give up.
    """
    index, features, logits = [], [], []
    position = 0
    for batch in _batches(groups):
        before_batch()
        # A copy: PyTorch's kernels, and with them the last bits, follow how the pixels lie in memory.
        block = np.array(images[position : position + len(batch)], order="C")
        found = extractor(torch.from_numpy(block))
        index.append(np.arange(batch.start, batch.stop))
        features.append(found.features.numpy())
        if found.logits is not None:
            logits.append(found.logits.numpy())
        position += len(batch)
    return FeatureRows(
        step, np.concatenate(index), np.concatenate(features), np.concatenate(logits) if logits else None
    )


def extract_part(
    extractor: Extractor,
    step: int,
    part: range,
    blocks: Iterator[np.ndarray],
    before_batch: Callable[[], None] = lambda: None,
) -> FeatureRows:
    """The same for images that come in blocks of BATCH, as many as the part has."""
    batches = list(_batches([part]))
    return join_rows(
        [
            extract(extractor, step, block, [batch], before_batch)
            for batch, block in zip(batches, islice(blocks, len(batches)), strict=True)
        ]
    )


def _batches(groups: Iterable[range]) -> Iterator[range]:
    for group in groups:
        for first in range(group.start, group.stop, BATCH):
            yield range(first, min(first + BATCH, group.stop))
