"""Training of the networks that are sampled from: score matching and GANs.

Every loop has the same shape: `steps`, `completed`, `advance()` for one optimiser step and its losses,
`state_dict()` and `load_state_dict()` to stop and go on bit for bit. Tensors come in; files stay outside.
"""

from sdesampling.training.gan import GANSettings, GANTraining
from sdesampling.training.score_matching import ScoreMatching, ScoreMatchingSettings

__all__ = ["GANSettings", "GANTraining", "ScoreMatching", "ScoreMatchingSettings"]
