"""Size of a picture file from its header, for data sets whose labels do not say it."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

HEAD = 2**16  # bytes of a file that mostly hold its size
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers whose segment holds the size


def picture_size(path: Path, upright: bool = False) -> tuple[int, int]:
    """(w, h) in pixels, as stored or turned upright by EXIF; only JPEG and PNG are spared the decoding.

    `ValueError` for a file that is missing or no picture.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(HEAD)
            found = _header(data)
            if found is None:
                data += file.read()
                found = _header(data)
    except OSError as error:
        raise ValueError(f"cannot read the picture {path}: {error.strerror}") from error
    if found is not None:
        w, h, orientation = found
        return (h, w) if upright and orientation >= 5 else (w, h)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise ValueError(f"{path} is not a picture that can be read")
    return image.shape[1], image.shape[0]


def _header(data: bytes) -> tuple[int, int, int] | None:
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        w, h = struct.unpack(">II", data[16:24])
        return w, h, 1
    return _jpeg(data) if data[:2] == b"\xff\xd8" else None


def _jpeg(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and EXIF orientation (1 to 8) of a JPEG; None where the header cannot be followed."""
    at, orientation = 2, 1
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _FRAMES:
            h, w = struct.unpack(">HH", data[at + 5 : at + 9])
            return w, h, orientation
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _orientation(tiff: bytes) -> int:
    """The orientation tag of an EXIF block, 1 where there is none."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack(order + "I", tiff[4:8])
        (count,) = struct.unpack(order + "H", tiff[start : start + 2])
        for i in range(count):
            tag, kind, _, value = struct.unpack(order + "HHIH", tiff[start + 2 + 12 * i : start + 12 + 12 * i])
            if tag == 0x0112 and kind == 3 and 1 <= value <= 8:
                return value
    except struct.error:
        pass
    return 1
