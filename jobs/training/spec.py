"""The spec of a training as a user writes it: what `sdesweep train SPEC` reads.

Types, ranges and defaults of the three kinds: a feature classifier, score matching, a GAN. The loops are in
`sdesampling/training` and `fid/training.py`; running them is in `jobs/training/run.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from jobs.inputs.modelfiles import UnresolvedError
from jobs.models.resolve import resolve_data_set
from jobs.problems import Problem, SpecError, describe, not_one_of, path_text
from jobs.specs.plain_yaml import parse
from jobs.specs.sections import Count, DataSet, DataSetField, PlainName, Positive, PositiveInt, Section
from sdesampling.configs import LatentConfig, ModelConfig, ModelError, ScoreConfig
from sdesampling.models import blank_networks

Share = Annotated[float, Field(ge=0, lt=1)]


class ClassifierLoop(Section):
    """`fid.training.ClassifierSettings` as a spec gives them."""

    steps: PositiveInt
    batch_size: PositiveInt = 128
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_shift: Count = 1


class ScoreMatchingLoop(Section):
    """`sdesampling.training.ScoreMatchingSettings` as a spec gives them."""

    steps: PositiveInt
    batch_size: PositiveInt = 128
    learning_rate: Positive = 2e-4
    warmup: Count = 5000
    cosine_decay: bool = False
    gradient_clip: Positive = 1.0
    ema_decay: Share = 0.9999
    likelihood_weighting: bool = False
    smallest_time: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class GANLoop(Section):
    """`sdesampling.training.GANSettings` as a spec gives them."""

    steps: PositiveInt
    closing_steps: Count = 0
    batch_size: PositiveInt = 64
    generator_learning_rate: Positive = 2e-4
    discriminator_learning_rate: Positive = 2e-4
    betas: tuple[Share, Share] = (0.5, 0.999)
    r1_gamma: Annotated[float, Field(ge=0)] = 0.0
    ema_decay: Share = 0.999


class DigitsNetwork(Section):
    """Size of a `DigitsCNN`; channels and classes are those of the data."""

    width: PositiveInt = 32
    dropout: Share = 0.2


class _Common(Section):
    name: PlainName
    description: str = ""
    data: DataSetField
    held_out: DataSetField  # never trained on; the record says how the finished network does on it
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    save_every: Positive = 60.0  # seconds between savings of an unfinished training


class ClassifierTrainingSpec(_Common):
    """A digits classifier for use as a feature extractor."""

    kind: Literal["classifier"]
    network: DigitsNetwork = DigitsNetwork()
    training: ClassifierLoop


def _buildable(description: dict[str, Any], family: type[ModelConfig]) -> dict[str, Any]:
    """The description, if it is that of a model of this family; no weight is drawn."""
    try:
        config = ModelConfig.from_dict(description)
        if not isinstance(config, family):
            raise ModelError(f"is of family {config.family!r}; this kind of training takes {family.family!r}")
        config.model(blank_networks(config))
    except ModelError as error:
        raise PydanticCustomError("spec", "{message}", {"message": str(error)}) from None
    return description


class ScoreMatchingSpec(_Common):
    """A score network on a continuous SDE."""

    kind: Literal["score_matching"]
    model: dict[str, Any]  # a ScoreConfig of sdesampling/configs.py
    training: ScoreMatchingLoop

    @field_validator("model")
    @classmethod
    def _score_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _buildable(value, ScoreConfig)


class GANSpec(_Common):
    """A generator and a discriminator."""

    kind: Literal["gan"]
    model: dict[str, Any]  # a LatentConfig of sdesampling/configs.py
    training: GANLoop

    @field_validator("model")
    @classmethod
    def _latent_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _buildable(value, LatentConfig)


TrainingSpec = Annotated[ClassifierTrainingSpec | ScoreMatchingSpec | GANSpec, Field(discriminator="kind")]

_KINDS: dict[str, type[ClassifierTrainingSpec] | type[ScoreMatchingSpec] | type[GANSpec]] = {
    "classifier": ClassifierTrainingSpec,
    "score_matching": ScoreMatchingSpec,
    "gan": GANSpec,
}


def load_training_spec(path: Path) -> TrainingSpec:
    """Read a training spec; relative paths of its data sets start at its folder.

    Raises:
        SpecError: with all the problems of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [Problem("", f"cannot be read: {error}")]) from None
    document = parse(text, str(path))
    kind = document.get("kind")
    if kind not in _KINDS:
        message = not_one_of(kind, _KINDS) if kind is not None else f"missing; one of {', '.join(_KINDS)}"
        raise SpecError(str(path), [Problem("kind", message)])
    model = _KINDS[kind]
    try:
        spec = model.model_validate(document)
    except ValidationError as error:
        problems = [Problem(path_text(at), message) for at, message in describe(error, model, document)]
        raise SpecError(str(path), problems) from None
    return _with_absolute_paths(spec, path)


def _with_absolute_paths(spec: TrainingSpec, path: Path) -> TrainingSpec:
    """The spec with its data sets found. Raises SpecError for those that are not there."""
    problems: list[Problem] = []
    found: dict[str, DataSet] = {}
    for key in ("data", "held_out"):
        try:
            found[key] = resolve_data_set(getattr(spec, key), path.resolve().parent, key)
        except UnresolvedError as error:
            problems.append(Problem(path_text(error.key), str(error)))
    if problems:
        raise SpecError(str(path), problems)
    return spec.model_copy(update=found)
