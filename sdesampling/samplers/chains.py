"""How well Markov chains have mixed, told from one number that each of them recorded at every step."""

import math

import torch
from torch import Tensor


def r_hat(traces: Tensor) -> float:
    """Split R-hat of traces (chains, steps): near 1 once the halves of all chains agree.

    Gelman et al., Bayesian Data Analysis (3rd edition), eq. 11.4. Infinite for chains that stay at different
    places, NaN where all stay at one. Raises ValueError for fewer than 4 steps.
    """
    if traces.shape[1] < 4:
        raise ValueError(f"{traces.shape[1]} steps: R-hat needs at least 4")
    length = traces.shape[1] // 2
    halves = torch.cat([traces[:, :length], traces[:, -length:]]).double()
    within = halves.var(dim=1).mean()
    between = halves.mean(dim=1).var()
    return float(torch.sqrt((length - 1) / length + between / within))


def effective_sample_size(traces: Tensor) -> float:
    """Number of independent draws that estimate a mean as well as all of traces (chains, steps) do.

    From the autocorrelations averaged over chains, summed in pairs up to the first negative one (Geyer 1992,
    initial positive and monotone sequence; Bayesian Data Analysis, eq. 11.7 and 11.8). At most n log10 n for
    n states, as in Stan; NaN where all stay at one place. Raises ValueError for fewer than 4 steps.
    """
    chains, steps = traces.shape
    if steps < 4:
        raise ValueError(f"{steps} steps: an effective sample size needs at least 4")
    traces = traces.double()
    centred = traces - traces.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=1).abs().square()
    autocovariance = torch.fft.irfft(spectrum, n=2 * steps, dim=1)[:, :steps].mean(dim=0) / steps
    within = autocovariance[0] * steps / (steps - 1)
    between = traces.mean(dim=1).var() if chains > 1 else 0.0
    variance = autocovariance[0] + between
    correlation = 1 - (within - autocovariance) / variance
    correlation[0] = 1
    pairs = correlation[: steps // 2 * 2].view(-1, 2).sum(dim=1)
    negative = (pairs < 0).nonzero()
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    time = 2 * pairs.cummin(dim=0).values.sum() - 1
    return float(chains * steps / time.clamp(min=1 / math.log10(chains * steps)))
