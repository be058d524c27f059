"""Codecs turn a picture into a batch and maps back into poses. numpy and OpenCV only: this runs on the edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.poses import Poses
from edgepose.skeleton import Skeleton
from edgepose.warp import Warp

Image = NDArray[np.uint8]  # (height, width, 3), RGB
Batch = NDArray[np.float32]  # (n, 3, height, width), normalised
Maps = list[NDArray[np.float32]]  # one (n, channels, height, width) per supervised scale or stack, finest last
Targets = dict[str, NDArray[Any]]  # what a loss reads
Run = Callable[[Batch], Maps]  # an engine is a function

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB, of [0, 1] values
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Codec(Protocol):
    """How one kind of network reads pictures and writes poses. `TopDown` and `BottomUp` are its two frozen dataclasses.

    encode: picture -> batches (one per test scale) and warps (`len(batch)` per batch, image -> input pixels).
    targets: truth in input pixels -> arrays for the losses, at the map sizes of an input of `size` (w, h).
    decode: the maps of every batch, with the warps that `encode` gave -> people in image pixels.
    """

    @property
    def skeleton(self) -> Skeleton: ...

    def encode(self, image: Image, boxes: NDArray | None = None) -> tuple[list[Batch], list[list[Warp]]]: ...

    def targets(self, truth: Poses, size: tuple[int, int]) -> Targets: ...

    def decode(self, maps: Sequence[Maps], warps: Sequence[Sequence[Warp]]) -> Poses: ...


RGB = tuple[float, float, float]


def normalise(images: NDArray[np.uint8], mean: RGB | NDArray = MEAN, std: RGB | NDArray = STD) -> Batch:
    """uint8 RGB pictures (h, w, 3) or (n, h, w, 3) -> (n, 3, h, w) float32, less `mean` and over `std` (of [0, 1])."""
    if images.ndim == 3:
        images = images[None]
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for n in range(len(images)):
        for c in range(3):
            np.multiply(images[n, :, :, c], scale[c], out=out[n, c])
            out[n, c] += shift[c]
    return out
