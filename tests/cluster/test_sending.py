"""What a sweep reads of one machine reaches another: images by the store, plug-ins by the job."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from local_pool import LocalPool

from cluster.display import Silence
from cluster.run import run_sweep
from cluster.settling import require_code
from cluster.submission import carried, plugin_checks
from jobs.inputs.copies import open_sent, read_sent
from jobs.inputs.datasets import DatasetError, read_digits
from jobs.inputs.sources import StreamedImages
from jobs.models.plugins import EXTRACTORS, PluginError, code_of
from jobs.paths import StorePaths, SweepPaths
from jobs.planning.specfile import load_spec
from jobs.planning.sweep import Sweep, expand
from jobs.references.reference import register_reference
from jobs.references.sending import send_data
from jobs.scores.results import SweepResults
from jobs.specs.configuration import Extractor
from jobs.specs.sections import DataSet
from jobs.store_local import LocalStore

SPEC = """
name: far
samples: 8
group_size: 8
extractor: digits-cnn
reference: {name: mine, path: real.npz}
model: {dataset: {name: theirs, path: folder}}
sweep:
  axes:
    control:
      real: {sampler: {kind: real}}
      left:
        model: digits-ve
        sampler:
          {kind: inpainting, steps: 20, corrector: none, known: left, images: {name: mine, path: real.npz}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A machine with two data sets: an archive of arrays and a folder of images."""
    from PIL import Image

    folder = tmp_path / "here"
    (folder / "folder" / "one").mkdir(parents=True)
    (folder / "folder" / "two").mkdir()
    digits = read_digits("heldout")
    np.savez_compressed(folder / "real.npz", images=digits.images[:70], labels=digits.labels[:70])
    for number, image in enumerate(digits.images[70:90]):
        name = f"{'one' if number < 9 else 'two'}/{number:02d}.png"
        Image.fromarray(image[0]).save(folder / "folder" / name)
    (folder / "far.yaml").write_text(SPEC)
    return folder


def sweep_at(folder: Path) -> Sweep:
    return expand(load_spec(folder / "far.yaml"))


def scores(store: LocalStore, sweep: Sweep) -> list[object]:
    """Run it, and return what there is in its table."""
    outcome = run_sweep(store, sweep, LocalPool(store).open, Silence(), ["sdesweep", "run"])
    assert outcome.exit_code == 0
    found = SweepResults.model_validate_json(store.get(SweepPaths("far").results))
    return [
        (cell.row, result.images, result.reference.content, result.stages)
        for cell in found.cells
        for result in cell.results
    ]


def test_where_the_paths_lead_nowhere_a_sent_sweep_scores_the_same(here, tmp_path, store):
    sweep = sweep_at(here)
    expected = scores(LocalStore(tmp_path / "beside"), sweep)
    notes: list[str] = []
    sent = send_data(store, sweep, notes.append)
    assert notes == [
        "sending theirs (20 images, 0.0 MiB) to the store",
        "sending mine (70 images, 0.0 MiB) to the store",
    ]
    assert [each.fingerprint for each in sent.configurations] == [
        each.fingerprint for each in sweep.configurations
    ]
    shutil.rmtree(here)
    assert scores(store, Sweep.from_json(sent.to_json())) == expected
    assert send_data(store, sent, notes.append) == sent  # as `resume` does, from anywhere
    assert len(notes) == 2


@pytest.mark.parametrize("held", [512 * 2**20, 100], ids=["in memory", "block by block"])
def test_labels_travel_with_their_images(here, store, monkeypatch, held):
    monkeypatch.setattr("jobs.inputs.npz.HELD", held)  # bytes
    (reference,) = send_data(store, sweep_at(here), print).configurations[0].references
    data = read_sent(store, reference)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, read_digits("heldout").labels[:70])
    np.testing.assert_array_equal(data.images, read_digits("heldout").images[:70])
    with open_sent(store, reference) as found:
        assert isinstance(found, StreamedImages) == (held == 100)


def test_what_was_sent_counts_though_the_path_holds_something_else_there(here, store):
    sent = send_data(store, sweep_at(here), print)
    np.savez(here / "real.npz", images=np.zeros((9, 1, 8, 8), np.uint8))
    (reference,) = sent.configurations[0].references
    assert len(read_sent(store, reference)) == 70
    store.delete(StorePaths().images(reference.content))
    with pytest.raises(DatasetError, match=r"mine: .*real.npz has changed: its images have the content"):
        read_sent(store, reference)


def test_a_sent_copy_that_was_altered_is_refused(here, store):
    (reference,) = send_data(store, sweep_at(here), print).configurations[0].references
    store.put(StorePaths().images(reference.content), (here / "real.npz").read_bytes()[:-40])
    with pytest.raises(DatasetError, match="no readable npz"):
        read_sent(store, reference)


def test_a_reference_of_the_store_is_sent_where_features_are_to_be_made(here, store):
    (here / "far.yaml").write_text(SPEC.replace("{name: mine, path: real.npz}\nmodel", "named\nmodel"))
    digits = read_digits("train")
    np.savez(here / "train.npz", images=digits.images[:60])
    data = digits.__class__("named", digits.images[:60])
    register_reference(store, "named", data, str(here / "train.npz"), None)
    sweep = expand(load_spec(here / "far.yaml", {"store": str(store.root)}))
    (here / "train.npz").rename(here / "moved.npz")
    with pytest.raises(DatasetError, match="features of named are still to be made: submit from where"):
        send_data(store, sweep, print)
    (here / "moved.npz").rename(here / "train.npz")
    sent = send_data(store, sweep, print)
    shutil.rmtree(here)
    assert len(scores(store, sent)) == 2
    store.delete(StorePaths().images(data.content_hash))
    assert send_data(store, sent, print) == sent  # its features are there


def test_a_spec_can_say_which_images_it_means(here, store):
    content = read_sent(store, DataSet(name="mine", path=str(here / "real.npz"))).content_hash
    said = SPEC.replace(
        "{name: mine, path: real.npz}\nmodel", f"{{name: mine, path: real.npz, content: {content}}}\nmodel"
    )
    (here / "far.yaml").write_text(said)
    assert sweep_at(here).configurations[0].references[0].content == content
    (here / "far.yaml").write_text(said.replace(content, content[:60]))
    with pytest.raises(ValueError, match=r"reference\.content"):
        sweep_at(here)


# --- plug-ins -----------------------------------------------------------------------------------------------

MODULE = """
import fractions
class Load:
    identity = {"network": "odd", "layer": "x", "dimension": 2, "resize": "none", "normalisation": "none"}
    logits = 0
    def __call__(self, weights, device="cpu"): raise ValueError("no weights")
load = Load()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that registers the extractor `odd`."""
    folder = tmp_path / "site"
    information = folder / "odd_package-1.2.dist-info"
    information.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: odd-package\nVersion: 1.2\nRequires-Dist: einops>=0.7\n"
    (information / "METADATA").write_text(f"{metadata}Requires-Dist: pytest; extra == 'dev'\n")
    (information / "entry_points.txt").write_text(f"[{EXTRACTORS}]\nodd = odd_module:load\n")
    (information / "top_level.txt").write_text("odd_module\nodd_folder\n")
    (folder / "odd_module.py").write_text(MODULE)
    (folder / "odd_folder").mkdir()
    (folder / "odd_folder" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return folder


def with_odd(sweep: Sweep) -> Sweep:
    """The sweep with an extractor that no package of this project has."""
    odd = Extractor(name="odd", weights="0" * 64, dimension=2)
    configurations = [each.model_copy(update={"extractors": (odd,)}) for each in sweep.configurations]
    return sweep.model_copy(update={"configurations": tuple(configurations)})


def test_a_plug_in_of_python_is_carried_and_known_there(site, make_sweep, monkeypatch, tmp_path):
    sweep = with_odd(make_sweep())
    codes, checks = plugin_checks([sweep])
    assert [(check.verdict, check.found) for check in checks] == [
        ("warning", "odd needs einops>=0.7, and other packages are not sent")
    ]
    there = tmp_path / "there"
    with carried(codes) as folders:
        assert sorted(path.name for path in folders) == [
            "odd_folder",
            "odd_module",
            "odd_package-1.2.dist-info",
        ]
        for path in folders:
            shutil.copytree(path, there / path.name)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(site)])
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="unknown extractor"):
        require_code(sweep)
    monkeypatch.syspath_prepend(str(there))
    importlib.invalidate_caches()
    code = code_of(EXTRACTORS, "odd")
    assert code is not None
    assert str(code.plugin) == f"entry point odd of package odd-package 1.2 ({EXTRACTORS})"
    assert code.modules == (there / "odd_module",)


def test_a_plug_in_that_is_compiled_must_be_installed_there(site, make_sweep):
    (site / "odd_folder" / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    with pytest.raises(PluginError, match=r"install odd-package 1\.2 on every machine of the cluster"):
        code_of(EXTRACTORS, "odd")
    codes, (check,) = plugin_checks([with_odd(make_sweep())])
    assert codes == []
    assert check.verdict == "warning"
    assert "its module odd_folder holds compiled files (fast.cpython" in check.found
