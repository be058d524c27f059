"""Contact sheets: many labelled pictures on one, to look through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.codecs.crop import crop
from edgepose.draw import draw
from edgepose.poses import Poses
from edgepose.warp import Warp

CELL = (300, 300)  # pixels
BAR = 22  # height of a caption
PAPER, INK = (24, 24, 30), (230, 230, 235)
HIDDEN = 0.12  # score that draws a hidden joint faintly


def cell(image: Image, truth: Poses, caption: str, box: NDArray | None = None) -> Image:
    """One picture with its labels and a caption below, (CELL[1] + BAR, CELL[0], 3).

    image: (h, w, 3) RGB uint8. truth: people in image pixels. box: x0, y0, x1, y1 of the part shown, in image pixels,
    a third being added all around; by default the whole picture.
    """
    h, w = image.shape[:2]
    shown = np.array([-0.5, -0.5, w - 0.5, h - 0.5])
    if box is not None:
        margin = max(float(np.max(box[2:] - box[:2])) / 3, 12.0)
        shown = np.array([*np.maximum(box[:2] - margin, shown[:2]), *np.minimum(box[2:] + margin, shown[2:])])
        shown[2:] = np.maximum(shown[2:], shown[:2] + 4)
    zoom = float(min(np.array(CELL) / (shown[2:] - shown[:2])))
    warp = Warp.around(tuple((shown[:2] + shown[2:]) / 2), zoom, CELL, target=((CELL[0] - 1) / 2, (CELL[1] - 1) / 2))
    drawn = draw(crop(image, warp), warp.poses(truth))
    return np.concatenate([drawn, _bar(caption, CELL[0])])


def faint(truth: Poses, visible: NDArray[np.uint8] | None) -> Poses:
    """The same people, their hidden joints with a low score, so that they are drawn faintly."""
    return truth if visible is None else replace(truth, scores=np.where(visible == 1, HIDDEN, truth.scores))


def sheet(cells: Sequence[Image], title: str, columns: int = 6) -> Image:
    """Cells side by side in rows under a title."""
    columns = max(1, min(columns, len(cells)))
    blank = np.full_like(cells[0], PAPER[0])
    filled = [*cells, *[blank] * (-len(cells) % columns)]
    rows = [np.concatenate(filled[i : i + columns], 1) for i in range(0, len(filled), columns)]
    return np.concatenate([_bar(title, rows[0].shape[1]), *rows])


def _bar(text: str, width: int) -> Image:
    bar = np.full((BAR, width, 3), PAPER, np.uint8)
    plain = text.encode("ascii", "replace").decode()
    size = 0.42
    while size > 0.3 and cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > width - 8:
        size -= 0.04
    while plain and cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > width - 8:
        plain = plain[1:]  # the end of a file name says more than its beginning
    cv2.putText(bar, plain, (4, BAR - 7), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
    return bar
