"""Does a sampler repeat its training images? Nearest neighbours, against those of real images it never saw.

Apart from the scores because no score above notices a sampler that copies: it is the perfect sampler to all
of them. It works on features and on pixels, and must not know which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fid.moments import Array
from fid.neighbours import nearest_neighbours, nearest_others


@dataclass(frozen=True)
class Memorisation:
    """How near generated samples are to training images.

    Without memorisation `too_near` is about `level`: generated samples are no nearer to the training set
    than fresh real images are. Copies of an image within the training set lower what counts as too near.
    It says nothing where samples are far from all real images.
    """

    too_near: float  # share of generated samples nearer than the `level` quantile of held-out images
    standard_error: float  # of that share, from both numbers of samples
    level: float
    exact: float  # share at distance zero
    distances: Array  # (generated,) to the nearest training image
    neighbours: np.ndarray  # (generated,) its row


def memorisation(
    generated: ArrayLike, training: ArrayLike, held_out: ArrayLike | None = None, level: float = 0.05
) -> Memorisation:
    """Compare distances to the nearest training image of generated samples and of held-out real ones.

    Args:
        generated: features, or flattened pixels, (count, dimension).
        training: the images that the model was trained on, likewise.
        held_out: real images of the same kind that it was not trained on, likewise; None: each training image
            against the others stands for them.
        level: quantile of the held-out distances that counts as too near.

    Raises:
        ValueError: other shapes, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, got {level}")
    distances, neighbours = nearest_neighbours(generated, training)
    fresh = nearest_others(training) if held_out is None else nearest_neighbours(held_out, training)[0]
    share = float((distances < np.quantile(fresh, level)).mean())
    variance = max(share * (1 - share), level * (1 - level)) / len(distances) + level * (1 - level) / len(
        fresh
    )
    return Memorisation(
        too_near=share,
        standard_error=float(np.sqrt(variance)),
        level=level,
        exact=float((distances == 0).mean()),
        distances=distances,
        neighbours=neighbours,
    )
