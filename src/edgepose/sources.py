"""Sources: what a user names on the command line or hands to a predictor -> pictures.

OpenCV reads every format asked for (EXIF rotation, CMYK, palette, 16 bit, GIF, WebP, AVIF), so Pillow is not needed.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
_KEEP_ALL = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR  # depth and alpha as stored, turned upright


def find(source: str | Path) -> list[Path]:
    """The pictures of one source: a file, a folder (its pictures, not its subfolders) or a glob, in natural order.

    `ValueError` when there is nothing there. A named file is taken whatever its suffix.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if _is_picture(p)]
        if not found:
            raise ValueError(f"no pictures in folder {source} (looked for {' '.join(SUFFIXES)})")
        return sorted(found, key=natural)
    if not path.exists() and glob.has_magic(str(source)):
        found = [p for p in map(Path, glob.glob(str(source), recursive=True)) if _is_picture(p)]
        if not found:
            raise ValueError(f"no pictures match {source}")
        return sorted(found, key=natural)
    if not path.exists():
        raise ValueError(f"no such file: {source}")
    return [path]


def photographs() -> list[Path]:
    """The photographs that come with edgepose."""
    return find(Path(__file__).parent / "pictures")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural(path: Path) -> list[Any]:
    """Sort key that puts frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", str(path))]


def unique(paths: Iterable[Path]) -> list[Path]:
    """The same files without repeats, first mention first."""
    return list({os.path.realpath(p): p for p in reversed(list(paths))}.values())[::-1]


def stems(paths: Sequence[Path]) -> list[str]:
    """One distinct output name per picture: its stem, with "-2", "-3"... where an earlier picture has the same stem.

    Names are compared without case, because some file systems do.
    """
    names: list[str] = []
    taken: set[str] = set()
    firsts = {p.stem.lower() for p in paths}
    for path in paths:
        name, n = path.stem, 1
        while name.lower() in taken or (n > 1 and name.lower() in firsts):
            n += 1
            name = f"{path.stem}-{n}"
        taken.add(name.lower())
        names.append(name)
    return names


def read_image(path: str | Path) -> Image:
    """Read a picture file as RGB uint8 (height, width, 3), turned upright by its EXIF orientation.

    Grey and palette pictures become RGB, 16 bits the upper 8, CMYK is converted, transparent pixels lie on white, an
    animation gives its first frame. `ValueError` in one line for a missing, empty, cut off or unreadable file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not data:
        raise ValueError(f"{path} is empty")
    jpeg = data[:2] == b"\xff\xd8"
    if not (_jpeg_ends(data) if jpeg else data[:4] != b"\x89PNG" or b"IEND" in data):
        raise ValueError(f"{path} is cut off: the end of the picture is missing")
    try:
        flags = cv2.IMREAD_COLOR_RGB if jpeg else _KEEP_ALL
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise ValueError(f"cannot decode {path}: {_line(error)}") from error
    if image is None:
        raise ValueError(f"{path} is not a picture that can be read (damaged, or not {', '.join(SUFFIXES)})")
    if jpeg:
        return np.asarray(image, np.uint8)
    try:
        return to_rgb(image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def to_rgb(image: NDArray[Any]) -> Image:
    """A picture array as RGB uint8 (h, w, 3).

    Takes uint8 or uint16, of shape (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA; transparent pixels lie on
    white. `ValueError` for anything else.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f"a picture array has shape (h, w), (h, w, 3) RGB or (h, w, 4) RGBA; got {image.shape}")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"a picture array is uint8 (or uint16), not {image.dtype}; scale it to 0..255 first")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(image)


def to_image(source: Any) -> Image:
    """RGB uint8 (h, w, 3) from a path, a PIL picture (turned upright by its EXIF orientation) or an array."""
    if isinstance(source, (str, Path)):
        return read_image(source)
    if isinstance(source, np.ndarray):
        return to_rgb(source)
    if type(source).__module__.startswith("PIL."):
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(source)
        if upright.mode.startswith("I;16"):
            return to_rgb(np.asarray(upright, np.uint16))
        transparent = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
        return to_rgb(np.asarray(upright.convert("RGBA" if transparent else "RGB")))
    raise ValueError(f"a picture is a path, a PIL picture or an array, not {type(source).__name__}")


def _jpeg_ends(data: bytes) -> bool:
    """Whether a JPEG reaches its end marker. The embedded thumbnail, a JPEG in a segment, is stepped over.

    Some OpenCV versions fill the missing part of a cut-off JPEG with grey and say nothing.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:  # in entropy-coded data 0xFF is stuffed: the next end marker is the real one
            return data.find(b"\xff\xd9", at) >= 0
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
