"""The probability flow predictor of the paper's Table 1: the ODE in the steps of reverse diffusion."""

from torch import Tensor

from sdesampling.predictors.base import Predictor
from sdesampling.score import ScoreModel


class ProbabilityFlow(Predictor):
    """x - f + G^2 score / 2: reverse diffusion with half the score and no noise.

    Song et al. 2020, appendix D.3. The draw is asked for and left unused, as in the reference code, so that
    its recordings can be replayed.
    """

    name = "probability_flow"

    def update(self, model: ScoreModel, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        f, _ = model.sde.reverse(model.score, probability_flow=True).discretize(x, t)
        mean = x - f
        return mean, mean
