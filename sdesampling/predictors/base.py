"""What every predictor has: one step of the reverse-time SDE or ODE from time t to the next smaller one."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from sdesampling.score import ScoreModel
from sdesampling.sde import SDE


class Predictor(ABC):
    """A numerical method for the reverse-time SDE; every step evaluates the score once."""

    name: ClassVar[str]

    def check(self, sde: SDE) -> None:
        """Raise ValueError if this predictor has no steps for the SDE. Here: those of discretize()."""
        sde.check_discretisation()

    @abstractmethod
    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step at times t, (batch,), with standard normal z shaped as x.

        Returns the next state and its mean, the next state without its noise.
        """
