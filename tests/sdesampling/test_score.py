"""Conventions of score models: labels, scaling, counting, micro-batches."""

import copy

import pytest
import torch
from golden_samplers import golden_network
from torch import nn
from torch.testing import assert_close

from sdesampling.networks import build_network
from sdesampling.noise import RecordedNoise
from sdesampling.samplers import build_sampler, run
from sdesampling.score import PrecisionError, ScoreModel
from sdesampling.sde import VE, VP, SubVP

SHAPE = (1, 2, 2)
T = torch.tensor([1.0, 0.5, 1e-3])
X = torch.ones(3, *SHAPE)


class Recorder(nn.Module):
    """Returns its input times two, and remembers its labels and batch sizes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.labels, self.batches = None, []

    def forward(self, x, labels):
        self.labels = labels
        self.batches.append(len(x))
        return self.weight * x


def model(sde, **options):
    return ScoreModel(Recorder(), sde, SHAPE, **options)


def test_continuous_labels():
    ve = model(VE(0.01, 50, 1000))
    assert_close(ve.network_labels(T), 0.01 * 5000**T)
    for sde in (VP(N=1000), VP(N=50), SubVP(N=50)):
        assert torch.equal(model(sde).network_labels(T), T * 999)


def test_discrete_labels_on_the_trained_scales():
    ve = model(VE(N=1000), continuous=False).network_labels(torch.tensor([1.0, 0.5, 1e-5]))
    assert ve.dtype == torch.int64
    assert ve.tolist() == [0, 500, 999]  # round half to even: 499.5 to 500
    vp = model(VP(N=1000), continuous=False).network_labels(T)
    assert torch.equal(vp, T * 999)


def test_labels_of_twice_the_scales():
    """P2000: label i 999/1999 keeps label and noise level together, i/2 ends at 999.5, or rounded."""
    t = torch.linspace(1, 1e-5, 2000)
    position = torch.arange(2000.0)  # from the largest scale
    for rule, expected in (
        ("interpolated", position * 999 / 1999),
        ("half", position / 2),
        ("rounded", torch.round(position * 999 / 1999)),
    ):
        labels = model(VE(N=1000), continuous=False).with_steps(2000, rule).network_labels(t)
        assert_close(labels.float(), expected, rtol=0, atol=1e-3)
        assert float(labels[-1]) == (999.5 if rule == "half" else 999)
    vp = model(VP(N=1000), continuous=False).with_steps(2000)
    assert_close(vp.network_labels(t), t * 999)
    assert float(vp.sde.discrete_betas[-1]) == pytest.approx(0.01)  # betas halved
    half = model(VP(N=1000), continuous=False).with_steps(2000, "half")
    assert_close(half.network_labels(torch.ones(1)), torch.tensor([999.5]))


def test_other_steps_change_the_sde_and_never_the_network():
    """The network's own scales are a buffer of N sigmas that labels index: P2000 must stay within it."""
    network = golden_network("tiny_ve_positional")
    trained = ScoreModel(network, VE(N=12), (3, 8, 8), continuous=False)
    finer = trained.with_steps(24)
    assert (finer.sde.N, finer.scales, finer.network is network, len(network.sigmas)) == (24, 12, True, 12)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in torch.linspace(1, 1e-5, 24):
            assert finer.score(x, t[None]).isfinite().all()
        for t in (1.0, 1e-5):  # where both grids have the same scale
            at = torch.tensor([t])
            assert_close(finer.score(x, at), trained.score(x, at), rtol=1e-4, atol=1e-4)


def test_score_is_minus_noise_over_std_for_vp_and_the_output_for_ve():
    assert torch.equal(model(VE()).score(X, T), 2 * X)
    for sde in (VP(), SubVP()):
        assert_close(model(sde).score(X, T), -2 * X / sde.std(T).view(3, 1, 1, 1))
    discrete = VP(N=1000)
    index = (T * 999).long()
    expected = -2 * X / discrete.sqrt_1m_alphas_cumprod[index].view(3, 1, 1, 1)
    assert_close(model(discrete, continuous=False).score(X, T), expected)


def test_tweedie_denoising():
    for sde in (VE(), VP(), SubVP()):
        m, std = sde.mean_coefficient(T).view(3, 1, 1, 1), sde.std(T).view(3, 1, 1, 1)
        score = model(sde).score(X, T)
        assert_close(model(sde).denoise(X, T), (X + std**2 * score) / m)


