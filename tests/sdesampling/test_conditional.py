"""Class-conditional sampling: every sample is told its class, which its index alone decides."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdesampling.analytic import GaussianNetwork
from sdesampling.calibration import calibrate
from sdesampling.latent import LatentModel
from sdesampling.memory import activation_bytes
from sdesampling.networks import build_network
from sdesampling.noise import NoiseStream
from sdesampling.samplers import ClassConditional, build_sampler, run
from sdesampling.score import ScoreModel
from sdesampling.sde import VE, VP

MEANS = torch.tensor([0.1, 0.5, 0.9])


class ClassMeans(nn.Module):
    """Images of class c are normal about MEANS[c] with a standard deviation of 0.02."""

    num_classes = 3

    def __init__(self, sde):
        super().__init__()
        self.networks = nn.ModuleList(
            GaussianNetwork(sde, mean.expand(1, 1, 2), torch.full((1, 1, 2), 0.02)) for mean in MEANS
        )

    def forward(self, x, labels, classes):
        answers = torch.stack([network(x, labels) for network in self.networks])
        return answers[classes, torch.arange(len(x))]


def score_model(sde=None):
    sde = sde or VE(0.01, 5.0)
    return ScoreModel(ClassMeans(sde), sde, (1, 1, 2))


def gan():
    torch.manual_seed(0)
    generator = build_network("conditional_mlp_generator", image_size=4, num_channels=1, latent_dim=6)
    discriminator = build_network("conditional_mlp_discriminator", image_size=4, num_channels=1)
    return LatentModel(generator, discriminator, 6, (1, 4, 4))


@pytest.mark.parametrize(
    ("sde", "kind", "hyper"),
    [
        (VE(0.01, 5.0), "predictor_corrector", {"steps": 60}),
        (VP(), "predictor_corrector", {"steps": 500, "predictor": "ancestral", "corrector": "none"}),
        (VE(0.01, 5.0), "ode", {"method": "heun", "steps": 40}),
        (VP(), "dpm_solver", {"steps": 12}),
        (VE(0.01, 5.0), "edm", {"steps": 12}),
        (VE(0.01, 1.0), "annealed_langevin", {"step_size": 1e-5, "steps_per_level": 60}),
        (
            VE(0.01, 5.0),
            "inpainting",
            {
                "steps": 60,
                "known": torch.tensor([1.0, 0.0]),
                "images": MEANS.view(3, 1, 1, 1).repeat(1, 1, 1, 2),
            },
        ),
    ],
)
def test_samples_are_of_their_classes_whatever_the_sampler(sde, kind, hyper):
    model = score_model(sde)
    model.micro_batch = 16
    sampler = build_sampler(kind, model, **hyper)
    images = sampler.finish(run(sampler, NoiseStream(0, 0, range(7, 37))))
    values = images * 2 - 1 if model.centered else images
    expected = MEANS[sampler.class_labels(range(7, 37))].view(30, 1, 1, 1).expand(30, 1, 1, 2)
    assert_close(values, expected, rtol=0, atol=0.12)


def test_the_class_is_a_function_of_the_index_and_every_run_is_balanced():
    sampler = build_sampler("edm", score_model(), steps=2)
    assert sampler.class_labels(range(5, 12)).tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert build_sampler("edm", score_model(), classes=[2, 0]).class_labels(range(3)).tolist() == [2, 0, 2]
    whole = sampler.finish(run(sampler, NoiseStream(0, 0, range(12))))
    part = sampler.finish(run(sampler, NoiseStream(0, 0, range(4, 8))))
    assert_close(whole[4:8], part)
    counts = sampler.class_labels(range(1000)).bincount()
    assert int(counts.max() - counts.min()) <= 1


@pytest.mark.parametrize("kind", ["prior", "ddls"])
def test_a_conditional_gan_is_told_the_class_by_both_networks(kind):
    model, noise = gan(), NoiseStream(0, 0, range(12))
    model.micro_batch = 5
    hyper = {"steps": 2, "step_size": 0.05, "metropolis": True} if kind == "ddls" else {}
    sampler = build_sampler(kind, model, **hyper)
    state = run(sampler, noise)
    z, classes = state.tensors["z"], torch.arange(12) % 10
    with torch.no_grad():
        expected = (model.generator(z, classes) + 1) / 2
        assert_close(sampler.finish(state), expected)
        if kind == "ddls":
            logit = model.discriminator(model.generator(z, classes), classes)
            energy = z.square().sum(dim=1) / 2 + 3 * torch.log(torch.tensor(2 * torch.pi)) - logit
            assert_close(state.tensors["energy"], energy)
    assert model.class_labels is None  # nothing is left behind in the model


def test_resumed_runs_are_bit_identical():
    sampler, noise = build_sampler("predictor_corrector", score_model(), steps=6), NoiseStream(0, 0, range(5))
    straight = sampler.finish(run(sampler, noise))
    state = sampler.init(noise)
    for _ in range(6):
        again = build_sampler("predictor_corrector", score_model(), steps=6)
        state = again.step(state, NoiseStream(0, 0, range(5)))
    assert torch.equal(again.finish(state), straight)


def test_a_conditional_critic_is_calibrated_with_the_classes():
    model = gan()
    real = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)
    classes = torch.arange(40) % 10
    found = calibrate(model, real, NoiseStream(0, 0, range(40)), (classes, classes))
    assert found.log_loss <= found.log_loss_before + 1e-6


def test_score_networks_with_class_embeddings():
    arguments = {"nf": 8, "ch_mult": (1,), "num_res_blocks": 1, "attn_resolutions": ()}
    torch.manual_seed(0)
    network = build_network(
        "ncsnpp", image_size=8, num_channels=1, num_classes=4, init_scale=1.0, **arguments
    ).eval()
    x, labels = torch.rand(4, 1, 8, 8), torch.full((4,), 0.5)
    with torch.no_grad():
        together = network(x, labels, torch.tensor([0, 1, 2, 3]))
        for k in range(4):
            assert_close(
                network(x[k : k + 1], labels[:1], torch.tensor([k]))[0], together[k], rtol=1e-4, atol=1e-4
            )
        other = network(x, labels, torch.tensor([1, 1, 2, 3]))
        with pytest.raises(ValueError, match="has to be told the classes"):
            network(x, labels)
    assert float((other[0] - together[0]).abs().max()) > 1e-3
    plain = build_network("ncsnpp", image_size=8, num_channels=1, **arguments)
    assert "class_embedding.weight" in network.state_dict()
    assert set(network.state_dict()) - set(plain.state_dict()) == {"class_embedding.weight"}


def test_memory_of_a_conditional_network_is_measured_with_a_class():
    sizes = {}
    for num_classes in (None, 4):
        network = build_network(
            "ncsnpp",
            image_size=8,
            num_channels=1,
            nf=8,
            ch_mult=(1,),
            num_res_blocks=1,
            num_classes=num_classes,
        )
        model = ScoreModel(network, VE(), (1, 8, 8))
        sizes[num_classes] = activation_bytes(model)
        assert (model.evaluations, model.class_labels) == (0, None)
    assert sizes[None] <= sizes[4] < 1.1 * sizes[None]


def test_the_published_conditional_gan_has_its_parameters():
    names = set(build_network("conditional_mlp_generator", image_size=28, num_channels=1).state_dict())
    assert {"label_emb.weight", "model.0.weight", "model.3.running_var", "model.11.bias"} <= names
    names = build_network("conditional_mlp_discriminator", image_size=28, num_channels=1).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in names.items()}
    assert shapes["model.0.weight"] == (512, 794)
    assert shapes["model.8.weight"] == (1, 512)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"classes = \[3\]: must be among 0 to 2"):
        build_sampler("edm", score_model(), classes=[3])
    plain = GaussianNetwork(VE(), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).model()
    with pytest.raises(ValueError, match="not class-conditional"):
        build_sampler("edm", plain, classes=[0])
    with pytest.raises(ValueError, match=r"classes = \[0\]: the model is not class-conditional"):
        ClassConditional(build_sampler("edm", plain), plain, [0])
    with pytest.raises(ValueError, match="not there for chains or paths"):
        build_sampler("ode", score_model(), interpolate=2)
    with pytest.raises(ValueError, match="num_classes = 0"):
        build_network("ncsnpp", image_size=8, num_channels=1, num_classes=0)
