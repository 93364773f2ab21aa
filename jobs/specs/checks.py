"""Combinations that cannot work, found before anything starts.

Each check names the key to change and says what would be right. Knows settings and resolved models;
whatever a single value may be is said in `jobs/specs/samplers.py` and `jobs/specs/spec.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.paths import SPAN
from jobs.problems import Location
from jobs.specs.configuration import Extractor, Model
from jobs.specs.refusals import refusal
from jobs.specs.requirements import why_not
from jobs.specs.samplers import (
    DDLS,
    EDM,
    ODE,
    AnnealedLangevin,
    AnnealedLangevinInpainting,
    AnnealedLangevinSteps,
    Colourisation,
    DPMSolver,
    NoiseControl,
    PredictorCorrectorSteps,
    RealControl,
)
from jobs.specs.sections import DataSet
from jobs.specs.spec import Settings

Finding = tuple[Location, str]

MAX_SHARDS = 10_000_000

#: What each kind of sampler samples from; `noise` takes anything that has a shape.
FAMILIES = {
    "predictor_corrector": ("score",),
    "ode": ("score",),
    "dpm_solver": ("score",),
    "edm": ("score",),
    "annealed_langevin": ("score",),
    "inpainting": ("score",),
    "colourisation": ("score",),
    "annealed_langevin_inpainting": ("score",),
    "ddls": ("latent",),
    "prior": ("latent", "decoder"),
    "real": ("dataset",),
}


def check(settings: Settings, model: Model | None, extractors: Sequence[Extractor]) -> list[Finding]:
    """What is wrong with one cell. `model` is None where the spec's model could not be resolved."""
    found = list(_check(settings, model, extractors))
    if not found and model is not None and (refused := refusal(settings.sampler, model)):
        key = next(
            (name for name in sorted(settings.sampler.model_fields_set) if f"{name} = " in refused), ""
        )
        found.append((("sampler", key) if key else ("sampler",), f"{refused} (model {model.name})"))
    return found


def _check(settings: Settings, model: Model | None, extractors: Sequence[Extractor]) -> Iterator[Finding]:
    yield from _check_groups(settings)
    yield from _check_scores(settings, extractors)
    yield from _check_stages(settings)
    if settings.precision == "bfloat16" and model is not None and model.family != "score":
        message = f"bfloat16 is for score networks, and {model.name} is none; take float32, or auto"
        yield ("precision",), message
    sampler = settings.sampler
    if isinstance(sampler, PredictorCorrectorSteps):
        yield from _check_predictor_corrector(sampler, model)
    elif isinstance(sampler, ODE):
        yield from _check_ode(sampler, settings, model)
    elif isinstance(sampler, EDM):
        yield from _check_sigmas(sampler)
    elif isinstance(sampler, DPMSolver):
        yield from _check_dpm_solver(sampler, model)
    elif isinstance(sampler, AnnealedLangevin | AnnealedLangevinInpainting):
        yield from _check_annealed_langevin(sampler, model)
    elif isinstance(sampler, DDLS):
        yield from _check_ddls(sampler, settings)
    if model is not None:
        yield from _check_family(settings, model)
        yield from _check_classes(settings, model)


def _check_groups(settings: Settings) -> Iterator[Finding]:
    group, shard = settings.group_size, settings.shard_size
    if group > SPAN:
        yield ("group_size",), f"{group} is more than one shard may hold ({SPAN})"
    elif shard is not None and shard % group:
        below, above = shard // group * group, (shard // group + 1) * group
        near = f"{above}" if below == 0 else f"{below} or {above}"
        yield ("shard_size",), f"{shard} is no multiple of group_size {group}; for example {near}, or auto"
    elif shard is not None and shard > SPAN:
        yield ("shard_size",), f"{shard} is more than one shard may hold ({SPAN})"
    elif settings.samples > MAX_SHARDS * (shard or group):
        many = f"{settings.samples} samples in shards of {shard or group} are more than {MAX_SHARDS:,} shards"
        yield ("shard_size",), f"{many}; make them larger"


