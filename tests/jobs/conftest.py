"""Stores with a small configuration for tests of shards, and what undisturbed work makes of it."""

import pytest
import torch
from shards import new_store, outcome, run_all


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Digests and number of the images and features of the whole configuration."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = new_store(tmp_path_factory.mktemp("undisturbed"))
    run_all(store)
    torch.set_num_threads(threads)
    return outcome(store)


@pytest.fixture
def store(tmp_path):
    """A store with that configuration in it. Tests of other things have stores of their own."""
    return new_store(tmp_path / "store")
