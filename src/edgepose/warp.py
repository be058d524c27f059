"""Warp: image pixels <-> input pixels, one affine map with its inverse.

The half-pixel rule, decided here once: a coordinate is a pixel index, so the centre of the top left pixel is (0, 0),
its corner is (-0.5, -0.5), and a picture of width w is mirrored by x -> w - 1 - x. That is how COCO stores joints and
how OpenCV's warpAffine reads a matrix. A plain resize by a factor f is
therefore x -> (x + 0.5) f - 0.5 (`Warp.resize`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.poses import Poses


@dataclass(frozen=True, eq=False)
class Warp:
    """An affine map from image pixels to input pixels.

    matrix: (2, 3) float64, applied to (x, y, 1). size: (width, height) of the input picture in pixels.
    Raises `ValueError` for a singular or misshapen matrix.
    """

    matrix: NDArray[np.float64]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, np.float64)
        if matrix.shape != (2, 3):
            raise ValueError(f"a warp needs a (2, 3) matrix, got {matrix.shape}")
        if abs(np.linalg.det(matrix[:, :2])) < 1e-12:
            raise ValueError(f"this warp cannot be undone: {matrix.tolist()}")
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def resize(cls, image_size: tuple[int, int], size: tuple[int, int]) -> Warp:
        """Stretch a picture of `image_size` (w, h) to `size` (w, h), corner to corner."""
        f = np.divide(size, image_size)
        return cls(np.array([[f[0], 0, f[0] / 2 - 0.5], [0, f[1], f[1] / 2 - 0.5]]), size)

    @classmethod
    def around(
        cls,
        centre: tuple[float, float],
        zoom: tuple[float, float] | float,
        size: tuple[int, int],
        rotation: float = 0.0,
        target: tuple[float, float] | None = None,
    ) -> Warp:
        """Zoom about `centre` (image pixels), turn by `-rotation` degrees (y down), put it at `target` (input pixels).

        `target` is (width / 2, height / 2) by default, the convention of the HRNet family.
        """
        zx, zy = (zoom, zoom) if isinstance(zoom, (int, float)) else zoom
        c, s = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
        linear = np.array([[c, s], [-s, c]]) @ np.diag([zx, zy])
        goal = np.array(target if target is not None else (size[0] / 2, size[1] / 2))
        return cls(np.hstack([linear, (goal - linear @ np.asarray(centre, float))[:, None]]), size)

    def __call__(self, xy: NDArray) -> NDArray[np.float32]:
        """Image pixels (..., 2) -> input pixels (..., 2)."""
        return (np.asarray(xy, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]).astype(np.float32)

    def back(self, xy: NDArray) -> NDArray[np.float32]:
        """Input pixels (..., 2) -> image pixels (..., 2)."""
        return self.inverse(xy)

    @property
    def inverse(self) -> Warp:
        """The map from input pixels back to image pixels."""
        return Warp(np.asarray(cv2.invertAffineTransform(self.matrix), np.float64), self.size)

    @property
    def zoom(self) -> float:
        """Input pixels per image pixel (geometric mean of both axes)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def then(self, other: Warp) -> Warp:
        """This map followed by `other`."""
        full = np.vstack([self.matrix, [0, 0, 1]])
        return Warp(other.matrix @ full, other.size)

    def mirrored(self) -> Warp:
        """This map followed by a mirror of the input picture."""
        w = self.size[0]
        return self.then(Warp(np.array([[-1.0, 0, w - 1], [0, 1, 0]]), self.size))

    def apply(self, image: NDArray, border: int = 0, nearest: bool = False) -> NDArray:
        """Warp a picture (h, w) or (h, w, c) to (height, width[, c]); bilinear, constant `border` outside."""
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        value = (border,) * 4
        return cv2.warpAffine(image, self.matrix, self.size, None, how, cv2.BORDER_CONSTANT, value)

    def poses(self, poses: Poses) -> Poses:
        """The same people in input pixels (boxes become the boxes around their warped corners)."""
        boxes = None
        if poses.boxes is not None:
            corners = self(poses.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
            boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        return Poses(self(poses.xy), poses.scores, poses.skeleton, poses.person_scores, poses.ids, boxes)
