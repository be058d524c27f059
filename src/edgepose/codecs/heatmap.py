"""Heatmaps: Gaussian targets and joint tables; peaks with sub-pixel refinement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gaussian_targets(xy: NDArray, visible: NDArray, size: tuple[int, int], sigma: float = 2.0) -> NDArray[np.float32]:
    """Heatmaps of truncated Gaussians, one per joint, people joined by the pixelwise maximum (LitePose spec 2.3).

    xy: (N, J, 2) in map pixels, truncated toward zero to the peak's pixel. visible: (N, J). size: (w, h) of the map.
    Returns (J, h, w) float32 with peaks of 1; the patch reaches 3 sigma + 1 pixels each way; a joint whose pixel lies
    outside the map leaves no trace.
    """
    w, h = size
    maps = np.zeros((xy.shape[1], h, w), np.float32)
    reach = int(3 * sigma + 1)
    axis = np.arange(-reach, reach + 1, dtype=np.float64)
    patch = np.exp(-(axis**2 + axis[:, None] ** 2) / (2 * sigma**2)).astype(np.float32)
    for x, y, j in zip(*_inside(xy, visible, size), strict=True):
        x0, x1, y0, y1 = max(x - reach, 0), min(x + reach + 1, w), max(y - reach, 0), min(y + reach + 1, h)
        part = patch[y0 - y + reach : y1 - y + reach, x0 - x + reach : x1 - x + reach]
        np.maximum(maps[j, y0:y1, x0:x1], part, out=maps[j, y0:y1, x0:x1])
    return maps


def _inside(xy: NDArray, visible: NDArray, size: tuple[int, int]) -> tuple[NDArray, NDArray, NDArray]:
    """Truncated x, y and joint number of every visible joint whose pixel lies in a map of `size`."""
    pixel = np.trunc(xy).astype(np.int64)
    inside = (visible > 0) & (pixel >= 0).all(-1) & (pixel < np.array(size)).all(-1)
    return pixel[inside][:, 0], pixel[inside][:, 1], np.nonzero(inside)[1]


def joint_table(xy: NDArray, visible: NDArray, size: tuple[int, int], max_people: int = 30) -> NDArray[np.int64]:
    """Where each person's joints are in the flattened tag maps (LitePose spec 2.3).

    Returns (max_people, J, 2): (k h w + y w + x, 1) for the visible joints inside the map, packed to the front of
    each row, (0, 0) for the rest. People past `max_people` are left out.
    """
    w, h = size
    table = np.zeros((max_people, xy.shape[1], 2), np.int64)
    for row, (person, seen) in enumerate(zip(xy[:max_people], visible[:max_people], strict=True)):
        x, y, k = _inside(person[None], seen[None], size)
        table[row, : len(k), 0] = k * h * w + y * w + x
        table[row, : len(k), 1] = 1
    return table
