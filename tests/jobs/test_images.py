"""Images: quantisation, refusals, Parquet and back, digests that see pixels only."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs.digests import add_digests
from jobs.storage.images import BadImagesError, ImageRows, quantise, read_images, write_images


def blocks(first=0, last=10, shape=(1, 8, 8), steps=(5, 10), chains=False):
    index = np.arange(first, last)
    found = []
    for step in steps:
        pixels = np.stack(
            [np.random.default_rng([step, k]).integers(0, 256, shape, dtype=np.uint8) for k in index]
        )
        found.append(
            ImageRows(
                step, index, (index // 4).astype(np.int32), pixels, index.astype(np.int32) if chains else None
            )
        )
    return found


def test_floor_is_score_sdes_rule_and_round_is_edms():
    x = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 127.9 / 255, 1.0, 1.5]).reshape(1, 1, 1, 7)
    floor, clipped = quantise(x, "floor", "here", final=True)
    assert floor.flatten().tolist() == [0, 0, 0, 0, 127, 255, 255]
    assert clipped == pytest.approx(2 / 7)
    assert quantise(x, "round", "here", final=True)[0].flatten().tolist() == [0, 0, 0, 1, 128, 255, 255]
    score_sde = np.clip(x.numpy() * 255, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(floor.numpy(), score_sde)
    edm = ((2 * x - 1) * 127.5 + 128).clip(0, 255).to(torch.uint8)
    torch.testing.assert_close(quantise(x, "round", "here", final=True)[0], edm)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("final", [True, False])
def test_values_that_are_not_finite_fail_by_name(value, final):
    x = torch.rand(4, 1, 8, 8)
    x[2, 0, 3, 3] = value
    with pytest.raises(BadImagesError, match=r"cell A, step 7.*1 of 256 values"):
        quantise(x, "floor", "cell A, step 7", final=final)


def test_diverged_values_fail_at_the_end_only():
    x = torch.rand(4, 1, 8, 8)
    x[0, 0, 0, 0] = -50.0
    with pytest.raises(BadImagesError, match="reach 50"):
        quantise(x, "floor", "here", final=True)
    assert quantise(x, "floor", "here", final=False)[1] == pytest.approx(1 / 256)


def test_a_group_of_constant_images_fails_but_one_constant_image_does_not():
    x = torch.arange(4.0).div(4).reshape(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    with pytest.raises(BadImagesError, match="constant"):
        quantise(x, "floor", "here", final=True)
    x[3, 0, 0, 0] = 0
    quantise(x, "floor", "here", final=True)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("chains", [True, False])
def test_parquet_gives_back_every_pixel(tmp_path, shape, chains):
    written = blocks(3, 9, shape, chains=chains)
    write_images(tmp_path / "file", written)
    with open(tmp_path / "file", "rb") as file:
        read = list(read_images(file))
    for before, after in zip(written, read, strict=True):
        assert before.step == after.step
        for name in ("index", "group", "images") + ("chain",) * chains:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
            assert getattr(before, name).dtype == getattr(after, name).dtype
        assert before.digest == after.digest
        assert (after.chain is not None) == chains


def test_one_step_can_be_read_alone(tmp_path):
    write_images(tmp_path / "file", blocks())
    with open(tmp_path / "file", "rb") as file:
        (read,) = read_images(file, step=10)
    np.testing.assert_array_equal(read.images, blocks()[1].images)


def test_the_file_has_the_layout_that_datasets_reads(tmp_path):
    write_images(tmp_path / "file", blocks())
    table = pq.read_table(tmp_path / "file")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("index", "int64"),
        ("step", "int32"),
        ("image", "struct<bytes: binary, path: string>"),
        ("group", "int32"),
    ]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    row = table.slice(12, 1).to_pylist()[0]
    assert (row["index"], row["step"]) == (2, 10)
    pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
    np.testing.assert_array_equal(pixels, blocks()[1].images[2, 0])


def test_row_groups_hold_one_step_each_and_stay_small(tmp_path):
    write_images(tmp_path / "file", blocks(0, 1500, (1, 2, 2)))
    sizes = [pq.ParquetFile(tmp_path / "file").metadata.row_group(k).num_rows for k in range(4)]
    assert sizes == [1024, 476, 1024, 476]
    with open(tmp_path / "file", "rb") as file:
        assert [block.step for block in read_images(file)] == [5, 5, 10, 10]


def test_digests_of_ranges_add_up_whatever_the_cut():
    whole = add_digests(block.digest for block in blocks(0, 12))
    parts = [blocks(0, 5), blocks(5, 7), blocks(7, 12)]
    assert add_digests(block.digest for part in parts for block in part) == whole
    assert add_digests(reversed([block.digest for part in parts for block in part])) == whole


@pytest.mark.parametrize("change", ["pixel", "swap", "step"])
def test_digests_see_every_change(change):
    (block,) = blocks(steps=(5,))
    images, step = block.images.copy(), block.step
    if change == "pixel":
        images[3, 0, 1, 1] ^= 1
    elif change == "swap":
        images[[2, 3]] = images[[3, 2]]
    else:
        step += 1
    changed = ImageRows(step, block.index, block.group, images)
    assert changed.digest != block.digest


def test_channels_that_png_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 channels"):
        write_images(tmp_path / "file", blocks(shape=(2, 4, 4)))


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_images(tmp_path / "file", [])
