"""Poses: all people of one image, as arrays. Truth and prediction are the same type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Pose:
    """One person: `xy (J, 2)` in image pixels, `scores (J,)`, one `score`; `pose["left_wrist"]` is (x, y)."""

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    score: float
    id: int | None = None
    box: NDArray[np.float32] | None = None

    def __getitem__(self, joint: str) -> NDArray[np.float32]:
        if joint not in self.skeleton.index:
            raise KeyError(f"{self.skeleton.name} has no joint {joint!r}: {', '.join(self.skeleton.joints)}")
        return self.xy[self.skeleton.index[joint]]


@dataclass(frozen=True, eq=False)
class Poses:
    """All people of one image.

    xy: (N, J, 2) float32, image pixels; integer coordinates are pixel centres (see warp.py).
    scores: (N, J) float32; 0 means the joint is missing (prediction) or not labelled (truth).
    skeleton: names the J joints.
    person_scores: (N,) float32, default the mean of `scores` over all J joints.
    ids: (N,) int64 track ids, or None. boxes: (N, 4) float32 x0, y0, x1, y1 in image pixels, or None.
    Raises `ValueError` when the shapes disagree.
    """

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    person_scores: NDArray[np.float32] | None = None
    ids: NDArray[np.int64] | None = None
    boxes: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        j = len(self.skeleton)
        xy = np.asarray(self.xy, np.float32).reshape(-1, j, 2) if np.size(self.xy) == 0 else self.xy
        xy = np.asarray(xy, np.float32)
        if xy.ndim != 3 or xy.shape[1:] != (j, 2):
            raise ValueError(f"xy must have shape (people, {j}, 2) for {self.skeleton.name}, got {xy.shape}")
        scores = np.asarray(self.scores, np.float32).reshape(len(xy), -1) if len(xy) else np.zeros((0, j), np.float32)
        if scores.shape != (len(xy), j):
            raise ValueError(f"scores must have shape {(len(xy), j)}, got {np.shape(self.scores)}")
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "scores", scores)
        given = scores.mean(1) if self.person_scores is None else self.person_scores
        for name, value, shape, kind in (
            ("person_scores", given, (len(xy),), np.float32),
            ("ids", self.ids, (len(xy),), np.int64),
            ("boxes", self.boxes, (len(xy), 4), np.float32),
        ):
            if value is None:
                continue
            array = np.asarray(value, kind)
            if array.shape != shape and not (array.size == 0 and len(xy) == 0):
                raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
            object.__setattr__(self, name, array.reshape(shape))

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Poses:
        """No people."""
        return cls(np.zeros((0, len(skeleton), 2), np.float32), np.zeros((0, len(skeleton)), np.float32), skeleton)

    def __len__(self) -> int:
        return len(self.xy)

    def __iter__(self) -> Iterator[Pose]:
        return (self.pose(i) for i in range(len(self)))

    def __getitem__(self, rows: Any) -> Poses:
        """The people at `rows` (slice, mask or index array), as `Poses`; an int gives a `Poses` of one."""
        rows = [rows] if isinstance(rows, (int, np.integer)) else rows
        pick = lambda a: None if a is None else a[rows]  # noqa: E731
        parts = (self.person_scores, self.ids, self.boxes)
        return Poses(self.xy[rows], self.scores[rows], self.skeleton, *map(pick, parts))

    def pose(self, i: int) -> Pose:
        """Person `i`."""
        assert self.person_scores is not None
        person = None if self.ids is None else int(self.ids[i])
        box = None if self.boxes is None else self.boxes[i]
        return Pose(self.xy[i], self.scores[i], self.skeleton, float(self.person_scores[i]), person, box)

    def mirrored(self, width: float) -> Poses:
        """The same people in the mirrored picture of `width` pixels: x -> width - 1 - x, left and right swapped."""
        swap = list(self.skeleton.mirror)
        xy = self.xy[:, swap].copy()
        xy[..., 0] = width - 1 - xy[..., 0]
        boxes = None
        if self.boxes is not None:
            boxes = self.boxes.copy()
            boxes[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
        return Poses(xy, self.scores[:, swap], self.skeleton, self.person_scores, self.ids, boxes)
