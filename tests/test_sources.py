import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from _tiny import write
from PIL import Image as PIL

from edgepose.sources import find, read_image, stems, to_image, to_rgb, unique

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def close(a, b, limit=3.0):
    assert a.shape == b.shape
    assert a.dtype == np.uint8
    assert a.flags.c_contiguous
    assert np.abs(a.astype(int) - b).mean() <= limit


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_formats_are_exact(tmp_path, suffix):
    assert (read_image(write(tmp_path / f"a{suffix}", RGB)) == RGB).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif"])
def test_lossy_formats_are_close_and_rgb(tmp_path, suffix):
    PIL.fromarray(RGB).save(tmp_path / f"a{suffix}", quality=95)
    close(read_image(tmp_path / f"a{suffix}"), RGB, 9.0 if suffix == ".gif" else 5.0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = PIL.Exif()
    exif[0x112] = orientation
    PIL.fromarray(RGB).save(tmp_path / f"a{suffix}", exif=exif, quality=95)
    upright = np.rot90(RGB, {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[orientation])
    upright = upright[:, ::-1] if orientation in (2, 4, 5, 7) else upright
    close(read_image(tmp_path / f"a{suffix}"), upright, 5.0)
    if suffix == ".png":
        assert (to_image(PIL.open(tmp_path / "a.png")) == upright).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_grey_becomes_rgb(tmp_path, suffix):
    close(read_image(write(tmp_path / f"a{suffix}", RGB[..., 0])), np.repeat(RGB[..., :1], 3, 2), 5.0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", ["grey", "colour"])
def test_sixteen_bits(tmp_path, suffix, shape):
    deep = (RGB if shape == "colour" else RGB[..., 0]).astype(np.uint16) * 256 + 77
    expected = RGB if shape == "colour" else np.repeat(RGB[..., :1], 3, 2)
    assert (read_image(write(tmp_path / f"a{suffix}", deep)) == expected).all()
    assert (to_rgb(deep) == expected).all()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparent_pixels_lie_on_white(tmp_path, suffix):
    alpha = np.full(RGB.shape[:2], 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    rgba = np.dstack([RGB, alpha])
    PIL.fromarray(rgba).save(tmp_path / f"a{suffix}", lossless=True)
    expected = np.round(RGB * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255))
    for image in (read_image(tmp_path / f"a{suffix}"), to_rgb(rgba), to_image(PIL.fromarray(rgba))):
        close(image, expected, 0.1)
        assert (image[:10] == 255).all()


def test_cmyk(tmp_path):
    PIL.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    close(read_image(tmp_path / "a.jpg"), RGB, 8.0)


def test_palette(tmp_path):
    palette = PIL.fromarray(RGB).quantize(32)
    palette.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == np.asarray(palette.convert("RGB"))).all()


def test_animation_gives_its_first_frame(tmp_path):
    first, second = PIL.fromarray(RGB).quantize(64), PIL.fromarray(255 - RGB).quantize(64)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    close(read_image(tmp_path / "a.gif"), np.asarray(first.convert("RGB")), 1.0)


def test_one_pixel(tmp_path):
    assert read_image(write(tmp_path / "a.png", RGB[:1, :1])).tolist() == RGB[:1, :1].tolist()


def test_suffix_does_not_matter_for_a_named_file(tmp_path):
    write(tmp_path / "a.png", RGB).rename(tmp_path / "photo.jpg")
    assert (read_image(tmp_path / "photo.jpg") == RGB).all()


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    jpeg = write(folder / "whole.jpg", cv2.resize(RGB, (640, 480))).read_bytes()
    png = write(folder / "whole.png", RGB).read_bytes()
    thumbnail = b"\xff\xe1" + (2 + len(jpeg[:5000]) + 2).to_bytes(2) + jpeg[:5000] + b"\xff\xd9"
    contents = {
        "empty": (b"", "is empty"),
        "half_jpeg": (jpeg[: len(jpeg) // 2], "is cut off"),
        "nearly_whole_jpeg": (jpeg[:-20], "is cut off"),
        "thumbnail_whole": (jpeg[:2] + thumbnail + jpeg[2:-500], "is cut off"),
        "jpeg_header_only": (jpeg[:20], "is cut off"),
        "half_png": (png[: len(png) // 2], "is cut off"),
        "text": (b"hello, this is a letter\n" * 30, "is not a picture"),
        "zeros": (bytes(5000), "is not a picture"),
    }
    for name, (data, _) in contents.items():
        (folder / f"{name}.jpg").write_bytes(data)
    (folder / "directory.jpg").mkdir()
    cases = {name: (folder / f"{name}.jpg", says) for name, (_, says) in contents.items()}
    cases["missing"] = (folder / "missing.jpg", "No such file")
    cases["directory"] = (folder / "directory.jpg", "Is a directory")
    return cases


@pytest.mark.parametrize(
    "case",
    ["empty", "half_jpeg", "nearly_whole_jpeg", "thumbnail_whole", "jpeg_header_only", "half_png", "text", "zeros"]
    + ["missing", "directory"],
)
def test_unreadable_files_are_one_clear_line(tmp_path, case):
    path, says = bad_files(tmp_path)[case]
    with pytest.raises(ValueError, match=says) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_jpegs_with_thumbnail_or_trailing_bytes_are_read(tmp_path):
    jpeg = write(tmp_path / "a.jpg", RGB).read_bytes()
    thumbnail = b"\xff\xe1" + (2 + len(jpeg)).to_bytes(2) + jpeg
    for data in (jpeg + b"trailing", jpeg[:2] + thumbnail + jpeg[2:]):
        (tmp_path / "b.jpg").write_bytes(data)
        assert (read_image(tmp_path / "b.jpg") == read_image(tmp_path / "a.jpg")).all()


@pytest.mark.parametrize(
    "array", [RGB.astype(np.float32), RGB[..., :2], RGB[None], np.zeros((0, 4, 3), np.uint8), RGB.astype(np.int64)]
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(ValueError, match="a picture array"):
        to_rgb(array)


def test_things_that_are_no_pictures():
    with pytest.raises(ValueError, match="not int"):
        to_image(3)


def test_folders_and_globs_in_natural_order(tmp_path):
    for name in ("f10.png", "f9.PNG", "f1.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f0.png").write_bytes(b"x")
    assert [p.name for p in find(tmp_path)] == ["f1.jpg", "f9.PNG", "f10.png"]
    assert [p.name for p in find(f"{tmp_path}/f*")] == ["f1.jpg", "f9.PNG", "f10.png"]
    assert [p.name for p in find(f"{tmp_path}/**/f0.*")] == ["f0.png"]
    assert find(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"x")
    assert find(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]


@pytest.mark.parametrize(
    ("source", "says"), [("", "no pictures in folder"), ("*.png", "no pictures match"), ("a.png", "no such file")]
)
def test_nothing_there(tmp_path, source, says):
    with pytest.raises(ValueError, match=says):
        find(f"{tmp_path}/{source}")


def test_the_same_file_is_taken_once(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    os.symlink(tmp_path / "a.png", tmp_path / "b.png")
    assert [p.name for p in unique([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "." / "a.png"])] == ["a.png"]


def test_output_names_never_clash():
    paths = [Path(p) for p in ("a/1.jpg", "b/1.png", "1-2.jpg", "c/1.jpg", "A.jpg", "a.png")]
    assert stems(paths) == ["1", "1-3", "1-2", "1-4", "A", "a-2"]
