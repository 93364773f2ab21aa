"""The report: the same numbers in every form, honest labels, and a page that needs nothing but itself."""

import base64
import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scored
from PIL import Image

from jobs.inputs.datasets import read_digits
from jobs.paths import SweepPaths
from jobs.report import render_table, write_report
from jobs.report.nearest import NearestImages
from jobs.report.table import published_text, tables_of
from jobs.scores.fidline import with_error
from jobs.scores.gather import reduce_sweep
from jobs.specs.sections import PublishedValue
from jobs.work.reduce import IncompleteError, reduce_configuration


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sweep with a grid of replicates, a curve, controls and an unfinished cell, reduced."""
    store = scored.local_store(tmp_path_factory.mktemp("report"))
    sweep = scored.demonstration(store)
    for item in sweep.configurations:
        if item.column == "DDLS 0":
            with pytest.raises(IncompleteError):
                reduce_configuration(store, sweep.name, item)
        else:
            reduce_configuration(store, sweep.name, item)
    return store


@pytest.fixture(scope="module")
def results(store):
    return reduce_sweep(store, scored.SWEEP)


@pytest.fixture(scope="module")
def page(store) -> str:
    name = write_report(store, scored.SWEEP)
    assert name == SweepPaths(scored.SWEEP).report("index.html")
    return store.get(name).decode()


def test_tables_fall_into_panels_that_share_columns(results):
    (table,) = tables_of(results)
    assert table.title == "FID[digits-cnn] against digits-train (1,248 images)"
    assert [panel.rows for panel in table.panels] == [
        ("VE, reverse diffusion", "VP, reverse diffusion"),
        ("GAN",),
        ("controls",),
    ]
    assert [panel.columns for panel in table.panels] == [
        ("P100", "C100", "PC100"),
        ("DDLS 0", "DDLS 100"),
        ("held-out images", "noise"),
    ]
    assert table.panels[1].entries["GAN", "DDLS 0"].value == "50% sampled"


def test_csv_holds_the_full_numbers_of_every_stage(results):
    rows = list(csv.DictReader(io.StringIO(render_table(results, "csv"))))
    curve = [row for row in rows if row["column"] == "DDLS 100"]
    assert [row["step"] for row in curve] == ["0", "10", "25", "50", "100"]
    (cell,) = [cell for cell in results.cells if cell.column == "DDLS 100"]
    assert float(curve[-1]["mean"]) == cell.results[0].final.fid.value
    (missing,) = [row for row in rows if row["column"] == "DDLS 0"]
    assert missing["mean"] == ""
    assert "128 of 256 samples" in missing["reason"]


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_every_form_says_what_was_measured_and_what_not(results, form):
    text = render_table(results, form)
    flat = re.sub(r"\s+", " ", text)
    assert "FID[digits-cnn] against digits-train" in flat
    assert not re.search(r"\bFID (?!published)[\d(=]", flat)  # never a plain FID
    for entry in tables_of(results)[0].entries:
        value = entry.value.split(" ")[0]
        assert value.replace("%", r"\%") in text if form == "latex" else value in text
    assert "N = 256" in flat
    assert "Not comparable: extractor differs" in flat
    assert "standard deviation over 2 replicates" in flat


def test_latex_escapes_and_balances(results):
    text = render_table(results, "latex")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"50\% sampled" in text
    assert not re.search(r"(?<!\\)[%&_#](?![^\n]*\\\\)(?= )", text.split(r"\midrule")[0])


def test_unknown_form_is_refused(results):
    with pytest.raises(ValueError, match="known are terminal, markdown, csv, latex"):
        render_table(results, "docx")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("link", "script", "iframe"):
            self.sources.append(tag)
        if tag == "img":
            self.sources.append(found["src"])
        if tag == "a":
            self.anchors.append(found["href"])
        if "id" in found:
            self.ids.append(found["id"])


def test_the_page_needs_nothing_but_itself(page):
    parser = _Links()
    parser.feed(page)
    assert parser.sources
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert {anchor.removeprefix("#") for anchor in parser.anchors if anchor} <= set(parser.ids)
    assert not re.search(r"url\((?!#)", page)
    assert "<svg" in page


def test_the_page_shows_provenance_and_what_is_missing(page, results):
    for cell in results.cells:
        for result in cell.results:
            assert result.fingerprint in page
            assert repr(result.final.fid.value) in page
    assert "incomplete" in page
    assert "128 of 256 samples are there" in page
    assert scored.extractor().weights in page
    assert "sdesweep run" in page


def test_names_from_a_spec_cannot_inject_markup(tmp_path):
    store = scored.local_store(tmp_path)
    item = scored.configuration("<script>alert(1)</script>", "a & b", samples=128)
    scored.prepare(store, scored.sweep_of([item], description="<b>bold</b>"))
    scored.fill(store, item)
    reduce_configuration(store, scored.SWEEP, item)
    page = store.get(write_report(store, scored.SWEEP)).decode()
    assert "<script>" not in page
    assert "<b>bold" not in page
    assert "a &amp; b" in page


def test_the_nearest_images_of_the_reference_are_shown_where_memorisation_was_asked_for(tmp_path, page):
    store = scored.local_store(tmp_path)
    item = scored.configuration("pc", "ve", samples=128, metrics=("fid", "memorisation"))
    scored.prepare(store, scored.sweep_of([item]))
    scored.commit_shard(store, item, range(128), noise=0.0)
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    grid = NearestImages(store, scored.SWEEP).grid(result)
    assert grid.count == 10 * 7
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(grid.data.partition(",")[2]))))
    drawn, nearest = pixels[:8, :8, 0].astype(int), pixels[9:17, :8, 0].astype(int)
    train = read_digits("train").images[:, 0].astype(int)
    distances = np.square(train - drawn).sum(axis=(1, 2))
    assert np.square(nearest - drawn).sum() == distances.min()
    shown = store.get(write_report(store, scored.SWEEP)).decode()
    assert "Nearest images of the reference" in shown
    assert "exact copies" in shown
    assert "Nearest images of the reference" not in page


def test_damaged_images_cost_their_pictures_and_not_the_page(tmp_path):
    store = scored.local_store(tmp_path)
    item = scored.configuration("pc", "ve", samples=128)
    scored.prepare(store, scored.sweep_of([item]))
    scored.commit_shard(store, item, range(128))
    (result,) = reduce_configuration(store, scored.SWEEP, item)
    (file,) = store.root.glob(f"*/{item.fingerprint}/images/*/*.parquet")
    file.write_bytes(bytes(file.stat().st_size))
    shown = store.get(write_report(store, scored.SWEEP)).decode()
    assert f"{result.final.fid.value!r}" in shown
    assert "No pictures of pc, ve" in shown
    assert "sdesweep verify" in shown


def test_a_sweep_without_scores_still_has_a_page(tmp_path):
    store = scored.local_store(tmp_path)
    scored.prepare(store, scored.sweep_of([scored.configuration("row", "column")]))
    page = store.get(write_report(store, scored.SWEEP)).decode()
    assert "no scores yet" in page
    assert "0% sampled" in page


def test_numbers_are_given_to_the_digits_that_their_error_allows():
    assert with_error(3.6183, 0.0271) == "3.618 ± 0.027"
    assert with_error(327.4, 11.2) == "327 ± 11"
    assert with_error(12345.6, 230.0) == "12,346 ± 230"
    assert with_error(0.5, 0.0) == "0.5"
    assert published_text(PublishedValue(value=3.6, std=0.02, source="s")) == "3.60 ± 0.02"
    assert published_text(PublishedValue(value=31.76, source="s")) == "31.76"
