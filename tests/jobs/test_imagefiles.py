"""A stranger's folder: every image that would be changed by reading it is named, with what to do."""

import io

import numpy as np
import pytest
from PIL import Image

from jobs.inputs.datasets import read_dataset
from jobs.inputs.imagefiles import DatasetError, decode

RNG = np.random.default_rng(0)


def rgb(side: int = 6) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8))


def sixteen_bit_rgb() -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads as 8 bits without a word, but cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(36)) for _ in range(6))
    header = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        (tmp_path / f"good-{number}.png").write_bytes(saved(rgb()))
    return tmp_path


def test_a_strangers_folder_names_everything_that_is_wrong_at_once(folder):
    wrong = {
        "alpha.png": (saved(rgb().convert("RGBA")), "transparency (RGBA)", "flatten it to RGB"),
        "deep.png": (saved(Image.fromarray(np.zeros((6, 6), np.uint16))), "more than 8 bits", "reduce it"),
        "deep-rgb.png": (sixteen_bit_rgb(), "more than 8 bits", "reduce it"),
        "grey.png": (saved(rgb().convert("L")), "is grey 6x6, and most are RGB 6x6", "take it out"),
        "corrupt.png": (saved(rgb())[:60], "not a readable image", "fetch it again"),
        "text.png": (b"hello", "not a readable image (of no known format", "fetch it again"),
        "empty.png": (b"", "the image has no bytes", ""),
        "large.jpg": (saved(rgb(9), "JPEG"), "is RGB 9x9, and most are RGB 6x6", "take it out"),
        "palette.png": (saved(rgb().convert("P")), "has a palette", "save it as RGB"),
        "bits.png": (saved(rgb().convert("1")), "one bit a pixel", "8-bit grey"),
        "print.jpg": (saved(rgb().convert("CMYK"), "JPEG"), "is CMYK", "save it as RGB"),
        "keyed.png": (saved(rgb(), transparency=(0, 0, 0)), "transparency", "flatten it"),
    }
    for name, (data, _, _) in wrong.items():
        (folder / name).write_bytes(data)
    with pytest.raises(
        DatasetError, match="theirs: 12 of 16 images cannot be used; mend them, or let --skip-unreadable"
    ) as caught:
        read_dataset("theirs", folder)
    problems = caught.value.problems
    assert len(problems) == len(wrong)
    for name, (_, reason, remedy) in wrong.items():
        (line,) = [line for line in problems if line.startswith(f"{folder / name}: ")]
        assert reason in line
        assert remedy in line
    assert not any("good" in line for line in problems)


def test_the_odd_one_is_named_also_when_it_is_the_first(folder):
    (folder / "a.png").write_bytes(saved(rgb(9)))
    with pytest.raises(DatasetError, match=r"1 of 5 .*\n.*a.png: is RGB 9x9"):
        read_dataset("theirs", folder)


def test_images_under_other_names_are_not_passed_over(folder):
    (folder / "five.gif").write_bytes(saved(rgb(), "GIF"))
    (folder / "six").write_bytes(saved(rgb()))
    (folder / "README.txt").write_text("no image")
    (folder / "a.png").write_bytes(saved(rgb(9)))
    with pytest.raises(DatasetError, match="3 of 7 images cannot be used") as caught:
        read_dataset("theirs", folder)
    assert [line.partition(": ")[0] for line in caught.value.problems] == [
        str(folder / name) for name in ("five.gif", "six", "a.png")
    ]
    (folder / "a.png").unlink()
    for name in ("five.gif", "six"):
        (folder / name).unlink()
    assert len(read_dataset("theirs", folder)) == 4


def test_what_cannot_be_used_is_left_out_when_asked_and_said(folder):
    whole = read_dataset("theirs", folder)
    (folder / "a.png").write_bytes(saved(rgb(9)))
    (folder / "b.png").write_bytes(b"nothing")
    (folder / "five.gif").write_bytes(saved(rgb(), "GIF"))
    found = read_dataset("theirs", folder, skip_unreadable=True)
    np.testing.assert_array_equal(found.images, whole.images)
    assert len(found.skipped) == 3
    assert all(any(name in line for line in found.skipped) for name in ("a.png", "b.png", "five.gif"))


def test_nothing_left_is_an_error_also_when_skipping(tmp_path):
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"holds no images\n.*b.png: not a readable image"):
        read_dataset("theirs", tmp_path, skip_unreadable=True)


def test_long_lists_are_cut_in_the_message_alone(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="and 10 more") as caught:
        read_dataset("theirs", tmp_path)
    assert len(caught.value.problems) == 60


def test_several_frames_are_refused():
    frames = saved(rgb(), "TIFF", save_all=True, append_images=[rgb()])
    with pytest.raises(ValueError, match="has 2 frames"):
        decode(frames)


def test_links_that_lead_nowhere_or_to_folders_are_named(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "more.png").write_bytes(saved(rgb()))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "fine.png").symlink_to(elsewhere / "more.png")
    with pytest.raises(DatasetError, match="2 of 7 images cannot be used") as caught:
        read_dataset("stranger", folder)
    assert "gone.png (No such file or directory): the image has no bytes" in str(caught.value)
    assert "linked: a link to a folder, which is not followed" in str(caught.value)