def _check_scores(settings: Settings, extractors: Sequence[Extractor]) -> Iterator[Finding]:
    if settings.metrics and not settings.extractor:
        yield ("extractor",), f"missing: {settings.metrics[0]} needs features; name one, or set metrics: []"
    if settings.metrics and not settings.reference:
        yield ("reference",), f"missing: {settings.metrics[0]} is given beside real images; name a data set"
    for key, names in (
        ("metrics", settings.metrics),
        ("extractor", tuple((each.name, each.weights) for each in settings.extractor)),
        ("reference", tuple(each.name for each in settings.reference)),
    ):
        if len(set(names)) < len(names):
            yield (key,), "names one twice"
    for extractor in extractors:
        for metric in settings.metrics:
            reason = why_not(metric, settings.samples, extractor, None, features=True, real=True)
            if reason:
                yield ("metrics",), reason


def _check_stages(settings: Settings) -> Iterator[Finding]:
    if not settings.stages:
        return
    steps = getattr(settings.sampler, "steps", None)
    if steps is None:
        yield ("stages",), f"{list(settings.stages)}: a control ({settings.sampler.kind}) has no steps"
    elif max(settings.stages) > steps:
        yield ("stages",), f"{max(settings.stages)} lies beyond the last step, {steps}"


def _check_predictor_corrector(sampler: PredictorCorrectorSteps, model: Model | None) -> Iterator[Finding]:
    if sampler.predictor == "none" and sampler.corrector == "none":
        yield ("sampler", "corrector"), "'none' with predictor 'none' samples nothing; set one of them"
    if model is None:
        return
    if isinstance(sampler, Colourisation) and model.shape is not None and model.shape[0] != 3:
        message = f"'colourisation' needs three channels, and images of {model.name} have {model.shape[0]}"
        yield ("sampler", "kind"), message
    if sampler.predictor == "ancestral" and model.sde == "subvp":
        message = (
            "'ancestral' is defined for VE and VP only, and this model is sub-VP; try 'reverse_diffusion'"
        )
        yield ("sampler", "predictor"), message
    steps_of_ddpm = model.sde == "vp" and sampler.predictor not in ("euler_maruyama", "none")
    needs_alphas = steps_of_ddpm or sampler.corrector != "none" or not model.continuous
    if model.beta_max is not None and needs_alphas and sampler.steps <= model.beta_max:
        message = f"{sampler.steps} is too few: VP needs more steps than beta_max = {model.beta_max:g}"
        yield ("sampler", "steps"), message


def _check_ode(sampler: ODE, settings: Settings, model: Model | None) -> Iterator[Finding]:
    if sampler.interpolate is not None:
        yield from _check_multiples(settings, "interpolate", sampler.interpolate, "the images of a path")
    if model is not None and model.sde == "ve" and model.continuous is False:
        message = (
            f"'ode' needs scores between noise scales, and {model.name} knows {model.scales} scales alone"
        )
        yield ("sampler", "kind"), f"{message}; try 'predictor_corrector' with predictor 'probability_flow'"


def _check_dpm_solver(sampler: DPMSolver, model: Model | None) -> Iterator[Finding]:
    if model is not None and model.sde in ("ve", "subvp"):
        yield ("sampler", "kind"), "'dpm_solver' is defined for VP models, and this one is not; try 'ode'"
    if sampler.method == "adaptive" and sampler.order == 1:
        yield ("sampler", "order"), "1 leaves method 'adaptive' no lower order to compare with; take 2 or 3"
    if sampler.method == "multistep" and sampler.steps < sampler.order:
        yield ("sampler", "steps"), f"{sampler.steps} is too few for multistep of order {sampler.order}"
    if sampler.method == "singlestep_fixed" and sampler.steps % sampler.order:
        message = (
            f"{sampler.steps} is no multiple of sampler.order {sampler.order}, the evaluations of a step"
        )
        yield ("sampler", "steps"), f"{message}; or take method 'singlestep', which ends with lower orders"


def _check_sigmas(sampler: AnnealedLangevinSteps | EDM) -> Iterator[Finding]:
    largest, smallest = sampler.sigma_max, sampler.sigma_min
    if largest is not None and smallest is not None and largest <= smallest:
        yield ("sampler", "sigma_max"), f"{largest:g} is not above sampler.sigma_min {smallest:g}"


