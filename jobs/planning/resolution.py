"""From the settings of one cell to its configurations: names become digests, `auto` becomes a value.

Knows one cell at a time; what all cells together must satisfy is checked in `jobs/planning/sweep.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from jobs.inputs.masks import mask_text, read_mask
from jobs.inputs.modelfiles import UnresolvedError
from jobs.models import catalog
from jobs.models.resolve import Resolved, resolve_extractor, resolve_images, resolve_model, resolve_reference
from jobs.problems import Location, as_written, describe
from jobs.specs.cells import Cell
from jobs.specs.checks import Finding, check
from jobs.specs.configuration import Configuration, Extractor, Model, SourceImages, idle_keys
from jobs.specs.samplers import DDLS, Sampler
from jobs.specs.sections import DataSet, PublishedValue, Section
from jobs.specs.spec import ExtractorField, ModelField, ReferenceField, Settings
from jobs.storage.reference_index import Indexed, named_references
from jobs.store import open_store

AUTO_SHARD = 256  # images that a shard of size auto holds at least where groups are smaller

S = TypeVar("S", bound=Section)
T = TypeVar("T")

#: Keys whose values are names, looked up even where another key is wrong: all errors at once.
NAMING: dict[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(ModelField),
    "extractor": TypeAdapter(ExtractorField),
    "reference": TypeAdapter(ReferenceField),
}

#: Where the time grid of each family ends unless `eps` says otherwise (Song et al. 2020, appendix C).
DEFAULT_EPS = {"ve": 1e-5, "vp": 1e-3, "subvp": 1e-3}


@dataclass
class Resolver:
    """Resolves cell after cell, looking up every name and hashing every file once."""

    sweep: str  # name of the sweep
    folder: Path  # relative paths start here
    store: str  # its references can be named
    files: dict[str, Path] = field(default_factory=dict)  # sha256 -> weights that were met
    missing: dict[str, None] = field(default_factory=dict)  # what is not here, in the order it was met
    _known: dict[tuple[str, str], Any] = field(default_factory=dict)

    def settle(
        self, cell: Cell, published: tuple[PublishedValue, ...]
    ) -> tuple[list[Configuration], list[Finding]]:
        """Return the configurations of a cell, one a replicate, or all that is wrong with it."""
        written = cell.layers.settings
        findings: list[Finding] = []
        try:
            settings = Settings.model_validate(written)
            names = {key: getattr(settings, key) for key in NAMING}
        except ValidationError as error:
            settings = None
            findings += describe(error, Settings, written)
            names = _names_in(written, {str(location[0]) for location, _ in findings})
        models = self._look_up((names["model"],), ("model",), resolve_model, findings)
        model = models[0] if models else None
        extractors = self._look_up(names["extractor"], ("extractor",), resolve_extractor, findings)
        references = self._look_up(names["reference"], ("reference",), self._reference, findings)
        images = None
        if settings is not None:
            findings += check(settings, model, extractors)
            findings += self._of_no_use(settings, references, extractors)
            if model is not None:
                images = self._source_images(settings.sampler, model, findings)
        if settings is None or model is None or findings:
            return [], [(as_written(location, written), message) for location, message in findings]
        return _configurations(
            self.sweep, cell, settings, model, extractors, references, images, published
        ), []

    def _source_images(self, sampler: Sampler, model: Model, findings: list[Finding]) -> SourceImages | None:
        """The images that a sampler needs beside its model; what is wrong with them goes into `findings`."""
        key: Location = ("sampler", "images")
        section = getattr(sampler, "images", None)
        if isinstance(sampler, DDLS) and sampler.calibration is not None:
            key, section = ("sampler", "calibration", "images"), sampler.calibration.images
        if section is None:
            return None
        found = self._look_up((section,), key, resolve_images, findings)
        if not found:
            return None
        data, mask = found[0], None
        assert data.dataset is not None  # it is what was looked up
        if model.shape is not None and data.shape not in (None, model.shape):
            message = f"{section.name} holds images of {data.shape}, {model.name} makes {model.shape}"
            findings.append((key, message))
        elif (known := getattr(sampler, "known", None)) is not None and model.shape is not None:
            try:
                mask = mask_text(read_mask(known, model.shape, self.folder))
            except UnresolvedError as error:
                findings.append((("sampler", "known"), str(error)))
        return SourceImages(dataset=data.dataset, content=data.content, mask=mask)

    def _reference(self, section: DataSet, folder: Path) -> Resolved[DataSet]:
        shipped = section.path is not None or section.name in catalog.DATA_SETS
        return resolve_reference(section, folder, () if shipped else self._named)

    @cached_property
    def _named(self) -> dict[str, Indexed]:
        """References that the store has by name."""
        return named_references(open_store(self.store))

    def _of_no_use(
        self, settings: Settings, references: Sequence[DataSet], extractors: Sequence[Extractor]
    ) -> list[Finding]:
        """Imported references that an extractor or a metric cannot use."""
        found: list[Finding] = []
        for number, data_set in enumerate(references):
            if data_set.path is not None or data_set.name in catalog.DATA_SETS:
                continue
            record = self._named[data_set.name]
            for extractor in extractors:
                problem = record.obstacle(extractor, settings.metrics)
                if problem:
                    found.append((("reference", number), f"{data_set.name} {problem}"))
        return found

    def _look_up(
        self,
        sections: Sequence[S | None],
        key: Location,
        how: Callable[[S, Path], Resolved[T]],
        findings: list[Finding],
    ) -> list[T]:
        """Resolve sections of one kind; what leads nowhere goes into `findings`."""
        found = []
        for number, section in enumerate(sections):
            if section is None:
                continue
            known = (how.__name__, section.model_dump_json())
            if known not in self._known:
                try:
                    self._known[known] = how(section, self.folder)
                except UnresolvedError as error:
                    self._known[known] = error
            result = self._known[known]
            if isinstance(result, UnresolvedError):
                index = (number,) if key in (("extractor",), ("reference",)) else ()
                findings.append(((*key, *index, *result.key), str(result)))
            else:
                found.append(result.thing)
                self.files.update(result.files)
                self.missing.update(dict.fromkeys(result.missing))
        return found


def _names_in(written: Mapping[str, Any], broken: set[str]) -> dict[str, Any]:
    """What the keys that name things hold, where they at least are in order."""
    names: dict[str, Any] = {"model": None, "extractor": (), "reference": ()}
    for key, adapter in NAMING.items():
        if key in written and key not in broken:
            names[key] = adapter.validate_python(written[key])
    return names


def _configurations(
    sweep: str,
    cell: Cell,
    settings: Settings,
    model: Model,
    extractors: Sequence[Extractor],
    references: Sequence[DataSet],
    images: SourceImages | None,
    published: tuple[PublishedValue, ...],
) -> list[Configuration]:
    group = settings.group_size
    first = Configuration(
        sweep=sweep,
        row=cell.row,
        column=cell.column,
        model=model,
        sampler=_settled(settings.sampler, model),
        seed=settings.seed,
        replicate=0,
        group_size=group,
        stages=tuple(sorted({*settings.stages, getattr(settings.sampler, "steps", 0)})),
        precision=settings.precision,
        quantisation=settings.quantisation,
        samples=settings.samples,
        shard_size=settings.shard_size or group * -(-AUTO_SHARD // group),
        extractors=tuple(extractors),
        references=tuple(references),
        metrics=settings.metrics,
        standard_error=settings.standard_error,
        snapshot_every=settings.snapshot_every,
        priority=settings.priority,
        resources=settings.resources,
        published=published,
        images=images,
        classes=None if model.classes is None else settings.classes or tuple(range(model.classes)),
    )
    return [first.model_copy(update={"replicate": number}) for number in range(settings.replicates)]


def _settled(sampler: Sampler, model: Model) -> Sampler:
    """The section with its last time filled in, and defaults for the keys that cannot matter."""
    fields = type(sampler).model_fields
    changes = {key: fields[key].default for key in idle_keys(sampler, model)}
    if getattr(sampler, "eps", 0) is None and model.sde is not None:
        changes["eps"] = DEFAULT_EPS[model.sde]
    return sampler.model_copy(update=changes)
