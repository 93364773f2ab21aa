"""The FID line: all that a score depends on, as named facts, as one sentence, as one table.

A module of its own because every command shows scores and all must say the same of them. It reads result
records alone, and must not compute scores nor compare them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from jobs.scores.metrics import RealControl, StageScores
from jobs.scores.results import Cell, ExecutionShare, Result, ScoreLine, SetResult, score_label
from jobs.specs.configuration import Configuration
from jobs.specs.sections import METRICS, Metric

MAX_PLACES = 6  # behind the point; smaller errors are written with an exponent
INTERVAL = 1.96  # standard errors, of a 95 % interval


def read_line(text: str | bytes) -> ScoreLine:
    """A results file of a sweep, or what `sdesweep fid` wrote. Raises pydantic.ValidationError."""
    data = json.loads(text)
    if isinstance(data, dict) and "result" in data:
        data = data["result"]
    kind = Result if isinstance(data, dict) and "configuration" in data else SetResult
    return kind.model_validate_json(json.dumps(data))


def metrics_of(scores: StageScores) -> list[Metric]:
    """The metrics that were computed."""
    return [metric for metric in METRICS if scores.value(metric) is not None]


def configuration_of(line: ScoreLine) -> Configuration | None:
    """What made the images, where a sweep did."""
    if isinstance(line, Result):
        return line.configuration
    return line.generated.configuration if isinstance(line, SetResult) else None


def facts(line: ScoreLine) -> dict[str, str]:
    """Everything that the scores of the last stage depend on, by name, in the order in which it is told."""
    found = {**scores_of(line), **_of_fid(line), **_generated(line)}
    reference, statistics = line.reference, line.statistics
    split = f", split {reference.split}" if reference.split else ""
    imported = "; published statistics, weights behind them not known" if reference.imported else ""
    found["reference"] = (
        f"{reference.count:,} images of {reference.name}{split}, content {reference.content[:12]}{imported}"
    )
    found["extractor"] = _extractor(line.extractor)
    found["statistics"] = (
        f"features {statistics.features_dtype}, moments {statistics.moments_dtype}, "
        f"covariance divided by {_divisor(statistics.ddof)}, trace term by {statistics.trace_method}"
    )
    if line.extraction:
        found["features on"] = _executions(line.extraction)
    found["versions"] = _plain(line.versions)
    if line.warnings:
        found["to know"] = "; ".join(line.warnings)
    return found


def sentence(line: ScoreLine) -> str:
    """The line in one sentence that can stand beside the score in a paper."""
    return _sentence(facts(line), ", ".join(f"{label} {value}" for label, value in scores_of(line).items()))


def sentence_of_cell(cell: Cell) -> str:
    """The same for a cell: mean and standard deviation over its replicates, never the best one."""
    first, replicates = cell.results[0], len(cell.results)
    if replicates == 1:
        return sentence(first)
    scores = []
    for summary in cell.summaries:
        values = ", ".join(f"{value:.4g}" for value in summary.final.values)
        spread = f"mean ± standard deviation of {replicates} replicates: {values}"
        scores.append(f"{summary.label} {with_error(summary.final.mean, summary.final.std)} ({spread})")
    told = facts(first)
    for alone in ("terms", "standard error", "95 % interval"):  # of one replicate
        told.pop(alone, None)
    told["seed"] = f"seed {first.configuration.seed}, replicates 0 to {replicates - 1}"
    return _sentence(told, ", ".join(scores))


def table(lines: Sequence[ScoreLine]) -> list[tuple[str, ...]]:
    """Rows of a fact's name and its value in each line; a fact that a line does not have is empty."""
    columns = [facts(line) for line in lines]
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(column.get(name, "") for column in columns)) for name in names]


def scores_of(line: ScoreLine) -> dict[str, str]:
    """Label -> value with its error and what else a number of that metric needs."""
    found = {}
    for metric in metrics_of(line.final):
        for measure, (value, error) in line.final.measures(metric).items():
            detail = _detail(line, metric)
            text = with_error(value, error)
            found[score_label(measure, line.extractor)] = f"{text} ({detail})" if detail else text
    return found


def with_error(value: float, error: float | None) -> str:
    """`3.62 ± 0.03`: two significant digits of the error, the value to the same place."""
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    if places > MAX_PLACES:
        return f"{value:.4g} ± {error:.2g}"
    return f"{value:,.{places}f} ± {error:,.{places}f}"


def control_text(control: RealControl) -> str:
    """Its value, spread and the parts of the reference that it comes from."""
    first, second = control.sizes
    value = with_error(control.value, control.spread)
    return f"{value} (over splits of the reference into {first:,} and {second:,})"


def _sentence(told: Mapping[str, str], scores: str) -> str:
    of_fid = [
        f"{name} {told[name]}"
        for name in ("terms", "95 % interval", "predicted bias", "control")
        if name in told
    ]
    if "standard error" in told:
        of_fid.insert(0, f"± is the standard error: {told['standard error']}")
    aside = f" (of the Fréchet distance: {'; '.join(of_fid)})" if of_fid else ""
    parts = [f"{scores}{aside}, of {told['generated']}, against {told['reference']}"]
    parts += [f"{name}: {told[name]}" for name in _DETAILS if name in told]
    return "; ".join(parts) + "."


