"""The figure of memorisation: samples above the reference images that are nearest to them.

By pixels and by features, because a copy shows in both and a likeness often in one. Apart from the other
pictures because it reads the reference too. It must not know HTML.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fid.neighbours import nearest_rows
from jobs.inputs.originals import original_images
from jobs.inputs.sources import Dataset
from jobs.paths import SweepPaths
from jobs.references.reference import load_reference
from jobs.report.pictures import Grid, first_images, tiled
from jobs.scores.results import Result
from jobs.specs.configuration import Extractor
from jobs.specs.sections import DataSet
from jobs.storage.features import StoredFeatures
from jobs.storage.ledger import scan
from jobs.store import Store

SAMPLES = 10  # across
NEAREST = 3  # by pixels, and as many by features, below each


class NearestImages:
    """Draws the figure for one cell after the other; each reference is read once."""

    def __init__(self, store: Store, sweep: str) -> None:
        self._store, self._sweep = store, sweep
        self._images = cache(lambda data_set: original_images(store, data_set))
        self._features = cache(self._read_features)

    def grid(self, result: Result) -> Grid | None:
        """First row: samples; then the nearest by pixels, then by features, nearest first.

        None where the metric was not asked for, or the reference's images or features are not here.
        """
        if result.final.memorisation is None:
            return None
        configuration = result.configuration
        data_set = next(one for one in configuration.references if one.name == result.reference.name)
        extractor = next(
            one for one in configuration.extractors if one.weights == result.extractor["weights"]
        )
        data: Dataset | None = self._images(data_set)
        theirs: np.ndarray | None = self._features(data_set, extractor)
        samples = first_images(self._store, self._sweep, result, result.final.step, SAMPLES)
        if data is None or theirs is None or samples is None or samples.shape[1:] != data.images.shape[1:]:
            return None
        ours = self._sample_features(result, extractor)[: len(samples)]
        count = min(NEAREST, len(data))
        by_pixels = nearest_rows(samples.reshape(len(samples), -1), data.images.reshape(len(data), -1), count)
        by_features = nearest_rows(ours, theirs, count)
        rows = np.concatenate([by_pixels.T, by_features.T])  # (2 count, samples)
        pictures = np.concatenate([samples, *(data.images[row] for row in rows)])
        return tiled(pictures, len(samples), result.final.step)

    def _sample_features(self, result: Result, extractor: Extractor) -> np.ndarray:
        paths = SweepPaths(self._sweep).configuration(result.fingerprint)
        markers = scan(self._store, paths, [extractor.key]).features[extractor.key]
        source = StoredFeatures(
            self._store, paths.features(extractor.key), markers, result.final.step, result.samples
        )
        return next(iter(source)).features

    def _read_features(self, data_set: DataSet, extractor: Extractor) -> np.ndarray | None:
        try:
            source = load_reference(self._store, data_set, extractor).features(self._store)
        except FileNotFoundError:  # removed since it was scored against
            return None
        return None if source is None else source.everything()
