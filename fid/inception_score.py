"""Inception score: how sharp the labels of single images are, and how varied those of all.

Apart from the feature metrics because it needs class logits and no reference, and is summed in one pass. It
must not know which network the logits come from; whoever prints the score names it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from fid.moments import check_finite


@dataclass(frozen=True)
class InceptionScore:
    """exp(mean KL(p(y|x) | p(y))) (Salimans et al. 2016): mean and standard deviation of splits."""

    mean: float
    std: float  # over splits: says little about repeated sampling
    splits: int


class InceptionScoreSums:
    """Sums that give the score of a known number of samples, read in index order, in one pass.

    Args:
        samples: number of all samples; split s holds those with index * splits // samples = s.
        classes: width of the logits.
        splits: 10 in the original code, 1 in score_sde's.
    """

    def __init__(self, samples: int, classes: int, splits: int = 10) -> None:
        if not 1 <= splits <= samples:
            raise ValueError(f"{samples} samples cannot be cut into {splits} splits")
        self.samples = samples
        self.splits = splits
        self._seen = 0
        self._probability = np.zeros((splits, classes))
        self._entropy = np.zeros(splits)
        self._count = np.zeros(splits, dtype=np.int64)

    def update(self, logits: ArrayLike) -> None:
        """Take in the logits (rows, classes) of the next samples.

        Raises:
            ValueError: more samples than announced, or logits that are not finite.
        """
        rows = np.array(logits, dtype=np.float64)
        if self._seen + len(rows) > self.samples:
            raise ValueError(f"{self.samples} samples were announced, {self._seen + len(rows)} came")
        check_finite(rows, "logit")
        log_p = torch.log_softmax(torch.from_numpy(rows), dim=1).numpy()
        p = np.exp(log_p)
        split = (self._seen + np.arange(len(p))) * self.splits // self.samples
        for part in np.unique(split):
            own = split == part
            self._probability[part] += p[own].sum(axis=0)
            self._entropy[part] += (p[own] * log_p[own]).sum()
            self._count[part] += own.sum()
        self._seen += len(p)

    def score(self) -> InceptionScore:
        """The score of all samples.

        Raises:
            ValueError: fewer samples came than were announced.
        """
        if self._seen != self.samples:
            raise ValueError(f"{self.samples} samples were announced, {self._seen} came")
        marginal = self._probability / self._count[:, None]
        log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
        divergence = self._entropy / self._count - (marginal * log_marginal).sum(axis=1)
        scores = np.exp(divergence)
        return InceptionScore(float(scores.mean()), float(scores.std()), self.splits)


def inception_score(logits: ArrayLike, splits: int = 10) -> InceptionScore:
    """The score of logits (count, classes) that are in memory, in their order."""
    rows = np.asarray(logits)
    sums = InceptionScoreSums(len(rows), rows.shape[1], splits)
    sums.update(rows)
    return sums.score()
