"""The parts that a spec and a configuration share: kinds of values, data sets, resources, published values.

They are data with types, defaults and ranges. Samplers have a module of their own, `jobs/specs/samplers.py`.
This module must not know files, catalogues or sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

#: One component of a path: no slash, no leading dot, so it can never leave its directory.
PlainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
#: Plain names joined by single slashes, as the published checkpoints are called (`vp/cifar10_ddpm`).
ModelName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._-]*(/[a-z0-9][A-Za-z0-9._-]*)*$", max_length=200)
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # sha256
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


def _auto_to_none(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("whole_number_or_auto", "is neither a whole number nor 'auto'")
    return None if value == "auto" else value


def _number_or_auto(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("spec", "is neither a number nor 'auto'")
    return None if value == "auto" else value


#: A whole number, or null (written `auto`): chosen when the work starts.
IntOrAuto = Annotated[PositiveInt | None, BeforeValidator(_auto_to_none)]

Deviation = Annotated[float, Field(ge=0)]

#: Seconds, or null (written `auto`): as its key says.
SecondsOrAuto = Annotated[Positive | None, BeforeValidator(_number_or_auto)]
#: Of the networks; `auto` is decided when a sweep is submitted (jobs/planning/submission.py).
Precision = Literal["float32", "bfloat16", "auto"]
Quantisation = Literal["floor", "round"]
Metric = Literal["fid", "fid_infinity", "is", "kid", "precision_recall", "density_coverage", "memorisation"]
ErrorMethod = Literal["jackknife", "bootstrap"]  # of a FID's standard error, as fid.uncertainty names them

METRICS: tuple[Metric, ...] = get_args(Metric)


class Section(BaseModel):
    """A mapping of a spec: unknown keys, other types, NaN and infinity are refused; it never changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataSet(Section):
    """A set of real images: one that the project knows by name, or one read from `path`."""

    name: PlainName
    path: str | None = None  # Parquet file, folder, npz or archive; absolute once resolved
    split: str | None = None  # of what is at the path
    content: Digest | None = None  # hash of its images (`Dataset.content_hash`): others are refused


def named(value: object) -> object:
    """A bare name stands for `{name: NAME}`."""
    if not isinstance(value, str | Mapping | Section):
        raise PydanticCustomError("spec", "is neither a name nor a mapping")
    return {"name": value} if isinstance(value, str) else value


def listed(value: object) -> object:
    """One entry stands for a list of one; lists become the tuples that frozen data need."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: A data set, or its name alone.
DataSetField = Annotated[DataSet, BeforeValidator(named)]


def _worker_count(value: object) -> object:
    """`auto` and a whole number stand for `{min: ..., max: ...}`."""
    if value is None or value == "auto":
        return {}
    if isinstance(value, str):
        raise PydanticCustomError("spec", "is neither a whole number, nor 'auto', nor {min: N, max: N}")
    return {"min": value, "max": value} if isinstance(value, int | float) else value


class WorkerCount(Section):
    """How many workers: at least `min` are asked for, and never more than `max`; between, as many as fit."""

    min: PositiveInt | None = None
    max: PositiveInt | None = None

    @model_validator(mode="after")
    def _in_order(self) -> WorkerCount:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("spec", "has a min above its max")
        return self


_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
LabelKey = Annotated[str, StringConstraints(pattern=rf"^([a-zA-Z0-9.-]{{1,253}}/)?{_LABEL}$")]
#: A value of a machine's label, `!value`, `in(a, b)` or `!in(a, b)`.
LabelCondition = Annotated[
    str, StringConstraints(pattern=rf"^!?({_LABEL}|in\({_LABEL}(, ?{_LABEL})*\))$", max_length=1000)
]
LabelSelector = dict[LabelKey, LabelCondition]


class Process(Section):
    """What one process takes of a machine."""

    cpus: Annotated[float, Field(ge=0)] = 0.0
    memory: Positive | None = None  # GiB
    labels: Annotated[tuple[LabelSelector, ...], BeforeValidator(listed)] = ()


class Resources(Section):
    """What the work may use. No result depends on it, but for `micro_batch` in the last bits."""

    workers: Annotated[WorkerCount, BeforeValidator(_worker_count)] = WorkerCount()
    cpus: Positive = 1.0  # for each worker
    #: For each worker; a fraction shares a device. None (auto): one where there are GPUs.
    gpus: Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(_number_or_auto)] = None
    memory: Positive | None = None  # GiB for each worker
    #: Of the machines for workers: what all of the first selector asks for, else of the second, ...
    labels: Annotated[tuple[LabelSelector, ...], BeforeValidator(listed)] = ()
    driver: Process = Process()  # of a submitted run
    micro_batch: IntOrAuto = None

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise PydanticCustomError("spec", "is neither a fraction of one device nor a whole number")
        return gpus


class PublishedValue(Section):
    """A value from the literature for one cell of the table."""

    value: float
    std: Deviation | None = None
    metric: Metric = "fid"
    samples: PositiveInt = 50_000  # generated images behind it; other numbers are not compared with it
    reference: str | None = None  # data set that it was measured against, where that must be ours too
    source: str
