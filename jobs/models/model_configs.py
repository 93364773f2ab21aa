"""Configurations of models as files of their own, for checkpoints that do not say what network they are of.

JSON, or YAML as specs have it: this project's keys, or the data that score_sde, NCSN and NCSNv2 were
configured by; score_sde's own Python files are read, not run. What they mean is known in
`sdesampling.upstream_configs`.
"""

from __future__ import annotations

import re
from pathlib import Path

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.python_configs import read_python_config
from jobs.problems import SpecError
from jobs.specs.plain_yaml import parse
from sdesampling.configs import ModelConfig, ModelError
from sdesampling.upstream_configs import model_config

MAX_BYTES = 1_000_000

#: How NCSN's code writes its arguments; nothing but a mapping.
_NAMESPACE = re.compile(r"!!python/object:argparse\.Namespace")


def read_model_config_file(path: Path) -> ModelConfig:
    """Read the configuration of a model.

    Raises FileNotFoundError, and UnresolvedError for anything that is no such configuration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise UnresolvedError(f"{path}: {path.stat().st_size:,} bytes are no configuration")
    try:
        if path.suffix == ".py":
            return model_config(read_python_config(path))
        content = parse(_NAMESPACE.sub("", path.read_text(encoding="utf-8")), str(path))
        return model_config(content)
    except UnicodeDecodeError:
        raise UnresolvedError(f"{path} is no text: a configuration is JSON or YAML") from None
    except SpecError as error:
        problems = "; ".join(f"{each.path}: {each.message}".removeprefix(": ") for each in error.problems)
        raise UnresolvedError(f"{path}: {problems}") from None
    except ModelError as error:
        raise UnresolvedError(f"{path}: {error}") from None