def _check_annealed_langevin(
    sampler: AnnealedLangevin | AnnealedLangevinInpainting, model: Model | None
) -> Iterator[Finding]:
    yield from _check_sigmas(sampler)
    if model is None:
        return
    if model.sde in ("vp", "subvp"):
        other = "predictor_corrector" if isinstance(sampler, AnnealedLangevin) else "inpainting"
        message = f"{sampler.kind!r} is defined for VE models, and this one is not"
        yield ("sampler", "kind"), f"{message}; try {other!r}"
    if model.continuous is False:
        own = f"{model.name} knows its own {model.scales} noise levels alone; leave it out"
        for key, usual in (("schedule", "geometric"), ("sigma_max", None), ("sigma_min", None)):
            if getattr(sampler, key) != usual:
                yield ("sampler", key), own


def _check_ddls(sampler: DDLS, settings: Settings) -> Iterator[Finding]:
    if sampler.calibration is not None:
        used = sampler.calibration.images
        for reference in settings.reference:
            if _overlap(used, reference):
                message = f"{used.name} shares images with the reference {reference.name}, so scores would"
                yield (
                    ("sampler", "calibration", "images"),
                    f"{message} flatter; take images that neither training nor scoring uses",
                )
    if sampler.kept == 1:
        return
    first = sampler.steps - (sampler.kept - 1) * sampler.thin
    if first < 0:
        span = (sampler.kept - 1) * sampler.thin
        apart = f"to keep {sampler.kept} states {sampler.thin} apart"
        yield ("sampler", "steps"), f"{sampler.steps} is too few {apart}: at least {span}"
    elif sampler.burn_in is not None and sampler.burn_in != first:
        yield (
            ("sampler", "burn_in"),
            f"{sampler.burn_in} is not steps - (kept - 1) thin = {first}; leave it out",
        )
    yield from _check_multiples(settings, "kept", sampler.kept, "a chain's images")


def _overlap(one: DataSet, other: DataSet) -> bool:
    """Whether two data sets share images, as far as their names tell: `digits` holds both of its splits."""
    if one == other or (one.path is not None and one.path == other.path):
        return True
    names = {one.name, other.name}
    return one.path is None and other.path is None and "digits" in names and len(names) == 2


def _check_multiples(settings: Settings, key: str, number: int, what: str) -> Iterator[Finding]:
    """Images that belong together must share a group."""
    for name, value in (("group_size", settings.group_size), ("samples", settings.samples)):
        if value % number:
            yield (name,), f"{value} is no multiple of sampler.{key} {number}: {what} share a group"


def _check_classes(settings: Settings, model: Model) -> Iterator[Finding]:
    if model.classes is None:
        if settings.classes:
            yield (
                ("classes",),
                f"{list(settings.classes)}: {model.name} is not class-conditional; leave it out",
            )
        return
    beyond = [number for number in settings.classes if number >= model.classes]
    if beyond:
        yield ("classes",), f"{beyond[0]} is beyond the last class of {model.name}, {model.classes - 1}"
    if getattr(settings.sampler, "kept", 1) > 1 or getattr(settings.sampler, "interpolate", None):
        message = f"{model.name} is class-conditional, and images of a chain or a path share no class"
        yield ("sampler",), f"{message}; take kept 1 and no interpolate"


def _check_family(settings: Settings, model: Model) -> Iterator[Finding]:
    sampler = settings.sampler
    if isinstance(sampler, NoiseControl):
        return
    if isinstance(sampler, RealControl) and model.images is not None and settings.samples > model.images:
        yield ("samples",), f"{settings.samples} is more than {model.name} holds, {model.images} images"
    needed = FAMILIES[sampler.kind]
    if model.family in needed:
        return
    kinds = [repr(kind) for kind, families in FAMILIES.items() if model.family in families]
    names = {"score": "a score model", "latent": "a GAN", "decoder": "a decoder", "dataset": "a data set"}
    yield (
        ("sampler", "kind"),
        f"{sampler.kind!r} samples from {names[needed[0]]}, and {model.name} is {names[model.family]}: "
        f"its kind is {' or '.join(kinds)}",
    )
