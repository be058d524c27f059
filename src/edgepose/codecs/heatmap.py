"""Heatmaps: Gaussian targets and joint tables; peaks with sub-pixel refinement."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def gaussian_targets(xy: NDArray, visible: NDArray, size: tuple[int, int], sigma: float = 2.0) -> NDArray[np.float32]:
    """Heatmaps of truncated Gaussians, one per joint, people joined by the pixelwise maximum (as LitePose).

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
    """Where each person's joints are in the flattened tag maps (as LitePose).

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


def unbiased_targets(xy: NDArray, visible: NDArray, size: tuple[int, int], sigma: float = 2.0) -> NDArray[np.float32]:
    """Heatmaps whose Gaussians are centred on the joints themselves, not on a pixel (UDP, Huang et al., CVPR 2020).

    xy: (N, J, 2) in map pixels. visible: (N, J). size: (w, h). Returns (J, h, w) float32, people joined by the maximum;
    a joint farther than 3 sigma outside the map leaves no trace.
    """
    w, h = size
    maps = np.zeros((xy.shape[1], h, w), np.float32)
    for person, joint in zip(*np.nonzero(visible > 0), strict=True):
        x, y = xy[person, joint]
        if -3 * sigma <= x < w + 3 * sigma and -3 * sigma <= y < h + 3 * sigma:
            across = np.exp(-((np.arange(w) - x) ** 2) / (2 * sigma**2))
            down = np.exp(-((np.arange(h) - y) ** 2) / (2 * sigma**2))
            np.maximum(maps[joint], np.outer(down, across), out=maps[joint])
    return maps


def peaks(
    heatmaps: NDArray, method: str = "shift", sigma: float = 2.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sub-pixel position (N, J, 2) in map pixels and value (N, J) of the highest pixel of heatmaps (N, J, h, w).

    `"shift"`: a quarter pixel toward the higher neighbour (Newell et al., ECCV 2016; HRNet). `"dark"`: the map is
    smoothed as its targets were (`sigma`), its logarithm expanded to second order around the peak (DARK, Zhang et al.,
    CVPR 2020). `"udp"`: the same step with neighbours one pixel away, for targets without rounding (UDP, Huang et al.,
    CVPR 2020). At the edge a peak keeps its pixel along the axis that lacks neighbours; no step is longer than a pixel.
    Raises `ValueError` for another method.
    """
    if method not in METHODS:
        raise ValueError(f"no peak method called {method!r}: {', '.join(METHODS)}")
    n, j, h, w = heatmaps.shape
    planes = np.ascontiguousarray(heatmaps, np.float32).reshape(n * j, h, w)
    cell = planes.reshape(n * j, h * w).argmax(1)
    y, x = np.divmod(cell, w)
    value = planes[np.arange(n * j), y, x]
    if method == "shift":
        around = _around(planes, y, x)
        step = 0.25 * np.sign(np.stack([around[:, 2, 3] - around[:, 2, 1], around[:, 3, 2] - around[:, 1, 2]], 1))
        inside = np.stack([(x > 1) & (x < w - 1), (y > 1) & (y < h - 1)], 1).all(1, keepdims=True)
        step = np.where(inside, step, 0)
    else:
        side = int(6 * sigma - 1) | 1
        smooth = [cv2.GaussianBlur(p, (side, side), sigma, borderType=cv2.BORDER_CONSTANT) for p in planes]
        logs = np.log(np.maximum(_around(np.array(smooth, np.float32).reshape(planes.shape), y, x), 1e-10))
        step = _newton(logs, 2 if method == "dark" else 1)
        reach = 2 if method == "dark" else 1
        inside = np.stack([(x >= reach) & (x < w - reach), (y >= reach) & (y < h - reach)], 1)
        step = np.where(inside, np.clip(step, -1, 1), 0)
    xy = np.stack([x, y], 1) + step
    return xy.reshape(n, j, 2).astype(np.float32), value.reshape(n, j)


METHODS = ("shift", "dark", "udp")


def _around(planes: NDArray, y: NDArray, x: NDArray) -> NDArray:
    """The 5 x 5 pixels around (`x`, `y`) of each plane (n, h, w), edges repeated: (n, 5, 5)."""
    h, w = planes.shape[1:]
    rows = np.clip(y[:, None] + np.arange(-2, 3), 0, h - 1)
    cols = np.clip(x[:, None] + np.arange(-2, 3), 0, w - 1)
    return planes[np.arange(len(planes))[:, None, None], rows[:, :, None], cols[:, None, :]]


def _newton(v: NDArray, reach: int) -> NDArray:
    """Step (n, 2) to the top of the quadratic through (n, 5, 5) values; second differences over `reach` pixels."""
    r = reach
    dx, dy = (v[:, 2, 3] - v[:, 2, 1]) / 2, (v[:, 3, 2] - v[:, 1, 2]) / 2
    dxx = (v[:, 2, 2 + r] - 2 * v[:, 2, 2] + v[:, 2, 2 - r]) / r**2
    dyy = (v[:, 2 + r, 2] - 2 * v[:, 2, 2] + v[:, 2 - r, 2]) / r**2
    dxy = (v[:, 3, 3] - v[:, 1, 3] - v[:, 3, 1] + v[:, 1, 1]) / 4
    det = dxx * dyy - dxy * dxy
    top = (det > 1e-9) & (dxx < 0)  # a maximum, not a saddle or a plain
    safe = np.where(top, det, 1)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], 1) / safe[:, None]
    return np.where(top[:, None], step, 0)
