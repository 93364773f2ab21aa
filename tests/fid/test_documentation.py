"""What the documentation of the package shows runs as it is written there."""

import doctest
import pkgutil
import re
from pathlib import Path

import torch

import fid

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_package():
    found = doctest.testmod(fid)
    assert found.attempted > 5
    assert found.failed == 0


def test_every_module_of_the_package_is_named():
    modules = [each.name for each in pkgutil.iter_modules(fid.__path__)]
    assert [name for name in modules if not re.search(rf"\b{name}\b", fid.__doc__)] == []


def test_the_example_of_the_page_on_results(capsys):
    """With the shipped network in place of Inception, whose weights are not here."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "results.md").read_text("utf-8"), re.DOTALL)
    shipped = ROOT / "jobs" / "catalog" / "weights" / "digits-cnn.safetensors"
    code, changed = re.subn(r'load_extractor\(".*?"\)', f'load_extractor("digits-cnn", "{shipped}")', code)
    assert changed == 1
    images = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8)
    given = {"batches": images.split(50), "reference_features": torch.randn(100, 64)}
    exec(compile(code, "results.md", "exec"), given)
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d\n", capsys.readouterr().out)
    assert given["score"].count == 100
