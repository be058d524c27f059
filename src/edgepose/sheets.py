"""Contact sheets: groups of pictures side by side, each with a line above it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.draw import draw
from edgepose.poses import Poses
from edgepose.warp import Warp

PAPER, INK = (250, 250, 250), (43, 47, 54)
CELL, LINE, GAP = (330, 248), 24, 8  # (w, h) of a picture, height of the line above it, space around, pixels


def sheet(groups: Sequence[Sequence[tuple[Image, str]]], columns: int = 2) -> Image:
    """One RGB picture of all groups, `columns` of them beside each other, in reading order.

    A group is the same photograph drawn in several ways, each with its line of text (ASCII); all groups have the same
    number. Pictures have the size `CELL` (see `view`).
    """
    if not groups:
        return np.full((LINE + 2 * GAP, 400, 3), PAPER, np.uint8)
    (w, h), wide = CELL, len(groups[0])
    columns = min(columns, len(groups))
    step = (wide * (w + GAP // 2) + 2 * GAP, h + LINE + GAP)
    out = np.full((-(-len(groups) // columns) * step[1] + GAP, columns * step[0] + GAP, 3), PAPER, np.uint8)
    for i, group in enumerate(groups):
        top, left = i // columns * step[1] + GAP, i % columns * step[0] + GAP
        for k, (image, text) in enumerate(group):
            x = left + k * (w + GAP // 2)
            out[top : top + LINE, x : x + w] = line(text, (w, LINE))
            out[top + LINE : top + LINE + h, x : x + w] = image
    return out


def region(size: tuple[int, int], points: NDArray) -> tuple[int, int, int, int]:
    """The part x0, y0, x1, y1 of a picture of `size` (w, h) to show: around `points` (n, 2), the whole without points.

    Half as large again on each side, and at least a fifth of the longer side of the picture.
    """
    w, h = size
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        return 0, 0, w, h
    low, high = np.clip(points.min(0), 0, size), np.clip(points.max(0), 0, size)
    half = np.maximum((high - low) * 0.8, max(w, h) * 0.1) + 8
    half = np.maximum(half, half[::-1] * [CELL[0] / CELL[1], CELL[1] / CELL[0]])  # as wide and high as the cell
    x0, y0 = np.maximum((low + high) / 2 - half, 0).astype(int)
    x1, y1 = np.minimum((low + high) / 2 + half, size).astype(int)
    return int(x0), int(y0), max(int(x1), int(x0) + 1), max(int(y1), int(y0) + 1)


def view(image: Image, poses: Poses, part: tuple[int, int, int, int]) -> Image:
    """The part x0, y0, x1, y1 of a picture as large as fits into a cell, with people drawn at that size."""
    x0, y0, x1, y1 = part
    cut = image[y0:y1, x0:x1]
    zoom = min(CELL[0] / cut.shape[1], CELL[1] / cut.shape[0])
    new = max(1, round(cut.shape[1] * zoom)), max(1, round(cut.shape[0] * zoom))
    small = cv2.resize(cut, new, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    place = Warp.resize((cut.shape[1], cut.shape[0]), new)
    xy = place(poses.xy - np.array([x0, y0]))
    out = np.full((CELL[1], CELL[0], 3), 228, np.uint8)
    x, y = (CELL[0] - new[0]) // 2, (CELL[1] - new[1]) // 2
    drawn = draw(np.asarray(small, np.uint8), Poses(xy, poses.scores, poses.skeleton, poses.person_scores))
    out[y : y + new[1], x : x + new[0]] = drawn
    return out


def line(text: str, size: tuple[int, int]) -> Image:
    """A line of text in a field of `size` (w, h), cut where the field ends."""
    out = np.full((size[1], size[0], 3), PAPER, np.uint8)
    cv2.putText(out, text, (2, size[1] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return out
