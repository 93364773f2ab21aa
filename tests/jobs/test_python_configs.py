"""Configurations of score_sde in their own form: read from the syntax tree, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.model_configs import read_model_config_file
from jobs.models.python_configs import read_python_config
from sdesampling.configs import ScoreConfig

#: In the manner of score_sde's configs, with other values.
DEFAULTS = """
import ml_collections
import torch


def get_default_configs():
  config = ml_collections.ConfigDict()
  # training
  config.training = training = ml_collections.ConfigDict()
  config.training.batch_size = 128
  training.n_iters = 1300001
  training.continuous = True
  config.data = data = ml_collections.ConfigDict()
  data.image_size = 32
  data.num_channels = 3
  data.centered = False
  config.model = model = ml_collections.ConfigDict()
  model.sigma_min = 0.01
  model.sigma_max = 50
  model.num_scales = 1000
  model.beta_min = 0.1
  model.beta_max = 20.
  model.embedding_type = 'fourier'
  config.device = torch.device('cuda:0') if torch.cuda.is_available() else torch.device('cpu')
  return config
"""
OWN = '''
"""Training something small."""
from configs.default_toy_configs import get_default_configs


def get_config():
  """Its values."""
  config = get_default_configs()
  training = config.training
  training.sde = 'vesde'
  config.sampling.predictor = 'reverse_diffusion'
  data = config.data
  data.image_size = 16
  model = config.model
  model.name = 'ncsnpp'
  model.scale_by_sigma = True
  model.sigma_max = 90.
  model.nf = 16
  model.ch_mult = (1, 2)
  model.num_res_blocks = 1
  model.attn_resolutions = (8,)
  return config
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "configs" / "ve"
    folder.mkdir(parents=True)
    (tmp_path / "configs" / "default_toy_configs.py").write_text(DEFAULTS)
    (folder / "toy.py").write_text(OWN)
    return folder / "toy.py"


def test_values_are_laid_over_the_defaults_that_are_imported(own: Path):
    content = read_python_config(own)
    assert content["training"] == {"batch_size": 128, "n_iters": 1300001, "continuous": True, "sde": "vesde"}
    assert content["model"]["sigma_max"] == 90.0
    assert content["model"]["ch_mult"] == (1, 2)
    config = read_model_config_file(own)
    assert isinstance(config, ScoreConfig)
    assert config.shape == (3, 16, 16)
    assert config.sde == {"family": "ve", "N": 1000, "sigma_min": 0.01, "sigma_max": 90.0}
    assert config.network["ch_mult"] == [1, 2]
    assert config.model(config.networks()).continuous


def test_defaults_may_lie_beside_the_file(own: Path, tmp_path: Path):
    (tmp_path / "configs" / "default_toy_configs.py").rename(own.parent / "default_toy_configs.py")
    assert read_python_config(own)["data"]["image_size"] == 16


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("open('/tmp/x', 'w').write('run')", "is more than setting a value, and is never run"),
        ("m.nf = int(__import__('os').environ['NF'])", "line 6: .* is never run"),
        ("for i in range(3): pass", "is never run"),
        ("m[0] = 1", "is never run"),
    ],
)
def test_nothing_is_run(tmp_path: Path, line: str, message: str):
    (tmp_path / "bad.py").write_text(
        f"def get_config():\n  config = C.ConfigDict()\n  m = config.model\n\n\n  {line}\n  return m\n"
    )
    with pytest.raises(UnresolvedError, match=message):
        read_python_config(tmp_path / "bad.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN, r"takes its defaults from .*default_toy_configs\.py: it is not beside or above"),
        ("x = 1", "has no function get_config or get_default_configs"),
        ("def get_config(:", "is no Python text"),
        ("def get_config():\n  'nothing'\n", "returns nothing"),
        ("def get_config():\n  return 3\n", "is never run"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, text: str, message: str):
    (tmp_path / "other.py").write_text(text)
    with pytest.raises(UnresolvedError, match=message):
        read_python_config(tmp_path / "other.py")