@pytest.mark.parametrize(("size", "batches"), [(None, [7]), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_micro_batches_are_cut_inside_the_batch_and_count_once(size, batches):
    scored = model(VE(), micro_batch=size)
    x = torch.randn(7, *SHAPE)
    assert torch.equal(scored.score(x, torch.full((7,), 0.5)), 2 * x)
    assert scored.network.batches == batches
    assert scored.evaluations == 1


def test_networks_are_put_into_eval_mode():
    network = Recorder().train()
    ScoreModel(network, VE(), SHAPE)
    assert not network.training


def test_impossible_models_are_refused():
    with pytest.raises(ValueError, match="did you mean 'rounded'"):
        model(VE(), labels="round")
    with pytest.raises(ValueError, match="micro_batch = 0"):
        model(VE(), micro_batch=0)
    with pytest.raises(ValueError, match="subvp: only VE and VP"):
        model(SubVP(), continuous=False)
    with pytest.raises(ValueError, match="more than 20 steps"):
        model(VP(N=1000), continuous=False).with_steps(10)


def noisy_and_quiet(sde):
    """Two times, of noise levels 1 and 0.1 of the data's range [0, 1] or [-1, 1]."""
    t = torch.linspace(1e-3, 1, 20001)
    levels = model(sde).noise_level(t)
    return [t[(levels - level).abs().argmin()].expand(3) for level in (1.0, 0.1)]


@pytest.mark.parametrize("sde", [VE(0.01, 50, 1000), VP(N=1000), SubVP(N=1000)])
def test_mixed_precision_switches_by_the_noise_level(sde):
    """Above the switch every bit is that of bfloat16, below it that of float32."""
    torch.manual_seed(0)
    network = build_network("ncsnpp", image_size=8, num_channels=1, nf=8, ch_mult=(1,), num_res_blocks=1)
    x = torch.rand(3, 1, 8, 8)
    noisy, quiet = noisy_and_quiet(sde)
    scores = {}
    for name, precision, below in (
        ("float32", "float32", 0.0),
        ("bfloat16", "bfloat16", 0.0),
        ("mixed", "bfloat16", 0.5),
    ):
        tried = ScoreModel(copy.deepcopy(network), sde, (1, 8, 8))
        tried.set_precision(precision, below)
        tried = tried.with_steps(100)  # as samplers do
        with torch.no_grad():
            scores[name] = tried.score(x, noisy), tried.score(x, quiet)
        assert scores[name][0].dtype == torch.float32
    assert torch.equal(scores["mixed"][0], scores["bfloat16"][0])
    assert torch.equal(scores["mixed"][1], scores["float32"][1])
    assert not torch.equal(scores["bfloat16"][1], scores["float32"][1])


def test_noise_level_is_relative_to_the_range_of_the_data():
    ve, vp = VE(0.01, 50, 1000), VP(N=1000)
    assert_close(model(ve).noise_level(T), ve.std(T))
    assert_close(model(ve, centered=True).noise_level(T), ve.std(T) / 2)
    assert_close(model(vp).noise_level(T), vp.std(T) / vp.mean_coefficient(T) / 2)


def test_a_network_without_a_form_in_bfloat16_is_refused():
    plain = model(VE())
    plain.set_precision("float32")
    with pytest.raises(PrecisionError, match="Recorder has no method set_precision"):
        plain.set_precision("bfloat16")


def test_a_network_of_whole_labels_takes_rounded_ones_alone():
    network = build_network("ncsn", image_size=8, num_channels=1, ngf=4, num_scales=10)
    model = ScoreModel(network, VE(0.01, 1.0, 10), (1, 8, 8), continuous=False)
    with pytest.raises(ValueError, match="4 noise scales: the network was trained on 10"):
        model.with_steps(4)
    rounded, t = model.with_steps(4, "rounded"), torch.linspace(1, 0, 4)
    assert rounded.network_labels(t).tolist() == [0, 3, 6, 9]
    assert torch.isfinite(rounded.score(torch.zeros(4, 1, 8, 8), t)).all()


def test_a_network_that_looks_labels_up_is_told_whole_ones_on_vp_too():
    """Times come back as indices to a few parts in 1e7, so that cutting them off would miss by one."""
    looked_up = Recorder()
    looked_up.fractional_labels = False
    model = ScoreModel(looked_up, VP(N=1000), SHAPE, continuous=False)
    labels = model.network_labels(torch.linspace(1, 0, 1000))
    assert labels.dtype == torch.int64
    assert labels.tolist() == list(range(999, -1, -1))


class Squash(nn.Module):
    """A network that takes the precision of its weights alone, as layers of PyTorch do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.layer.weight, -0.5)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x, labels):
        return self.layer(x).tanh()


@pytest.mark.parametrize(
    ("kind", "hyper"),
    [
        ("predictor_corrector", {"steps": 4}),
        ("predictor_corrector", {"steps": 4, "predictor": "none", "corrector": "annealed_langevin"}),
        ("ode", {}),
        ("ode", {"method": "heun", "steps": 4}),
        ("edm", {"steps": 4, "s_churn": 2.0}),
        ("annealed_langevin", {"levels": 2, "steps_per_level": 2}),
        ("inpainting", {"steps": 4, "images": torch.rand(3, *SHAPE), "known": torch.tensor([1.0, 0.0])}),
    ],
)
def test_a_network_in_float64_is_asked_in_float64(kind, hyper):
    """From the same noise it gives what it gives in float32, to the digits of that."""
    draws, images = list(torch.randn(20, 3, *SHAPE, generator=torch.Generator().manual_seed(0))), {}
    for dtype in (torch.float32, torch.float64):
        scored = ScoreModel(Squash().to(dtype), VE(0.01, 2.0), SHAPE)
        sampler = build_sampler(kind, scored, **hyper)
        images[dtype] = sampler.finish(run(sampler, RecordedNoise(draws)))
        assert images[dtype].dtype == dtype
    assert_close(images[torch.float32].double(), images[torch.float64], rtol=1e-4, atol=1e-4)
