"""What every corrector has: a Markov chain step that leaves the density at time t as it is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from sdesampling.score import ScoreModel


class Corrector(ABC):
    """A Langevin step at a fixed time; every step evaluates the score once.

    snr: signal-to-noise ratio r, which sets the step size.
    """

    name: ClassVar[str]

    def __init__(self, snr: float) -> None:
        if not snr > 0:
            raise ValueError(f"snr = {snr}: the signal-to-noise ratio must be positive")
        self.snr = snr

    @abstractmethod
    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step at times t, (batch,), with standard normal z shaped as x: next state and its mean."""
