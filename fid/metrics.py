"""The scores as torchmetrics `Metric`s, for other people's training loops.

Each takes features, or images with an extractor, and gives float64 scalars; states merge across processes. A
thin layer: the numbers come from the same functions as everything else. It must not compute any score itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from fid.extractors.base import Extractor
from fid.frechet import Frechet, frechet_distance
from fid.inception_score import inception_score
from fid.kernel import kernel_distance
from fid.memorisation import memorisation
from fid.moments import Moments
from fid.neighbours import density_coverage, precision_recall
from fid.scores import fid_score
from fid.uncertainty import fid_infinity


class FrechetDistance(Metric):
    """Fréchet distance between real and generated features, in memory independent of their number.

    Args:
        dimension: of the features; read from the extractor where there is one.
        extractor: what turns uint8 images into features; without one `update` takes features.

    States are float64 moments with a leading axis of parts, one for each process that was merged.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    def __init__(self, dimension: int | None = None, extractor: Extractor | None = None) -> None:
        super().__init__()
        size = extractor.dimension if extractor is not None else dimension
        if size is None:
            raise ValueError("give the dimension of the features, or an extractor")
        self.dimension = size
        self.extractor = extractor
        for side in ("real", "generated"):
            self.add_state(f"{side}_count", torch.zeros(1, dtype=torch.int64), dist_reduce_fx="cat")
            self.add_state(f"{side}_mean", torch.zeros(1, size, dtype=torch.float64), dist_reduce_fx="cat")
            scatter = torch.zeros(1, size, size, dtype=torch.float64)
            self.add_state(f"{side}_scatter", scatter, dist_reduce_fx="cat")

    def update(self, batch: Tensor, real: bool) -> None:
        """Take in uint8 images (batch, channels, height, width), or features (batch, dimension)."""
        side = "real" if real else "generated"
        moments = self._moments(side)
        moments.update(_features(batch, self.extractor).cpu().numpy())
        device = self.device
        setattr(self, f"{side}_count", torch.tensor([moments.count], device=device))
        setattr(self, f"{side}_mean", torch.from_numpy(moments.mean)[None].to(device))
        setattr(self, f"{side}_scatter", torch.from_numpy(moments.scatter)[None].to(device))

    def compute(self) -> Tensor:
        """The distance. Raises ValueError with fewer than two samples on a side."""
        return _scalar(self.frechet().distance)

    def frechet(self) -> Frechet:
        """The distance with its mean and trace terms apart."""
        return frechet_distance(self._moments("generated"), self._moments("real"))

    def _moments(self, side: str) -> Moments:
        """All parts of a side merged, in a copy of the states."""
        whole = Moments(self.dimension)
        parts = zip(
            getattr(self, f"{side}_count").tolist(),
            getattr(self, f"{side}_mean").cpu().numpy(),
            getattr(self, f"{side}_scatter").cpu().numpy(),
            strict=True,
        )
        for count, mean, scatter in parts:
            part = Moments(self.dimension)
            part.count, part.mean, part.scatter = count, mean, scatter
            whole.merge(part)
        return whole


class InceptionScore(Metric):
    """Inception score of logits (batch, classes), or of images by an extractor that gives them.

    Keeps all logits. Samples are split in the order in which they came.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    logits: list[Tensor]

    def __init__(self, splits: int = 10, extractor: Extractor | None = None) -> None:
        super().__init__()
        self.splits = splits
        self.extractor = extractor
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, batch: Tensor) -> None:
        """Take in uint8 images, or logits (batch, classes)."""
        if self.extractor is None:
            self.logits.append(batch)
            return
        logits = self.extractor(batch).logits
        if logits is None:
            raise ValueError(f"{self.extractor.name} gives no logits, which the inception score is made of")
        self.logits.append(logits.to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over splits."""
        score = inception_score(_joined(self.logits), self.splits)
        return _scalar(score.mean), _scalar(score.std)


