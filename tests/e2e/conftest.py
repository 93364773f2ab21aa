"""A spec and a store for each test of real runs, and what a run with nothing in its way has made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from real_runs import SPEC, Content, Site, kill_all


@pytest.fixture(scope="session")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Site]:
    def make() -> Site:
        site = Site(tmp_path_factory.mktemp("site"))
        site.spec.write_text(SPEC)
        return site

    return make


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


@pytest.fixture(scope="session")
def undisturbed_site(make_site: Callable[[], Site]) -> Site:
    """A store that a run with nothing in its way has filled."""
    site = make_site()
    code, output = site.run("--workers", "2")
    assert code == 0, output
    return site


@pytest.fixture(scope="session")
def undisturbed(undisturbed_site: Site) -> Content:
    return undisturbed_site.content()


@pytest.fixture
def running(site: Site) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts runs of the site that are killed with all below them when the test ends."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*options: str, command: str = "run") -> subprocess.Popen[str]:
        begun.append(site.begin(*options, command=command))
        return begun[-1]

    yield begin
    for process in begun:
        kill_all(process)
        process.wait()
