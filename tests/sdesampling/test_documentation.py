"""What the documentation of the library shows runs as it is written there."""

import doctest
import pkgutil
import re
from pathlib import Path

import pytest

import sdesampling
from sdesampling.samplers import NonFiniteStateError

SAMPLERS = Path(__file__).parents[2] / "docs" / "samplers.md"


def test_the_example_of_the_package():
    found = doctest.testmod(sdesampling)
    assert found.attempted > 5
    assert found.failed == 0


def test_every_module_of_the_package_is_named():
    modules = [each.name for each in pkgutil.iter_modules(sdesampling.__path__)]
    assert [name for name in modules if not re.search(rf"\b{name}\b", sdesampling.__doc__)] == []


def test_the_toy_mixture_of_the_page_on_samplers(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", SAMPLERS.read_text(encoding="utf-8"), re.DOTALL)
    with pytest.raises(NonFiniteStateError) as error:
        exec(compile(code, SAMPLERS.name, "exec"), {})
    assert "near 0.8" in code
    share = float(capsys.readouterr().out.strip().removeprefix("tensor(").removesuffix(")"))
    assert share == pytest.approx(0.8, abs=0.03)
    told = " ".join(line.removeprefix("# ") for line in code.splitlines() if line.startswith("# "))
    assert told == f"NonFiniteStateError: {error.value}"