class _FeatureSets(Metric):
    """Keeps all real and generated features."""

    is_differentiable = False
    full_state_update = False
    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, extractor: Extractor | None = None) -> None:
        super().__init__()
        self.extractor = extractor
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, batch: Tensor, real: bool) -> None:
        """Take in uint8 images (batch, channels, height, width), or features (batch, dimension)."""
        (self.real if real else self.generated).append(_features(batch, self.extractor).to(self.device))


class KernelDistance(_FeatureSets):
    """KID: unbiased, over disjoint blocks."""

    higher_is_better = False

    def __init__(
        self, block_size: int | None = None, seed: int = 0, extractor: Extractor | None = None
    ) -> None:
        super().__init__(extractor)
        self.block_size = block_size
        self.seed = seed

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and its standard error; NaN for a single block."""
        score = kernel_distance(_joined(self.generated), _joined(self.real), self.block_size, self.seed)
        error = float("nan") if score.standard_error is None else score.standard_error
        return _scalar(score.value), _scalar(error)


class FidInfinity(_FeatureSets):
    """The Fréchet distance of infinitely many generated samples, by a line in 1/N."""

    higher_is_better = False

    def __init__(self, parts: int = 12, seed: int = 0, extractor: Extractor | None = None) -> None:
        super().__init__(extractor)
        self.parts = parts
        self.seed = seed

    def compute(self) -> tuple[Tensor, Tensor]:
        """Value and its standard error. Raises ValueError with too few samples for the parts."""
        generated, reference = _joined(self.generated).numpy(), Moments.of(_joined(self.real).numpy())
        full = fid_score(generated, reference).standard_error
        line = fid_infinity(generated, reference, full, self.parts, self.seed)
        return _scalar(line.value), _scalar(line.standard_error)


class Memorisation(_FeatureSets):
    """Share of generated samples too near to the real ones, which are those the model was trained on.

    Without `held_out` features each real sample against the others stands for fresh ones.
    """

    higher_is_better = False

    def __init__(
        self, held_out: Tensor | None = None, level: float = 0.05, extractor: Extractor | None = None
    ) -> None:
        super().__init__(extractor)
        self.held_out = held_out
        self.level = level

    def compute(self) -> tuple[Tensor, Tensor]:
        """The share, about `level` without copying, and its standard error."""
        fresh = None if self.held_out is None else self.held_out.cpu().numpy()
        found = memorisation(_joined(self.generated), _joined(self.real), fresh, self.level)
        return _scalar(found.too_near), _scalar(found.standard_error)


class PrecisionRecall(_FeatureSets):
    """Improved precision and recall of the k nearest neighbours."""

    higher_is_better = True

    def __init__(self, k: int = 3, extractor: Extractor | None = None) -> None:
        super().__init__(extractor)
        self.k = k

    def compute(self) -> tuple[Tensor, Tensor]:
        """Precision and recall."""
        score = precision_recall(_joined(self.generated), _joined(self.real), self.k)
        return _scalar(score.precision), _scalar(score.recall)


class DensityCoverage(_FeatureSets):
    """Density and coverage of the k nearest neighbours."""

    higher_is_better = True

    def __init__(self, k: int = 5, extractor: Extractor | None = None) -> None:
        super().__init__(extractor)
        self.k = k

    def compute(self) -> tuple[Tensor, Tensor]:
        """Density and coverage."""
        score = density_coverage(_joined(self.generated), _joined(self.real), self.k)
        return _scalar(score.density), _scalar(score.coverage)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _features(batch: Tensor, extractor: Extractor | None) -> Tensor:
    return batch if extractor is None else extractor(batch).features


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A list state, which torchmetrics joins when it synchronises."""
    if isinstance(state, Tensor):
        return state.cpu()
    if not state:
        raise ValueError("no samples came yet: call update first")
    return torch.cat(state).cpu()
