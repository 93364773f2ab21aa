"""Networks and extractors of other packages, from installing them to the table; and whatever can be wrong."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from local_pool import LocalPool

from cluster.cli import main
from cluster.display import Silence
from cluster.run import run_sweep
from jobs.models import plugins
from jobs.models.plugins import EXTRACTORS, NETWORKS, PluginError
from jobs.models.resolve import resolve_extractor
from jobs.paths import SweepPaths
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import expand
from jobs.problems import SpecError
from jobs.scores.results import SweepResults
from jobs.specs.spec import ExtractorSection
from jobs.store_local import LocalStore

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; what they registered is forgotten afterwards."""
    from fid import extractors
    from sdesampling import networks

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    known = set(sys.modules)
    yield folder
    for table in (networks.NETWORKS, extractors.EXTRACTORS):
        for name in [name for name, factory in table.items() if hasattr(factory, "plugin")]:
            del table[name]
            extractors._IDENTITIES.pop(name, None)
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


Install = Callable[..., None]


@pytest.fixture
def install(site: Path) -> Install:
    """Install a package by name, entry points {group: {name: value}}, modules {name: source} and version."""

    def put(
        package: str,
        groups: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        version: str = "1.2.3",
    ) -> None:
        information = site / f"{package.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    return put


def install_example(install: Install, name: str) -> Path:
    """Install one of examples/ from its own pyproject; returns its folder."""
    folder = EXAMPLES / name
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    modules = {path.stem: path.read_text() for path in folder.glob("example_*.py")}
    install(project["name"], project["entry-points"], modules, project["version"])
    return folder


def uninstall(site: Path, package: str) -> None:
    """Take a package's metadata and modules away again."""
    for path in site.glob(f"{package.replace('-', '_')}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDESWEEP_MODELS", str(tmp_path / "models"))
    return tmp_path


def models(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["models", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def examples(folder: Path, install) -> Path:
    """Both examples installed, their weights made, the network added; the folder of their sweep."""
    network = install_example(install, "network")
    install_example(install, "extractor")
    from example_mnist_unet import MnistUNet
    from example_pixel_projection import Projection

    torch.manual_seed(0)
    torch.save(MnistUNet(28, 1).state_dict(), folder / "unet.pth")
    torch.save(Projection().state_dict(), folder / "projection.pth")
    code, output, _ = models(
        "add", folder / "unet.pth", "--as", "mine/mnist-unet", "--config", network / "model.yaml"
    )
    assert code == 0
    assert "mnist-unet, 69,457 parameters" in output
    shutil.copy(EXAMPLES / "sweep.yaml", folder)
    return folder


def test_the_examples_run_from_weights_to_the_table(examples: Path):
    overrides = {  # small Langevin steps do not diverge with a network that was never trained
        "samples": 4,
        "group_size": 2,
        "sampler.steps": 21,
        "sampler.predictor": "none",
        "sampler.corrector": "langevin",
        "sampler.snr": 0.01,
    }
    sweep = expand(load_spec(examples / "sweep.yaml", overrides))
    store = LocalStore(examples / "store")
    outcome = run_sweep(store, sweep, LocalPool(store).open, Silence(), ["sdesweep", "run"])
    assert outcome.exit_code == 0
    results = SweepResults.model_validate_json(store.get(SweepPaths(sweep.name).results))
    (cell,) = results.cells
    (result,) = cell.results
    assert cell.summaries[0].label == "FID[pixel-projection]"
    assert result.extractor["layer"] == "linear"
    (made,), (extracted,) = result.executions, result.extraction
    assert made.execution.plugins == {"mnist-unet": "example-mnist-unet 0.1.0"}
    assert extracted.execution.plugins == {"pixel-projection": "example-pixel-projection 0.1.0"}
    source = result.configuration.model.source
    assert source is not None
    assert (source.weights, source.layout) == ("raw", "state dict")


def test_they_are_listed_and_verified(examples: Path):
    _, output, _ = models("list", "--json")
    found = {each["name"]: each for each in json.loads(output)["plugins"]}
    assert found["mnist-unet"]["version"] == "0.1.0"
    assert found["pixel-projection"]["group"] == EXTRACTORS
    assert models("verify", "mine/mnist-unet")[0] == 0
    code, output, _ = models("add", examples / "projection.pth", "--as", "pixel-projection")
    assert code == 0
    assert models("verify", "pixel-projection")[0] == 0


def test_without_the_package_the_network_is_named(examples: Path, site: Path):
    uninstall(site, "example-mnist-unet")
    from sdesampling.networks import NETWORKS as KNOWN

    KNOWN.pop("mnist-unet")
    code, output, _ = models("verify", "mine/mnist-unet")
    assert code == 1
    assert "'mnist-unet' is not one of" in output
    with pytest.raises(SpecError, match="needs the network 'mnist-unet', which no installed package"):
        load_spec(examples / "sweep.yaml")


def test_an_unknown_extractor_names_the_installed_ones(examples: Path):
    with pytest.raises(ValueError, match="did you mean 'pixel-projection'"):
        resolve_extractor(ExtractorSection(name="pixel-projecton"), examples)


MODULE = "from torch import nn\ndef factory(**arguments):\n    {}\n"


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("odd:factory", "import nowhere_at_all", "cannot be imported from odd:factory: ModuleNotFoundError"),
        ("odd:factory", "1 / 0", "cannot be imported from odd:factory: ZeroDivisionError"),
        ("odd:other", MODULE.format("return nn.Identity()"), "cannot be imported from odd:other: Attribute"),
        ("odd:factory", "factory = 3", "is a int, no factory that can be called"),
        ("odd:factory", MODULE.format("return 3"), "gave a int, no torch.nn.Module"),
        ("odd:factory", MODULE.format("raise KeyError('x')"), "failed: KeyError: 'x'"),
    ],
)
def test_a_network_that_cannot_be_used_names_package_and_entry_point(
    install,
    value: str,
    source: str,
    message: str,
):
    from sdesampling.networks import build_network

    install("odd-package", {NETWORKS: {"odd": value}}, {"odd": source})

    def use() -> None:
        plugins.provide_networks(["odd"])
        build_network("odd")

    with pytest.raises(PluginError) as caught:
        use()
    assert str(caught.value).startswith("entry point odd of package odd-package 1.2.3 (sdesweep.networks)")
    assert message in str(caught.value)


