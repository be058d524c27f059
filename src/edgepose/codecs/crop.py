"""The input picture under a warp, without aliasing and without touching pixels outside the frame."""

from __future__ import annotations

import cv2
import numpy as np

from edgepose.codecs import Image
from edgepose.warp import Warp


def crop(image: Image, warp: Warp, quick: bool = False) -> Image:
    """`image` (h, w, 3) under `warp`: bilinear, zeros outside.

    Where the warp shrinks to half or less, whole blocks of pixels are averaged first, so that nothing aliases; the
    geometry stays that of `warp`. quick: blocks of 2, 4, 8... pixels alone, which are averaged soonest.
    Raises `ValueError` for anything but a non-empty (h, w, 3) uint8 picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"a picture must be (height, width, 3) uint8, got {image.shape} {image.dtype}")
    w, h = warp.size
    corners = warp.inverse.matrix @ np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]])
    factor = max(1, int(1 / warp.zoom + 1e-6))
    if quick:
        factor = 1 << factor.bit_length() - 1
    spans = []
    for axis, limit in ((0, image.shape[1]), (1, image.shape[0])):
        step = min(factor, limit)
        first = int(np.clip(np.floor(corners[axis].min()) - step, 0, limit - step))
        last = int(np.clip(np.ceil(corners[axis].max()) + step + 1, first + step, limit))
        spans.append((first, min(-(-(last - first) // step), (limit - first) // step), step))
    (x, columns, across), (y, rows, down) = spans
    part = image[y : y + rows * down, x : x + columns * across]
    shrink = np.array([[1 / across, 0, (0.5 - x) / across - 0.5], [0, 1 / down, (0.5 - y) / down - 0.5]])
    if across > 1 or down > 1:
        part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    return Warp(shrink, (columns, rows)).inverse.then(warp).apply(part)
