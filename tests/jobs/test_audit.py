"""Audits of what a store and image files hold: from committed shards to findings."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scored import PC, SWEEP, commit_shard, configuration, extractor, prepare, sweep_of

from fid.audit import Evidence, audit
from fid.extractors import load_extractor
from fid.moments import Moments
from jobs.inputs.datasets import DatasetError, read_digits
from jobs.inputs.encodings import encodings_of
from jobs.inspection.audit import audited_configuration, audited_sets, expecting
from jobs.inspection.sides import SideReader, stored_reference, stored_samples
from jobs.models.resolve import resolve_extractor
from jobs.references.imagesets import identify
from jobs.specs.sections import DataSet, PublishedValue
from jobs.specs.spec import ExtractorSection
from jobs.storage.images import encode_png
from jobs.store_local import LocalStore
from jobs.work.reduce import reduce_configuration

REFERENCE = DataSet(name="digits-train")


def quiet(what, total):
    return contextlib.nullcontext(lambda more: None)


def reader_of(store):
    found = resolve_extractor(ExtractorSection(name="digits-cnn"), Path())
    (path,) = found.files.values()
    return SideReader(store, found, load_extractor("digits-cnn", path), quiet)


def audited(store, sweep, item):
    return audited_configuration(reader_of(store), sweep, item, REFERENCE)


def test_noise_left_in_committed_images_is_found_in_them(tmp_path):
    store, item = LocalStore(tmp_path), configuration("pc", "ve", samples=512)
    sweep = sweep_of([item])
    prepare(store, sweep)
    for first in range(0, 512, 128):
        commit_shard(store, item, range(first, first + 128), noise=0.1)
    reduce_configuration(store, SWEEP, item)
    evidence = audited(store, sweep, item)
    assert evidence.reported == pytest.approx(evidence.frechet.distance, rel=1e-6)
    assert [made.match for made in evidence.provenances.values()] == ["as stored", "as stored"]
    report = audit(evidence)
    assert "H7" in [finding.test for finding in report.found]


def test_a_missing_shard_and_a_damaged_one_are_named(tmp_path):
    store, item = LocalStore(tmp_path), configuration("pc", "ve", samples=512)
    sweep = sweep_of([item])
    prepare(store, sweep)
    for first in (0, 128, 384):
        commit_shard(store, item, range(first, first + 128))
    found = audit(audited(store, sweep, item)).found[0]
    assert found.test == "H10"
    assert "128 samples are missing, [256, 384) first" in found.reason
    file = next(tmp_path.rglob(f"{item.fingerprint}/images/*/000000000128-*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert "256 samples are missing, [128, 384) first" in audit(audited(store, sweep, item)).found[0].reason


def test_published_values_become_the_expectation(tmp_path):
    def published(value):
        return (PublishedValue(value=value, std=0.1, source="a table", samples=50_000),)

    store = LocalStore(tmp_path)
    mine = configuration("pc", "ve", published=published(3.2))
    other = configuration("c", "ve", published=published(20.4), seed=1)
    sweep = sweep_of([mine, other])
    prepare(store, sweep)
    commit_shard(store, mine, range(256))
    expectation = audited(store, sweep, mine).expectation
    assert (expectation.value, expectation.samples) == (3.2, 50_000)
    assert expectation.cells == {"c / ve": (20.4, 0.1)}
    assert expectation.settings == {"denoise": True}


def test_a_sampler_without_its_last_denoising_differs_from_the_published_protocol(tmp_path):
    store = LocalStore(tmp_path)
    value = (PublishedValue(value=3.2, source="a table"),)
    item = configuration("pc", "ve", sampler=PC.model_copy(update={"denoise": False}), published=value)
    sweep = sweep_of([item])
    prepare(store, sweep)
    commit_shard(store, item, range(256))
    findings = {finding.test: finding for finding in audit(audited(store, sweep, item)).found}
    assert "denoise is False, not True" in findings["H7"].reason


def test_images_that_cannot_be_used_are_left_out_only_when_that_is_asked_for(tmp_path):
    folder = written(tmp_path / "some", read_digits("heldout").images[:100], "png")
    (folder / "broken.png").write_bytes(b"no picture")
    store = LocalStore(tmp_path / "store")
    reader = reader_of(store)
    with pytest.raises(DatasetError, match=r"broken\.png: not a readable image"):
        reader.open(identify(store, str(folder)))
    found = replace(reader, skip_unreadable=True).open(identify(store, str(folder)))
    assert found.name.endswith("some less 1 that cannot be used")
    assert found.encodings == {"PNG L": 100, "unreadable": 1}


def test_tiny_images_in_jpeg_files_on_both_sides_are_told_too(tmp_path):
    images = read_digits(None).images
    store = LocalStore(tmp_path / "store")
    sides = [
        identify(store, str(written(tmp_path / name, part, "jpg", quality=75)))
        for name, part in (("ours", images[:330]), ("theirs", images[400:800]))
    ]
    report = audit(audited_sets(reader_of(store), *sides))
    assert [finding.test for finding in report.found] == ["H9"]
    assert "both sides alike" in report.found[0].reason


def test_statistics_of_others_are_a_reference_too(tmp_path):
    store = LocalStore(tmp_path / "store")
    reader = reader_of(store)
    train = reader.open(identify(store, "digits-train"))
    moments = Moments.of(train.features)
    np.savez(tmp_path / "stats.npz", mu=moments.mean, sigma=moments.covariance)
    np.savez(tmp_path / "samples.npz", images=read_digits("heldout").images)
    samples, statistics = (identify(store, str(tmp_path / name)) for name in ("samples.npz", "stats.npz"))
    with pytest.raises(DatasetError, match="give --count"):
        audited_sets(reader, samples, statistics)
    evidence = audited_sets(replace(reader, count=moments.count), samples, statistics)
    report = audit(evidence)
    assert report.found == ()
    assert report.measured == pytest.approx(evidence.frechet.distance)
    assert {finding.test for finding in report.findings if finding.verdict == "excluded"} >= {
        "H2",
        "H8",
        "H10",
    }


def test_stored_images_are_read_by_another_extractor_than_the_sweep_has(tmp_path):
    store, item = LocalStore(tmp_path), configuration("pc", "ve", samples=256)
    prepare(store, sweep_of([item]))
    commit_shard(store, item, range(256))
    other = extractor().model_copy(update={"name": "digits-other", "weights": "0" * 64})
    made = stored_samples(store, SWEEP, item, other, reader_of(store).network)
    held = stored_samples(store, SWEEP, item, extractor(), reader_of(store).network)
    np.testing.assert_allclose(made.features, held.features, rtol=1e-4, atol=1e-4)


def test_nothing_in_the_store_is_an_error_that_says_so(tmp_path):
    store, item = LocalStore(tmp_path), configuration("pc", "ve")
    prepare(store, sweep_of([item]))
    with pytest.raises(DatasetError, match="no samples with images and features"):
        stored_samples(store, SWEEP, item, extractor(), reader_of(store).network)


def written(folder: Path, images: np.ndarray, suffix: str, **options: object) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{number:04d}.{suffix}", **options)
    return folder


def test_a_folder_of_jpeg_files_is_told_by_its_files(tmp_path):
    images = read_digits("heldout").images[:300]
    lossy = written(tmp_path / "jpeg", images, "jpg", quality=80)
    assert encodings_of(lossy) == {"JPEG L": 300}
    assert encodings_of(written(tmp_path / "png", images[:5], "png")) == {"PNG L": 5}
    assert encodings_of(None) == {}
    store = LocalStore(tmp_path / "store")
    sides = [identify(store, text) for text in (str(lossy), "digits-train")]
    evidence = audited_sets(reader_of(store), *sides)
    found = [finding for finding in audit(evidence).found if finding.test == "H9"]
    assert "300 of 300 files are JPEG" in found[0].reason
    assert found[0].direct


def test_another_reference_than_the_expected_one(tmp_path):
    np.savez(tmp_path / "samples.npz", images=read_digits(None).images[::2])
    store = LocalStore(tmp_path / "store")
    reader = reader_of(store)
    names = str(tmp_path / "samples.npz"), "digits-heldout", "digits-train"
    samples, heldout, train = (identify(store, text) for text in names)
    asked = expecting(audited_sets(reader, samples, heldout), 1.5, 1000, reader.open(train))
    assert (asked.expectation.value, asked.expectation.samples) == (1.5, 1000)
    report = audit(asked)
    assert "H6" in [finding.test for finding in report.found]


def test_a_reference_by_path_is_its_split_alone(tmp_path):
    """Also before its features were ever built: the other split would be another set of images."""
    for split, count in (("train", 7), ("test", 3)):
        cells = [{"bytes": encode_png(image), "path": None} for image in read_digits().images[:count]]
        pq.write_table(pa.table({"image": cells}), tmp_path / f"{split}-0.parquet")
    store = LocalStore(tmp_path / "store")
    given = DataSet(name="mine", path=str(tmp_path), split="test")
    side = stored_reference(store, given, extractor(), reader_of(store).network)
    assert len(side.images) == len(side.features) == 3
    assert side.encodings == {"PNG L": 10}


def test_of_a_large_set_the_pixels_of_a_fixed_sample_are_held_and_repeats_are_counted_in_all(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6000, 1, 8, 8)).astype(np.uint8)
    images[5990:] = images[:10]
    np.savez(tmp_path / "many.npz", images=images)
    store = LocalStore(tmp_path / "store")
    found, again = (reader_of(store).open(identify(store, str(tmp_path / "many.npz"))) for _ in range(2))
    assert found.count == len(found.features) == 6000
    assert len(found.images) == len(found.rows) == 5000
    np.testing.assert_array_equal(found.images, images[found.rows])
    np.testing.assert_array_equal(found.rows, again.rows)
    assert len(set(found.tally.digests)) == 5990
    case = Evidence(found, reader_of(store).open(identify(store, "digits-train")), reader_of(store).network)
    assert case.provenances["generated"].match == "as stored"
