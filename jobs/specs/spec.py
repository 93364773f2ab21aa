"""The spec as a user writes it: `Settings` (one cell), `SweepSection` (the matrix) and `Spec` (the file).

Types, ranges and defaults live here, and the JSON schema. Reading YAML is in `jobs/specs/plain_yaml.py`,
expansion in `jobs/planning/sweep.py`, the meaning of names in `jobs/models/resolve.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from jobs.paths import SHARED_FOLDERS
from jobs.specs.samplers import Sampler
from jobs.specs.sections import (
    Count,
    DataSet,
    DataSetField,
    Deviation,
    ErrorMethod,
    IntOrAuto,
    Metric,
    ModelName,
    PlainName,
    PositiveInt,
    Precision,
    Quantisation,
    Resources,
    SecondsOrAuto,
    Section,
    listed,
    named,
)
from jobs.specs.window import Window
from jobs.store import StoreError, check_url


def _role(value: object) -> object:
    """A bare path is the file of the whole model."""
    return {"model": value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    """A list or its only entry; nothing after the colon stands for none."""
    return () if value is None else listed(value)


def _listed_metrics(value: object) -> object:
    """Nothing after the colon would mean no scores at all, which nobody should get unasked."""
    if value is None:
        raise PydanticCustomError("spec", "is no list of metrics; write [] for none, or leave the key out")
    return _listed(value)


class ModelSection(Section):
    """A name, or weight files by path, or a data set (for the control `real`)."""

    name: ModelName | None = None
    network: PlainName | None = None
    weights: Annotated[dict[str, str] | None, BeforeValidator(_role)] = None  # role -> path
    dataset: DataSet | None = None
    note: str = ""  # said beside the table

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSection:
        given = [key for key in ("name", "weights", "dataset") if getattr(self, key) is not None]
        if len(given) != 1:
            raise PydanticCustomError("spec", "must give one of name, weights, dataset")
        if self.network is not None and self.weights is None:
            raise PydanticCustomError("spec", "names a network without its weights")
        return self


class ExtractorSection(Section):
    """A feature network of the catalogue, its weights by path where they are not shipped."""

    name: PlainName
    weights: str | None = None


ModelField = Annotated[ModelSection, BeforeValidator(named)]
ExtractorField = Annotated[
    tuple[Annotated[ExtractorSection, BeforeValidator(named)], ...], BeforeValidator(_listed)
]
ReferenceField = Annotated[tuple[DataSetField, ...], BeforeValidator(_listed)]


class Settings(Section):
    """Everything that one cell of the table is made of. docs/spec.md says what each key means."""

    model: ModelField
    sampler: Sampler
    classes: Annotated[tuple[Count, ...], BeforeValidator(_listed)] = ()
    samples: Annotated[int, Field(ge=1, lt=10**12)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 1
    group_size: PositiveInt = 1024
    shard_size: IntOrAuto = None
    stages: Annotated[tuple[Count, ...], BeforeValidator(_listed)] = ()
    precision: Precision = "float32"
    quantisation: Quantisation = "floor"
    extractor: ExtractorField = ()
    reference: ReferenceField = ()
    metrics: Annotated[tuple[Metric, ...], BeforeValidator(_listed_metrics)] = ("fid",)
    standard_error: ErrorMethod = "jackknife"
    snapshot_every: SecondsOrAuto = None
    priority: int = 0
    resources: Resources = Resources()


Condition = dict[str, tuple[str, ...]]


def _condition(value: object) -> object:
    """Axis -> level or levels; levels are compared by their text, so `seed: 1` and `seed: [1, 2]` both do."""
    if not isinstance(value, Mapping):
        return value
    return {
        axis: tuple(map(level_text, levels if isinstance(levels, list) else [levels]))
        for axis, levels in value.items()
    }


def level_text(value: object) -> str:
    """The text by which a level of an axis is called: true and null as YAML writes them, numbers by repr."""
    return value if isinstance(value, str) else json.dumps(value)


class Override(Section):
    """Extra settings for the cells that a condition picks."""

    when: Annotated[Condition, BeforeValidator(_condition)]
    set: dict[str, Any]


class Include(Section):
    """A single cell beside the matrix."""

    row: str
    column: str
    set: dict[str, Any]


class SweepSection(Section):
    """A matrix of axes, less what is excluded, plus what is included."""

    #: axis -> level -> settings. An axis given as a list of values sets the key of its name.
    axes: dict[str, dict[str, dict[str, Any]]] = Field(default={})
    rows: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    columns: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    exclude: Annotated[
        tuple[Annotated[Condition, BeforeValidator(_condition)], ...], BeforeValidator(_listed)
    ] = ()
    override: Annotated[tuple[Override, ...], BeforeValidator(_listed)] = ()
    include: Annotated[tuple[Include, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="before")
    @classmethod
    def _spell_out_axes(cls, data: object) -> object:
        if not isinstance(data, Mapping) or not isinstance(data.get("axes"), Mapping):
            return data
        return {**data, "axes": {axis: _levels(axis, levels) for axis, levels in data["axes"].items()}}


def _levels(axis: str, levels: object) -> object:
    """Spell out an axis that is a list of values."""
    if not isinstance(levels, list):
        return levels
    spelled_out: dict[str, dict[str, object]] = {}
    for value in levels:
        text = level_text(value)
        if text in spelled_out:
            raise PydanticCustomError(
                "sentence", "axis {axis} has {text} twice", {"axis": axis, "text": text}
            )
        spelled_out[text] = {axis: value}
    return spelled_out


def _value_and_std(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, None)
    if isinstance(value, list) and len(value) in (1, 2):
        return (value[0], value[1] if len(value) == 2 else None)
    raise PydanticCustomError("spec", "is neither a number nor [mean, standard deviation]")


class PublishedSection(Section):
    """Values from one source: row -> column -> value or [mean, standard deviation]."""

    source: str
    metric: Metric = "fid"
    samples: PositiveInt = 50_000
    reference: str | None = None
    values: dict[str, dict[str, Annotated[tuple[float, Deviation | None], BeforeValidator(_value_and_std)]]]


class Head(Section):
    """The keys that belong to the whole spec and not to a cell."""

    name: PlainName
    description: str = ""
    store: str = "runs"
    window: Window | None = None
    sweep: SweepSection | None = None
    published: Annotated[tuple[PublishedSection, ...], BeforeValidator(_listed)] = ()

    @field_validator("name")
    @classmethod
    def _folder_of_its_own(cls, name: str) -> str:
        if name in SHARED_FOLDERS:
            raise PydanticCustomError(
                "spec", "is a folder that all sweeps of a store share; take another name"
            )
        return name

    @field_validator("store")
    @classmethod
    def _of_a_known_kind(cls, store: str) -> str:
        try:
            check_url(store)
        except StoreError as error:
            raise PydanticCustomError("sentence", "{message}", {"message": str(error)}) from None
        return store


class Spec(Head):
    """A spec that was read: its head, the settings common to its cells as written, and where it came from."""

    settings: dict[str, Any]
    overrides: dict[str, Any]  # dotted key -> value, from the command line; they win in every cell
    written: str  # the text of the file
    folder: str  # relative paths in it start here


def spec_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a spec file, for editors.

    In a sweep the cells may supply what the file's own level leaves out, so only `name` is required there.
    """
    head = Head.model_json_schema()
    settings = Settings.model_json_schema()
    properties = {**head["properties"], **settings["properties"]}
    for key, item in (("extractor", "ExtractorSection"), ("reference", "DataSet")):
        one = {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{item}"}]}
        properties[key] = {"anyOf": [*one["anyOf"], {"type": "array", "items": one}]}
    properties["model"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/ModelSection"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sdesweep spec",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": properties,
        "$defs": {**head.get("$defs", {}), **settings["$defs"]},
    }
