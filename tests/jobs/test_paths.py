"""Names: from ranges and back, in order, and never shared by two things."""

import pytest

from jobs.paths import SPAN, RangeFolder, StorePaths, SweepPaths, attempt_range, extractor_key, marker_range

FOLDER = RangeFolder("sweep/abc/images")
ATTEMPT = "0123456789abcdef" * 2


def test_names_give_back_their_ranges():
    samples = range(1024, 2048)
    assert marker_range(FOLDER.marker(samples)) == samples
    assert attempt_range(FOLDER.attempt(samples, ATTEMPT, "parquet")) == (samples, ATTEMPT)


def test_markers_and_attempts_are_told_apart():
    assert attempt_range(FOLDER.marker(range(5))) is None
    assert marker_range(FOLDER.attempt(range(5), ATTEMPT, "parquet")) is None
    assert marker_range("sweep/abc/results/digits-cnn-digits-train.json") is None


def test_names_sort_as_their_ranges():
    firsts = [0, 7, 1024, 99_999, SPAN - 1, SPAN, 10 * SPAN, 10**9]
    names = [FOLDER.marker(range(first, first + 5)) for first in firsts]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "samples", [range(0), range(0, SPAN + 1), range(0, 10, 2), range(10**12, 10**12 + 1)]
)
def test_ranges_that_cannot_be_a_shard_are_refused(samples):
    with pytest.raises(ValueError, match="shard_size"):
        FOLDER.marker(samples)


def test_neighbours_hold_every_range_that_can_overlap():
    samples = range(3 * SPAN + 5, 4 * SPAN + 5)
    for other in (range(samples.start - SPAN + 1, samples.start + 1), range(samples.stop - 1, samples.stop)):
        assert FOLDER.marker(other).rpartition("/")[0] in FOLDER.neighbours(samples)


def test_configuration_and_sweep_files_have_names_of_their_own():
    sweep = SweepPaths("demo")
    configuration = sweep.configuration("f" * 64)
    key = extractor_key("digits-cnn", "a" * 64)
    names = [
        sweep.written,
        sweep.resolved,
        sweep.lease(1),
        sweep.heartbeat(1),
        sweep.run("one"),
        sweep.results,
        sweep.report("index.html"),
        configuration.spec,
        configuration.images.marker(range(5)),
        configuration.features(key).marker(range(5)),
        configuration.snapshots.marker(range(5)),
        configuration.failed.marker(range(5)),
        configuration.result(key, "digits-train"),
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith("demo/") for name in names)


def test_versions_of_a_data_set_are_kept_apart():
    paths = StorePaths()
    assert paths.reference("digits", "a" * 64) != paths.reference("digits", "b" * 64)
