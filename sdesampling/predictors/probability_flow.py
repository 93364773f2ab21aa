"""The probability flow predictor of the paper's Table 1: the ODE in the steps of reverse diffusion."""

from torch import Tensor

from sdesampling.predictors.base import Predictor
from sdesampling.score import ScoreModel


class ProbabilityFlow(Predictor):
    """x - f + G^2 score / 2: reverse diffusion with half the score and no noise.

    Song et al. 2020, appendix D.3.
    """

    name = "probability_flow"
    stochastic = False

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        f, _ = model.sde.reverse(model.score, probability_flow=True).discretize(x, t)
        mean = x - f
        return mean, mean