def test_names_that_clash(install):
    identity = {"network": "digits-cnn", "layer": "x", "dimension": 2, "resize": "no", "normalisation": "no"}
    source = f"def factory(**arguments): ...\nfactory.identity = {identity}\n"
    install("one", {NETWORKS: {"same": "one:factory", "ncsnpp": "one:factory"}}, {"one": source})
    install("two", {NETWORKS: {"same": "one:factory"}, EXTRACTORS: {"digits-cnn": "one:factory"}}, {})
    with pytest.raises(
        PluginError, match=r"same is registered in sdesweep.networks by one 1.2.3 and two 1.2.3"
    ):
        plugins.provide_networks(["same"])
    with pytest.raises(PluginError, match="ncsnpp is a network of this project; it needs another name"):
        plugins.provide_networks(["ncsnpp"])
    with pytest.raises(PluginError, match="digits-cnn is an extractor of this project"):
        resolve_extractor(ExtractorSection(name="digits-cnn"), Path())


GOOD = {"network": "odd", "layer": "x", "dimension": 2, "resize": "none", "normalisation": "none"}


@pytest.mark.parametrize(
    ("identity", "body", "message"),
    [
        (None, "pass", "has no `identity` that says network, layer, dimension"),
        ({"network": "odd"}, "pass", "has no `identity` that says network, layer, dimension"),
        ({**GOOD, "network": "other"}, "pass", "the network of its `identity` must be 'odd'"),
        ({**GOOD, "dimension": "two"}, "pass", "its dimension a whole number"),
        (GOOD, "return 3", "gave a int, which has no name, dimension, identity: it is no extractor"),
        (GOOD, "return Made()", "gave an extractor of 3 features, its identity says 2"),
        (GOOD, "return [][0]", "failed: IndexError"),
    ],
)
def test_an_extractor_that_cannot_be_used_names_package_and_entry_point(
    install,
    identity,
    body: str,
    message: str,
):
    from fid.extractors import load_extractor

    source = (
        "class Made:\n    name, dimension, identity = 'odd', 3, {}\n    def __call__(self, images): ...\n"
        f"def load(weights, device='cpu'):\n    {body}\n"
    )
    source += "" if identity is None else f"load.identity = {identity}\n"
    install("odd-package", {EXTRACTORS: {"odd": "odd:load"}}, {"odd": source})

    def use() -> None:
        plugins.provide_extractor("odd")
        load_extractor("odd", Path("weights.pth"))

    with pytest.raises(PluginError) as caught:
        use()
    assert "entry point odd of package odd-package 1.2.3 (sdesweep.extractors)" in str(caught.value)
    assert message in str(caught.value)


def test_the_example_that_trains_says_what_its_configuration_says(install, monkeypatch, folder: Path):
    """Its betas are those of the SDE in model.yaml, and what it saves is what is added."""
    import runpy

    from jobs.models.model_configs import read_model_config_file
    from sdesampling.networks.published import architecture

    network = install_example(install, "network")
    monkeypatch.setattr("sys.argv", ["train.py", "--steps", "1", "--out", str(folder / "unet.pth")])
    trained = runpy.run_path(str(network / "train.py"), run_name="__main__")
    plugins.provide_networks(["mnist-unet"])
    config = read_model_config_file(network / "model.yaml")
    model = config.model(config.networks())
    assert architecture(config) == "mnist-unet"
    betas = torch.linspace(trained["BETA_FIRST"], trained["BETA_LAST"], trained["SCALES"])
    torch.testing.assert_close(model.sde.alphas_cumprod, torch.cumprod(1 - betas, dim=0))
    assert models("add", folder / "unet.pth", "--as", "mine/u", "--config", network / "model.yaml")[0] == 0
