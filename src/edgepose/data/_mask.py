"""Where people are not labelled: crowds, and people without labelled joints. HigherHRNet and LitePose mask them too.

COCO writes a region as polygons or as run lengths: columns from top to bottom, background first, `counts` a list or a
string in which each number is a chain of 5-bit digits (from "0" on, low ones first, bit 5 says that more follow), from
the third on as the difference to the count two places before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record

SHIFT = 4  # binary places of polygon corners


def ignore_mask(record: Record) -> NDArray[np.bool_]:
    """(h, w), True where `record.others` lie. People without a region of their own are masked by their box."""
    w, h = record.size
    mask = np.zeros((h, w), np.bool_)
    for other in record.others:
        if "segmentation" in other:
            mask |= region(other["segmentation"], (w, h))
        elif "bbox" in other:
            x, y, bw, bh = other["bbox"]
            mask |= region([[x, y, x + bw, y, x + bw, y + bh, x, y + bh]], (w, h))
    return mask


def region(segmentation: Mapping[str, Any] | list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w), True inside a COCO `segmentation`: a list of polygons [x0, y0, x1, y1, ...], or run lengths.

    size: (w, h) in pixels. Pixels on the outline of a polygon count. `ValueError` for run lengths of another size.
    """
    w, h = size
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        runs = uncompress(counts) if isinstance(counts, (str, bytes)) else [int(n) for n in counts]
        if sum(runs) != w * h:
            raise ValueError(f"run lengths cover {sum(runs)} pixels, the picture is {w} x {h}")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(w, h).T
    canvas = np.zeros((h, w), np.uint8)
    for polygon in segmentation:
        corners = np.array(polygon, np.float64).reshape(-1, 2) - 0.5  # COCO's outlines count from the picture's corner
        if len(corners):
            cv2.fillPoly(canvas, [np.round(corners * 2**SHIFT).astype(np.int32)], 1, cv2.LINE_8, SHIFT)
    return canvas.astype(np.bool_)


def uncompress(counts: str | bytes) -> list[int]:
    """Run lengths from COCO's compressed string."""
    runs: list[int] = []
    value = place = 0
    for code in counts.encode("ascii") if isinstance(counts, str) else counts:
        digit = code - 48
        value |= (digit & 0x1F) << 5 * place
        place += 1
        if not digit & 0x20:
            if digit & 0x10:
                value -= 1 << 5 * place
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = place = 0
    return runs
