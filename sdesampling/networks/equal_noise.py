"""A network of another noise schedule, prediction or data range, asked with the labels of the VP SDE.

What a plug-in puts around a network that was trained elsewhere (docs/plugins.md). Knows how such networks are
asked, no sampler and no file.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sdesampling.choices import one_of
from sdesampling.sde import VP, per_sample

Prediction = Literal["noise", "data", "v"]


class AtEqualNoise(nn.Module):
    """The noise in x, (batch, channels, height, width), by a network that was trained on steps of its own.

    It is the network of a continuously trained VP model: told labels 999 t, it asks at the step whose noise
    beside the data is nearest to that of t, with the data as large as they are there. The data that are
    predicted then are those in x, whatever schedule led there, and the rest of x is noise.

    network: called with x, whole steps, int64 (batch,), and, where it has an attribute `num_classes`, with
        classes, int64 (batch,).
    alphas_cumprod: of its training, (steps,): it has seen sqrt(a) data + sqrt(1 - a) noise.
    prediction: what it gives: the noise, the data, or v = sqrt(a) noise - sqrt(1 - a) data (Salimans & Ho
        2022, arXiv 2202.00512, appendix D).
    mean, std: its data are (images - mean) / std, of images in the model's range, [-1, 1] if centered.
    clip: least and largest value of images, to which the predicted data are clipped, as many a sampling loop
        does: near pure noise a small error of the noise is a large one of the data. None: not at all.
    beta_min, beta_max: of the model's SDE.

    Noise beyond that of its last step, or below that of its first, is told as that step's. Raises ValueError
    for an alpha outside (0, 1) and for a std that is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        alphas_cumprod: Tensor,
        *,
        prediction: Prediction = "noise",
        mean: float = 0.0,
        std: float = 1.0,
        clip: tuple[float, float] | None = None,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
    ) -> None:
        super().__init__()
        one_of("prediction", prediction, get_args(Prediction))
        alphas = torch.as_tensor(alphas_cumprod).double()
        if alphas.dim() != 1 or not ((alphas > 0) & (alphas < 1)).all():
            raise ValueError(
                "alphas_cumprod: must be one number in (0, 1) for each step; a schedule that ends in pure "
                "noise, or begins without any, is cut there"
            )
        if not std > 0:
            raise ValueError(f"std = {std}: must be positive")
        self.network = network
        self.num_classes = getattr(network, "num_classes", None)
        self.prediction, self.mean, self.std, self.clip = prediction, mean, std, clip
        self.sde = VP(beta_min, beta_max)
        self.register_buffer("alphas", alphas, persistent=False)

    def forward(self, x: Tensor, labels: Tensor, *classes: Tensor) -> Tensor:
        """x in the model's range, labels 999 t, (batch,)."""
        log_mean = self.sde.log_mean_coefficient(labels.double() / 999)
        m, std = log_mean.exp(), torch.sqrt(-torch.expm1(2 * log_mean))
        step, noisier = self._nearest(2 * torch.log(m / std))
        a = self.get_buffer("alphas")[step]
        # the data as large as it has seen them, but for more noise than it has seen
        scale = torch.where(noisier, (1 - a).sqrt() / std, a.sqrt() / (m * self.std))
        m, std, scale, data_part, noise_part = (
            per_sample(each, x).to(x.dtype) for each in (m, std, scale, a.sqrt(), (1 - a).sqrt())
        )
        own = scale * (x - m * self.mean)
        output = self.network(own, step, *classes)
        if self.prediction == "noise":
            output = (own - noise_part * output) / data_part
        elif self.prediction == "v":
            output = data_part * own - noise_part * output
        data = self.std * output + self.mean
        return (x - m * (data if self.clip is None else data.clamp(*self.clip))) / std

    def _nearest(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """The step of this log-SNR of images, int64 (batch,), and whether it is more noise than all have."""
        alphas = self.get_buffer("alphas")
        steps = torch.log(alphas / (1 - alphas)) - 2 * math.log(self.std)
        return (steps - log_snr[:, None]).abs().argmin(dim=1), log_snr < steps.min()
