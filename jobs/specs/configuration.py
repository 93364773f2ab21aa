"""`Configuration`: one replicate of one cell of the table, with everything resolved.

It crosses processes and machines as `spec.json`, from which alone a worker can do the work.
Its fingerprint names the output directory. It must not know how specs are written, nor open files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs import fingerprint as hashing
from jobs.paths import extractor_key
from jobs.specs.samplers import DDLS, EDM, ODE, DPMSolver, PredictorCorrectorSteps, Sampler
from jobs.specs.sections import (
    Count,
    DataSet,
    Digest,
    ErrorMethod,
    Metric,
    Positive,
    PositiveInt,
    Precision,
    PublishedValue,
    Quantisation,
    Resources,
    Section,
)

FEW_STEPS = 10  # a multistep DPM-Solver ends with lower orders below
SOURCES = ("images", "known")  # keys of samplers that `SourceImages` stands for
#: Raised when the meaning of a canonical form changes: old results then keep their directories.
CANONICAL_VERSION = 1


class Source(Section):
    """Where the weights of a model come from, as its file says."""

    layout: str  # of the files they were read from
    weights: Literal["ema", "raw"]
    step: int | None  # of the optimiser
    sha256: dict[str, Digest]  # role -> of the file

    def __str__(self) -> str:
        kind = "exponential moving averages" if self.weights == "ema" else "raw weights"
        step = "" if self.step is None else f" at step {self.step:,}"
        digests = ", ".join(f"{digest[:12]}..." for digest in self.sha256.values())
        return f"{kind}{step} of a {self.layout}, sha256 {digests}"


class Model(Section):
    """What is sampled from: weights by their sha256, or a data set for the control of real images."""

    name: str  # as the spec calls it; no part of the identity
    family: Literal["score", "latent", "decoder", "dataset"]
    shape: tuple[int, int, int] | None  # (channels, height, width) of its images
    weights: dict[str, Digest | None] = Field(default={})  # role -> sha256; None: the file is not here yet
    network: str | None = None  # reader of weight files that are not the project's own safetensors
    dataset: DataSet | None = None
    content: Digest | None = None  # content hash of the data set
    images: int | None = None  # how many it holds
    sde: Literal["ve", "vp", "subvp"] | None = None
    beta_min: float | None = None  # of VP and sub-VP
    beta_max: float | None = None
    sigmas: tuple[float, float] | None = None  # smallest and largest noise scale of VE
    continuous: bool | None = None  # trained on continuous time
    scales: int | None = None  # noise scales it was trained on
    fractional_labels: bool = True  # it can be told noise between them
    classes: int | None = None  # of a class-conditional model
    loss: str | None = None  # that a GAN's discriminator was trained with
    source: Source | None = None  # of its weights, where its file says it
    plugins: tuple[str, ...] = ()  # its networks that other packages register, by name
    note: str = ""  # said beside the table, e.g. that it stands in for another model

    @property
    def identity(self) -> dict[str, object]:
        """What decides the pixels: digests, and the reader where a file does not say itself what it holds."""
        if self.family == "dataset":
            return {"dataset": self.content}
        if self.network is None and set(self.weights) == {"model"}:
            return {"sha256": self.weights["model"]}
        return {"network": self.network, "weights": dict(self.weights)}

    @property
    def missing(self) -> bool:
        """True when a digest is not known because the file is not here: it can be planned, not run."""
        if self.family == "dataset":
            return self.content is None
        return None in self.weights.values()


class SourceImages(Section):
    """Images that a sampler needs beside its model: to complete them, or to calibrate a discriminator."""

    dataset: DataSet
    content: Digest | None  # None: not here yet
    mask: str | None = None  # of what is known of them, see jobs/inputs/masks.py

    @property
    def identity(self) -> dict[str, object]:
        """What decides the pixels."""
        return {"content": self.content, **({} if self.mask is None else {"mask": self.mask})}


class Extractor(Section):
    """A feature network and the sha256 of its weights."""

    name: str
    weights: Digest | None  # None: not here yet
    dimension: int
    logits: int = 0  # width of its class logits; 0: none

    @property
    def key(self) -> str:
        """Folder of its features."""
        return extractor_key(self.name, self.weights or "")

    @property
    def missing(self) -> bool:
        return self.weights is None


class Configuration(Section):
    """One replicate of one cell. See docs/spec.md for the meaning, type and default of every key."""

    sweep: str
    row: str
    column: str
    model: Model
    sampler: Sampler
    seed: int
    replicate: Count
    group_size: PositiveInt
    stages: tuple[Count, ...]  # steps whose images are kept, ascending; the last step is always among them
    precision: Precision
    float32_below: Annotated[float, Field(ge=0)] = 0.0  # noise level down to which bfloat16 is used
    quantisation: Quantisation

    samples: PositiveInt
    shard_size: PositiveInt
    extractors: tuple[Extractor, ...]
    references: tuple[DataSet, ...]
    metrics: tuple[Metric, ...]
    standard_error: ErrorMethod = "jackknife"
    snapshot_every: Positive | None  # seconds; None: as jobs/compute/sampling.py has it
    priority: int
    resources: Resources
    published: tuple[PublishedValue, ...]
    images: SourceImages | None = None  # for samplers that need some
    classes: tuple[Count, ...] | None = None  # of a conditional model, those that samples take in turn

    @property
    def name(self) -> str:
        """Row, column and replicate for people; not unique beyond its sweep and no part of the identity."""
        return f"{self.row} / {self.column}" + (f" #{self.replicate}" if self.replicate else "")

    @property
    def arithmetic(self) -> str:
        """The precision of the network in words: where it changes, at which noise level."""
        if not self.float32_below:
            return self.precision
        return f"{self.precision}, float32 below noise level {self.float32_below!r}"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of its scores must know by its settings alone, a sentence each."""
        found = []
        sampler = self.sampler
        together = int(getattr(sampler, "interpolate", None) or getattr(sampler, "kept", None) or 1)
        if together > 1:
            found.append(
                f"images come in runs of {together} that depend on each other (one path or Markov chain): "
                "standard errors, which take them for independent, are too small"
            )
        uncalibrated = isinstance(sampler, DDLS) and sampler.steps and sampler.calibration is None
        if uncalibrated and self.model.loss not in (None, "logistic"):
            found.append(
                f"the discriminator of {self.model.name} was trained with the {self.model.loss} loss, so its "
                "output is no logit, and the chains do not lead to the data: set sampler.calibration"
            )
        return tuple(found)

    def canonical(self) -> dict[str, object]:
        """Return everything that the user decides and that changes a pixel, and nothing else."""
        content: dict[str, object] = {
            "version": CANONICAL_VERSION,
            "model": self.model.identity,
            "sampler": canonical_sampler(self.sampler, self.model),
            "seed": self.seed,
            "replicate": self.replicate,
            "group_size": self.group_size,
            "stages": list(self.stages),
            "precision": self.arithmetic,
            "quantisation": self.quantisation,
        }
        if self.images is not None:
            content["images"] = self.images.identity
        if self.classes is not None:
            content["classes"] = list(self.classes)
        return content

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON; provisional while `model.missing` or precision is auto."""
        return hashing.fingerprint(self.canonical())

    def differences(self, other: Configuration) -> list[str]:
        """Names of the fields in which another differs, but for its place in the table."""
        own = [key for key in type(self).model_fields if key not in ("row", "column", "published")]
        return [key for key in own if getattr(self, key) != getattr(other, key)]

    def to_json(self) -> str:
        """The text of `spec.json`."""
        return self.model_dump_json(indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Configuration:
        """Read `to_json` back. Raises pydantic.ValidationError (a ValueError) when it is something else."""
        return Configuration.model_validate_json(text)


def canonical_sampler(sampler: Sampler, model: Model) -> dict[str, object]:
    """Return the section with its defaults, without the keys that cannot matter in it and names of images."""
    content = sampler.model_dump(mode="json", exclude={*idle_keys(sampler, model), *SOURCES})
    if isinstance(sampler, DDLS) and sampler.calibration is not None:
        content["calibration"] = {"samples": sampler.calibration.samples}
    return content


def idle_keys(sampler: Sampler, model: Model) -> list[str]:
    """Return the keys of a section that cannot matter beside its other keys and with this model."""
    keys = []
    if isinstance(sampler, PredictorCorrectorSteps):
        if sampler.corrector == "none":
            keys += ["corrector_steps", "snr"]
        if sampler.corrector != "langevin":
            keys.append("corrector_norm")
        if model.continuous or model.scales == sampler.steps:
            keys.append("labels")
    if isinstance(sampler, ODE):
        if sampler.method != "dormand_prince":
            keys += ["rtol", "atol", "error_norm"]
        keys += [
            key
            for key, none in (("temperature", 1.0), ("interpolate", None))
            if getattr(sampler, key) == none
        ]
    if isinstance(sampler, EDM) and sampler.s_churn == 0:
        keys += ["s_tmin", "s_tmax", "s_noise"]
    if isinstance(sampler, DPMSolver):
        if sampler.method != "adaptive":
            keys += ["rtol", "atol"]
        if sampler.method != "multistep" or sampler.steps >= FEW_STEPS or sampler.order == 1:
            keys.append("lower_order_final")
        if sampler.order == 1:
            keys.append("solver_type")
    if isinstance(sampler, DDLS):
        keys.append("burn_in")  # it follows from the others
        if sampler.calibration is None:
            keys.append("calibration")
        if sampler.kept == 1:
            keys.append("thin")
    return keys
