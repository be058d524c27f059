"""Tag maps at full size that are only computed where they are read, with bounds on what a block can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # side of a block, in pixels of the full-size map


@dataclass(frozen=True, eq=False)
class Axis:
    """How blocks of one axis are read: block b spans `weights[b] (BLOCK, L) @ values[start[b] : start[b] + L]`."""

    size: int
    start: NDArray[np.int64]
    weights: NDArray[np.float32]


@lru_cache(maxsize=64)
def resize_axis(*sizes: int) -> Axis:
    """Chained bilinear resizing from `sizes[0]` to `sizes[-1]` cells (pixel areas aligned, edges clamped)."""
    matrix = np.eye(sizes[0])
    for n, m in pairwise(sizes):
        at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), n - 1)
        share = (at - low)[:, None]
        matrix = (1 - share) * matrix[low] + share * matrix[np.minimum(low + 1, n - 1)]
    matrix = np.concatenate([matrix, np.repeat(matrix[-1:], -len(matrix) % BLOCK, 0)])
    blocks = matrix.reshape(-1, BLOCK, sizes[0])
    used = (blocks != 0).any(axis=1)
    first, last = used.argmax(1), sizes[0] - used[:, ::-1].argmax(1)
    reach = int((last - first).max())
    start = np.minimum(first, sizes[0] - reach)
    weights = np.stack([b[:, s : s + reach] for b, s in zip(blocks, start, strict=True)])
    return Axis(sizes[-1], start, weights.astype(np.float32))


@dataclass(frozen=True, eq=False)
class TagMaps:
    """T tags of J joints on an H x W map, stored small.

    maps: (T, J, h, w) float32. rows, cols: how H rows and W columns are interpolated from h and w.
    """

    maps: NDArray[np.float32]
    rows: Axis
    cols: Axis

    @classmethod
    def dense(cls, tags: NDArray) -> TagMaps:
        """From full-size maps (J, H, W, T), or (J, H, W) for T = 1."""
        tags = np.asarray(tags, np.float32)
        maps = np.moveaxis(tags if tags.ndim == 4 else tags[..., None], -1, 0)
        return cls(maps, resize_axis(maps.shape[2]), resize_axis(maps.shape[3]))

    @classmethod
    def resized(cls, maps: NDArray, sizes: Sequence[tuple[int, int]]) -> TagMaps:
        """(T, J, h, w) maps resized bilinearly to each of `sizes` (w, h) in turn."""
        h, w = maps.shape[2:]
        return cls(maps, resize_axis(h, *(s[1] for s in sizes)), resize_axis(w, *(s[0] for s in sizes)))

    def patches(self, joint: int | NDArray, row: NDArray, col: NDArray) -> NDArray[np.float32]:
        """Stored values (T, Lr, Lc, n) that blocks (`row`, `col`), each (n,), are interpolated from."""
        y = self.rows.start[row] + np.arange(self.rows.weights.shape[2])[:, None]
        x = self.cols.start[col] + np.arange(self.cols.weights.shape[2])[:, None]
        return self.maps[:, joint, y[:, None], x]

    def ranges(self, joints: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest stored value (T, n, blocks down, blocks across) that each block of `joints` is made of."""
        window = np.ones((self.rows.weights.shape[2], self.cols.weights.shape[2]), np.uint8)
        maps = self.maps[:, joints]
        tall = maps.reshape(-1, maps.shape[3])  # windows read start inside a map and end there
        low, high = cv2.erode(tall, window, anchor=(0, 0)), cv2.dilate(tall, window, anchor=(0, 0))
        at = (slice(None), slice(None), self.rows.start[:, None], self.cols.start)
        return np.asarray(low, np.float32).reshape(maps.shape)[at], np.asarray(high, np.float32).reshape(maps.shape)[at]

    def blocks(self, patches: NDArray, row: NDArray, col: NDArray) -> NDArray[np.float32]:
        """Full-size values (T, n, BLOCK, BLOCK) from `patches` of blocks (`row`, `col`)."""
        return self.rows.weights[row] @ patches.transpose(0, 3, 1, 2) @ self.cols.weights[col].transpose(0, 2, 1)

    def at(self, joint: int | NDArray, y: NDArray, x: NDArray) -> NDArray[np.float32]:
        """Tags (n, T) of `joint` at full-size pixels (`x`, `y`), each (n,)."""
        row, col = y // BLOCK, x // BLOCK
        wy, wx = self.rows.weights[row, y % BLOCK], self.cols.weights[col, x % BLOCK]
        return ((self.patches(joint, row, col) * wx.T).sum(2) * wy.T).sum(1).T