_DETAILS = (
    "model",
    "sampler",
    "seed",
    "quantisation",
    "made on",
    "extractor",
    "statistics",
    "features on",
    "versions",
    "to know",
)


def _detail(line: ScoreLine, metric: Metric) -> str:
    """The settings of a metric that its number depends on."""
    scores = line.final
    if metric == "is" and (found := scores.inception_score):
        splits = min(10, line.samples)
        return f"{splits} splits, ± {found.ten_splits_std:.2g} between them; 1 split: {found.one_split:.4g}"
    if metric == "kid" and scores.kid:
        return f"{scores.kid.blocks} blocks of {scores.kid.block_size}"
    if metric == "fid_infinity" and scores.fid_infinity:
        sizes = scores.fid_infinity.sizes
        return f"slope {scores.fid_infinity.slope:.4g} in 1/N over {sizes[0]:,} to {sizes[-1]:,} images"
    if metric == "memorisation" and scores.memorisation:
        return f"level {scores.memorisation.level:g}; exact copies: {scores.memorisation.exact:.2%}"
    neighbours = {"precision_recall": scores.precision_recall, "density_coverage": scores.density_coverage}
    found_k = neighbours.get(metric)
    return f"k = {found_k.k}" if found_k else ""


def _of_fid(line: ScoreLine) -> dict[str, str]:
    fid = line.final.fid
    if fid is None:
        return {}
    found = {"terms": f"means {fid.mean_term:.4g}, covariances {fid.trace_term:.4g}"}
    if fid.standard_error is not None:
        reach = INTERVAL * fid.standard_error
        found["standard error"] = f"{fid.standard_error:.2g}, {fid.standard_error_method}"
        found["95 % interval"] = f"{fid.value - reach:.4g} to {fid.value + reach:.4g}"
    bias = f"{fid.bias_generated:.2g} from N generated, {fid.bias_reference:.2g} from N reference"
    found["predicted bias"] = f"{bias}, not subtracted"
    if line.control is not None:
        found["control"] = f"real images in these numbers {control_text(line.control)}"
    return found


def _generated(line: ScoreLine) -> dict[str, str]:
    configuration = configuration_of(line)
    if isinstance(line, SetResult):
        given = line.generated
        split = f", split {given.split}" if given.split else ""
        left_out = f", {given.left_out:,} more left out" if given.left_out else ""
        name = f"{given.name}{split}, content {given.content[:12]}{left_out}"
        found = {"generated": f"{line.samples:,} images of {name}"}
    else:
        assert isinstance(line, Result)  # there are two kinds
        place = f"{line.configuration.sweep}/{line.fingerprint[:12]}"
        found = {"generated": f"{line.samples:,} images of {place}, pixels {line.images[:12]}"}
    if configuration is not None:
        found |= _made(configuration)
    if isinstance(line, Result):
        found["sampler"] += f"; {line.evaluations.made:,.6g} evaluations an image"
        found["made on"] = _executions(line.executions)
    return found


def _made(configuration: Configuration) -> dict[str, str]:
    model = configuration.model
    weights = ", ".join(f"{role} sha256 {str(digest)[:12]}" for role, digest in model.weights.items())
    content = f"content {model.content[:12]}" if model.content else ""
    source = str(model.source) if model.source else ""
    sampler = configuration.sampler.model_dump(exclude={"kind"}, exclude_none=True)
    return {
        "model": ", ".join(part for part in (model.name, weights, source, content, model.note) if part),
        "sampler": f"{configuration.sampler.kind} {_plain(sampler)}".strip(),
        "seed": f"seed {configuration.seed}, replicate {configuration.replicate}, "
        f"groups of {configuration.group_size:,}",
        "quantisation": f"{configuration.quantisation}, sampled in {configuration.precision}",
    }


def _extractor(identity: Mapping[str, str | int]) -> str:
    weights = str(identity.get("weights", ""))[:12] or "not known"
    parts = [f"{identity['network']}, weights sha256 {weights}"]
    parts += [f"{key} {value}" for key, value in identity.items() if key not in ("network", "weights")]
    return ", ".join(parts)


def _executions(shares: Sequence[ExecutionShare]) -> str:
    found = []
    for share in shares:
        run = share.execution
        threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
        found.append(f"{run.device}, torch {run.torch}, {threads}")
    unique = list(dict.fromkeys(found))
    if len(unique) == len(shares) == 1:
        return unique[0]
    counts = [f"{share.samples:,} on {text}" for share, text in zip(shares, found, strict=True)]
    return f"{len(shares)} execution identities: {'; '.join(counts)}"


def _divisor(ddof: int) -> str:
    return f"N - {ddof}" if ddof else "N"


def _plain(mapping: Mapping[str, object]) -> str:
    """`key value, key value`."""
    return ", ".join(f"{key} {value}" for key, value in mapping.items())
