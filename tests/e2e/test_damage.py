"""Damage to a finished store is met by `run` itself, which makes again what is missing, and that alone."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def finished(site, undisturbed_site):
    shutil.copytree(undisturbed_site.store.root, site.store.root)
    return site


def test_a_finished_sweep_has_nothing_to_do_and_starts_no_cluster(finished, undisturbed):
    code, output = finished.run()
    assert code == 0, output
    assert "starting Ray" not in output
    assert "FID[digits-cnn]" in output
    assert finished.content() == undisturbed


def test_truncated_file_and_deleted_markers_are_made_again(finished, undisturbed):
    images = [path for path in finished.files("images") if path.suffix == ".parquet"]
    truncated = images[0]
    truncated.write_bytes(truncated.read_bytes()[:-100])
    markers = [path for path in finished.files("images") if path.suffix == ".json"]
    deleted = markers[-1]
    deleted.unlink()
    feature_marker = next(path for path in finished.files("features") if path.suffix == ".json")
    feature_marker.unlink()
    kept = {
        path: path.stat().st_mtime_ns
        for path in images
        if path.stem[:25] not in (truncated.stem[:25], deleted.stem)
    }

    code, output = finished.run("--workers", "2", "--json")
    assert code == 0, output
    assert json.loads(output)["exit_code"] == 0
    assert finished.content() == undisturbed
    assert not truncated.exists()
    assert any(truncated.name == path.name for path in finished.files("quarantine"))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
