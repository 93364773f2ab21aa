"""What the documentation of the library shows runs as it is written there."""

import doctest
import pkgutil
import re

import sdesampling


def test_the_example_of_the_package():
    found = doctest.testmod(sdesampling)
    assert found.attempted > 5
    assert found.failed == 0


def test_every_module_of_the_package_is_named():
    modules = [each.name for each in pkgutil.iter_modules(sdesampling.__path__)]
    assert [name for name in modules if not re.search(rf"\b{name}\b", sdesampling.__doc__)] == []
