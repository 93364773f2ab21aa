"""Names of scores, verdicts and averages: what may be claimed, and what not."""

import numpy as np
import pytest
import scored

from jobs.scores.metrics import Fid, StageScores
from jobs.scores.results import (
    Evaluations,
    ExecutionShare,
    ReferenceRecord,
    Result,
    Statistics,
    package_versions,
    score_label,
)
from jobs.scores.summary import gather_cell
from jobs.specs.configuration import Model
from jobs.specs.sections import PublishedValue
from jobs.storage.commit import Execution

INCEPTION = {
    "network": "inception",
    "weights": "e" * 64,
    "layer": "pool",
    "dimension": 2048,
    "resize": "tf1-bilinear",
    "normalisation": "tf",
}


def result(value=3.61, error=0.05, extractor=INCEPTION, samples=50_000, **changes) -> Result:
    item = scored.configuration("row", "column", samples=samples, **changes)
    execution = Execution(
        device="cpu", torch="2.13", threads=1, micro_batch=None, precision="float32", sampler_version="1"
    )
    fid = Fid(
        value=value,
        mean_term=value / 2,
        trace_term=value / 2,
        standard_error=error,
        standard_error_method="infinitesimal jackknife",
        bias_generated=0.5,
        bias_reference=0.5,
    )
    return Result(
        configuration=item,
        fingerprint=item.fingerprint,
        samples=samples,
        extractor=extractor,
        reference=ReferenceRecord(name="cifar10-train", content="d" * 64, count=50_000, features="0" * 64),
        statistics=Statistics(trace_method="test"),
        stages=(StageScores(step=100, features="0" * 64, fid=fid),),
        images="1" * 64,
        evaluations=Evaluations(planned=200, made=200),
        executions=(ExecutionShare(execution=execution, samples=samples),),
        extraction=(),
        versions=package_versions(),
    )


def published(value, std=0.02, **changes):
    return (PublishedValue(value=value, std=std, source="a paper", **changes),)


def verdict(**arguments):
    cell = gather_cell([result(**arguments)], expected=1)
    return cell.summaries[0].comparisons[0].verdict


def test_plain_fid_is_the_inception_pool_with_tensorflows_resize_alone():
    assert score_label("FID", INCEPTION) == "FID"
    assert score_label("FID", {**INCEPTION, "resize": "half-pixel"}) == "FID[inception half-pixel]"
    assert score_label("KID", {**INCEPTION, "layer": "pool768"}) == "KID[inception pool768]"
    assert score_label("FID", {**INCEPTION, "network": "digits-cnn"}) == "FID[digits-cnn]"


def test_agreement_within_two_standard_deviations_of_both():
    assert verdict(published=published(3.60)).judgement == "agrees"
    assert verdict(published=published(3.50)).judgement == "differs"
    assert verdict(published=published(3.50, std=0.10)).judgement == "agrees"
    assert "+0.11" in verdict(published=published(3.50)).reason


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            {"extractor": {**INCEPTION, "network": "digits-cnn"}},
            "extractor differs: FID[digits-cnn] here, FID",
        ),
        ({"samples": 1024}, "N differs: 1,024 here, 50,000 published"),
        ({"published": published(3.6, reference="cifar10-test")}, "reference differs: cifar10-train here"),
        (
            {"model": Model(name="x", family="score", shape=(3, 32, 32), note="stands in for another")},
            "model: stands in for another",
        ),
    ],
)
def test_what_measures_another_thing_is_not_compared(arguments, why):
    found = verdict(**{"published": published(3.6), **arguments})
    assert found.judgement == "not comparable"
    assert why in found.reason


def test_replicates_give_mean_and_standard_deviation_never_the_minimum():
    values = [3.4, 3.6, 4.1]
    cell = gather_cell([result(value=value, replicate=k) for k, value in enumerate(values)], expected=5)
    final = cell.summaries[0].final
    assert final.mean == pytest.approx(np.mean(values))
    assert final.std == pytest.approx(np.std(values, ddof=1))
    assert final.values == tuple(values)
    assert cell.expected == 5


def test_spread_of_replicates_takes_the_place_of_the_standard_error_in_the_verdict():
    spread = [
        result(value=value, replicate=k, published=published(3.2)) for k, value in enumerate([3.3, 3.9])
    ]
    assert gather_cell(spread, 2).summaries[0].comparisons[0].verdict.judgement == "agrees"
    assert verdict(published=published(3.2)).judgement == "differs"


def test_results_of_different_cells_are_not_averaged():
    other = result().model_copy(update={"configuration": scored.configuration("row", "another")})
    with pytest.raises(ValueError, match="one cell"):
        gather_cell([result(), other], expected=2)


def test_a_result_comes_back_from_json_unchanged():
    first = result()
    assert Result.model_validate_json(first.model_dump_json()) == first
    with pytest.raises(ValueError, match="version"):
        Result.model_validate_json(first.model_dump_json().replace('"version":1', '"version":2', 1))
